// Which reads bring back a range that is lost.
//
// The caller says what is there, in the order in which it would rather read; of each stripe the
// first k that have something are taken, the others are spare: for a read that turns out slow.  A
// source that turns out bad is left out by planning again.  What is known to be zero (the
// range lies beyond a segment's end, also of a lost shard) counts as a source and is never read, so
// groups of unequal shards survive more than m losses in places.
//
// One piece is one range of one stripe: read its sources, hand them to the decoder of its indices
// (codec.h) window by window, and write the result to "offset" of the shard's image or of the row.
//
// Threads:   pure functions; any thread.
// Errors:    kInvalidArgument for positions, ranges and repeated holders; kUnavailable if fewer
// than
//            k vectors of a stripe are there, naming the stripe: a member that comes back, or
//            another tier, may help.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/result.h"
#include "common/units.h"
#include "ec/stripe.h"

namespace holdfast::ec {

// A member that can be read from.
struct Holder {
  std::uint32_t position = 0;
  bool shard = true;   // its shard is there, whole
  bool parity = true;  // its rows are there, all of them
};

// A range of one vector to read.
struct SourceRange {
  std::uint32_t index = 0;     // of the vector in its stripe
  std::uint32_t position = 0;  // who holds it
  ByteCount offset = 0;        // in the image of that position's shard, or in that row
  ByteCount length = 0;        // less than the piece's where the segment ends; 0: zeros, no read
};

struct RebuildPiece {
  std::uint32_t stripe = 0;
  std::uint32_t index = 0;  // of the lost vector
  ByteCount begin = 0;      // in the vector
  ByteCount length = 0;     // of the lost range and of the window to decode
  ByteCount offset = 0;     // of the same bytes in the image of the lost shard, or in the row
  std::vector<SourceRange> sources;  // exactly k, by rising index
  std::vector<SourceRange> spare;    // what else is there, in the order of the holders

  // Their indices, for Codec::MakeDecoder: pieces with the same ones can share a decoder.
  [[nodiscard]] std::vector<std::uint32_t> SourceIndices() const;
};

// [offset, offset + length) of the image of the shard at "position", which is not read itself
// whatever "holders" says of it.  At most k pieces, ascending.
[[nodiscard]] Result<std::vector<RebuildPiece>> PlanShard(const Stripes& stripes,
                                                          std::uint32_t position,
                                                          ByteCount offset,
                                                          ByteCount length,
                                                          std::span<const Holder> holders);

// [begin, begin + length) of a parity row, which is not read itself.
[[nodiscard]] Result<RebuildPiece> PlanRow(const Stripes& stripes,
                                           std::uint32_t stripe,
                                           std::uint32_t row,
                                           ByteCount begin,
                                           ByteCount length,
                                           std::span<const Holder> holders);

}  // namespace holdfast::ec
