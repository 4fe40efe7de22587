#include "common/crc32c.h"

#include <algorithm>

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

}  // namespace holdfast
