// Which nodes hold a group's shards and parity, by which code and in which lengths: all that is
// needed to find and to decode any byte of the group.
//
// A geometry is for one code set, the shards of one local rank on the nodes of a group.  It is kept
// in the group record and beside every shard, and never changes: a group that changes gets a new
// one with a higher version.  Everything in ec/ that takes a geometry takes a validated one, so
// that lengths and counts from a socket or a catalog are bounded before anything is computed with
// them.
//
// Threads:   value types; any thread.
// Errors:    kInvalidArgument names the field and its bounds; kVersionMismatch for a matrix that
//            this build does not know.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/units.h"
#include "ec/params.h"

namespace holdfast::ec {

inline constexpr std::size_t kNodeUuidBytes = 16;
// Segments begin at multiples of this, as the chunks of an image do that have a digest each.
inline constexpr ByteCount kSegmentAlignment = kMiB;
// 16 TiB: sums over a group stay far below 2^64.
inline constexpr ByteCount kMaxShardBytes = ByteCount{1} << 44;

struct Geometry {
  std::uint32_t version = 0;           // from 1, raised when the group changes
  std::vector<std::string> members;    // node uuids, 16 raw bytes each, in order of position
  CodeParams code;                     // k + m members
  ByteCount segment_bytes = 0;         // L
  std::vector<ByteCount> shard_bytes;  // length of each position's image; 0: it has no such rank

  bool operator==(const Geometry&) const = default;
};

// L: the longest of the shards divided by k, rounded up to kSegmentAlignment; 0 if all are empty.
// Lengths must be at most kMaxShardBytes and k at least 1.
[[nodiscard]] ByteCount SegmentBytes(std::span<const ByteCount> shard_bytes, std::uint32_t k);

// Every field and their agreement: uuids whole and different, one length for each member, k + m
// members, the L that SegmentBytes gives.
[[nodiscard]] Status ValidateGeometry(const Geometry& geometry);

// The geometry of these members; "members" and "shard_bytes" in order of position.
[[nodiscard]] Result<Geometry> MakeGeometry(std::uint32_t version,
                                            std::vector<std::string> members,
                                            const CodeParams& code,
                                            std::vector<ByteCount> shard_bytes);

}  // namespace holdfast::ec
