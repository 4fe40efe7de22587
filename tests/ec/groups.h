// Groups for tests, and their bytes: every byte of a shard follows from its position and offset, so
// that shards of any length cost nothing, and parity is computed for the window that is asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ec/codec.h"
#include "ec/recovery.h"
#include "ec/stripe.h"
#include "tests/ec/reference.h"

namespace holdfast::ec {

// Different uuids that "number" decides.
std::string Uuid(std::uint64_t number);

// A valid geometry of these shards.
Geometry GeometryOf(const CodeParams& code, const std::vector<ByteCount>& shard_bytes);

Stripes StripesOf(const CodeParams& code, const std::vector<ByteCount>& shard_bytes);

// Shard lengths for n positions that are as unequal as can be: full ones, an empty one, one byte,
// one more and one less than a segment, a tenth; "turn" says which position gets which.
std::vector<ByteCount> UnequalShards(std::uint32_t n, std::uint32_t k, std::uint32_t turn);

// All members but "lost", in this order.
std::vector<Holder> HoldersWithout(std::uint32_t n, std::span<const std::uint32_t> lost);

class GroupBytes {
 public:
  explicit GroupBytes(const Stripes& stripes);

  // [begin, begin + length) of vector "index" of "stripe", cut where the vector ends.  Parity comes
  // from the slow reference.
  [[nodiscard]] Bytes Window(std::uint32_t stripe,
                             std::uint32_t index,
                             ByteCount begin,
                             ByteCount length) const;

  // That "piece" is a plan that can be carried out with the holders, and that what it decodes is
  // right at its ends and at the ends of its sources.
  void ExpectRebuilds(const RebuildPiece& piece, std::span<const Holder> holders) const;

 private:
  [[nodiscard]] Bytes ShardBytes(std::uint32_t position, ByteCount offset, ByteCount length) const;
  void ExpectSources(const RebuildPiece& piece, std::span<const Holder> holders) const;
  void ExpectWindow(const RebuildPiece& piece,
                    const Decoder& decoder,
                    ByteCount begin,
                    ByteCount length) const;

  Stripes stripes_;
  Codec codec_;
};

}  // namespace holdfast::ec
