// Where the segments of a group's shards and their parity lie.
//
// Each shard is cut into k segments of L bytes (the last ones may be shorter or empty: what is
// missing counts as zeros and is never sent).  There are n = k + m stripes.  Stripe s has its
// parity rows on positions s, s+1, ..., s+m-1 (mod n); each other position gives one segment, its
// next one, and the segments of a stripe are its columns by rising position.  So each shard gives
// exactly k segments, each position holds exactly m rows, and no position holds two vectors of one
// stripe: whatever is lost with a node is one vector of each stripe.
//
//   n = 5, k = 3, m = 2        P = row 0, Q = row 1, number = segment of that position's shard
//
//              position 0  position 1  position 2  position 3  position 4
//   stripe 0       P           Q           0           0           0
//   stripe 1       0           P           Q           1           1
//   stripe 2       1           0           P           Q           2
//   stripe 3       2           1           1           P           Q
//   stripe 4       Q           2           2           2           P
//
// The first owner of stripe s is position s, which has row 0.  It pulls the k segments and encodes
// all rows; the other owners pull theirs from it.  A row is as long as the longest segment of its
// stripe.  Segment t of shard i is [t*L, t*L + SegmentLength(i, t)) of its image.
//
// An index names a vector within its stripe: columns 0 to k-1, then row r as k + r (params.h).
//
// Threads:   a value; const functions from any thread.
// Errors:    Make and MapRange return them; the rest are numbers within the bounds that each names,
//            and a caller that goes beyond them has a bug (HOLDFAST_CHECK).
#pragma once

#include <cstdint>
#include <vector>

#include "common/result.h"
#include "common/units.h"
#include "ec/geometry.h"

namespace holdfast::ec {

// A range of a shard's image within one of its segments.
struct SegmentRange {
  std::uint32_t stripe = 0;
  std::uint32_t index = 0;  // the segment's column in the stripe
  ByteCount begin = 0;      // offset in the segment and so in the stripe's rows
  ByteCount length = 0;     // never 0
  ByteCount offset = 0;     // of the same bytes in the image

  bool operator==(const SegmentRange&) const = default;
};

class Stripes {
 public:
  // Validates the geometry.
  [[nodiscard]] static Result<Stripes> Make(const Geometry& geometry);

  [[nodiscard]] const CodeParams& Code() const { return code_; }

  // n: members, and stripes.
  [[nodiscard]] std::uint32_t Count() const { return code_.Members(); }

  // --- Places: stripe and position below n, segment and column below k, row below m, index below
  // n.

  [[nodiscard]] std::uint32_t RowOwner(std::uint32_t stripe, std::uint32_t row) const;

  [[nodiscard]] std::uint32_t FirstOwner(std::uint32_t stripe) const { return RowOwner(stripe, 0); }

  // The vector that "position" holds of "stripe": always exactly one.
  [[nodiscard]] std::uint32_t IndexAt(std::uint32_t stripe, std::uint32_t position) const;

  // Who holds vector "index" of "stripe".
  [[nodiscard]] std::uint32_t PositionOf(std::uint32_t stripe, std::uint32_t index) const;

  // Which segment of its shard "position" gives to "stripe"; it must not own a row there.
  [[nodiscard]] std::uint32_t SegmentOf(std::uint32_t stripe, std::uint32_t position) const;

  // The inverse: the stripe of a segment.
  [[nodiscard]] std::uint32_t StripeOf(std::uint32_t position, std::uint32_t segment) const;

  // --- Lengths

  [[nodiscard]] ByteCount ShardLength(std::uint32_t position) const;

  // L.
  [[nodiscard]] ByteCount SegmentBytes() const { return segment_bytes_; }

  // 0 to L.
  [[nodiscard]] ByteCount SegmentLength(std::uint32_t position, std::uint32_t segment) const;

  // The longest segment of the stripe: 0 to L.
  [[nodiscard]] ByteCount RowLength(std::uint32_t stripe) const;

  // Of vector "index": its segment's, or the row's.
  [[nodiscard]] ByteCount VectorLength(std::uint32_t stripe, std::uint32_t index) const;

  // --- Sums for one position

  // Memory of its m rows: at most m * L.
  [[nodiscard]] ByteCount ParityBytes(std::uint32_t position) const;

  // What it pulls to protect one snapshot: the segments of the stripe whose first owner it is, and
  // one row of each of m - 1 others: at most (k + m - 1) * L.
  [[nodiscard]] ByteCount ProtectBytesIn(std::uint32_t position) const;

  // What others pull from it meanwhile: its shard, and the rows that it made for others.
  [[nodiscard]] ByteCount ProtectBytesOut(std::uint32_t position) const;

  // --- Ranges

  // The segments of [offset, offset + length) of a shard's image, ascending; at most k, none for
  // length 0.  kInvalidArgument if the range leaves the image or there is no such position.
  [[nodiscard]] Result<std::vector<SegmentRange>> MapRange(std::uint32_t position,
                                                           ByteCount offset,
                                                           ByteCount length) const;

 private:
  explicit Stripes(const Geometry& geometry);

  CodeParams code_;
  ByteCount segment_bytes_;
  std::vector<ByteCount> shard_bytes_;
};

}  // namespace holdfast::ec
