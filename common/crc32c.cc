#include "common/crc32c.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <numeric>

#include <isa-l/crc.h>

namespace holdfast {

std::uint32_t Crc32c(std::uint32_t crc, ByteView bytes) {
  // ISA-L takes and gives the inner register of the CRC: the standard value is its complement.
  // It takes the length as int, so long ranges go in pieces.
  constexpr std::size_t kPiece = std::size_t{1} << 30;
  std::uint32_t state = ~crc;
  while (!bytes.empty()) {
    const std::size_t size = std::min(bytes.size(), kPiece);
    auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
    state = crc32_iscsi(data, static_cast<int>(size), state);
    bytes = bytes.subspan(size);
  }
  return ~state;
}

std::vector<std::uint32_t> ChunkDigests(ByteView image) {
  std::vector<std::uint32_t> digests;
  digests.reserve(ChunkCount(image.size()));
  while (!image.empty()) {
    const auto chunk = image.first(std::min<std::size_t>(image.size(), kChunkBytes));
    digests.push_back(Crc32c(0, chunk));
    image = image.subspan(chunk.size());
  }
  return digests;
}

// Without its constants the CRC is linear over XOR; with them, for equal lengths, crc(a ^ b) is
// crc(a) ^ crc(b) ^ crc(zeros), and of three the last cancels out.
std::uint32_t DigestOfXor(std::span<const std::uint32_t> chunk_digests) {
  static const std::uint32_t of_zeros = Crc32c(0, std::vector<std::byte>(kChunkBytes));
  const std::uint32_t start = chunk_digests.size() % 2 == 0 ? of_zeros : 0;
  return std::accumulate(
      chunk_digests.begin(), chunk_digests.end(), start, std::bit_xor<std::uint32_t>());
}

}  // namespace holdfast
