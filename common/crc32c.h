// CRC32C (Castagnoli) of byte ranges: the digest of every chunk that Holdfast keeps.
//
// An error-detecting code, not a MAC: it finds flipped bits and torn copies, not an attacker.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "common/units.h"

namespace holdfast {

// Images are digested in chunks of this size; the last chunk of an image may be shorter.
inline constexpr ByteCount kChunkBytes = kMiB;

constexpr std::uint64_t ChunkCount(ByteCount image_bytes) {
  return (image_bytes + kChunkBytes - 1) / kChunkBytes;
}

// Starts with "crc" = 0 and feeds a range in pieces: Crc32c(Crc32c(0, a), b) digests a then b.
std::uint32_t Crc32c(std::uint32_t crc, ByteView bytes);

// One digest for each kChunkBytes of "image".
std::vector<std::uint32_t> ChunkDigests(ByteView image);

// The digest of the XOR of whole chunks, all of kChunkBytes, from their digests alone; of none:
// that of zeros.
std::uint32_t DigestOfXor(std::span<const std::uint32_t> chunk_digests);

}  // namespace holdfast
