// One image of the shards of one local rank on the nodes of a group, with the code that protects
// it.
//
// Dynamic images and static ones have sets of their own: the latter are encoded once, and their
// rows serve every snapshot that shares them.
//
// A set is complete in itself: who holds what, in which lengths, by which code.  It is kept beside
// every parity row, so that whoever starts the job next, on whatever nodes, can decode by the set
// that an id was protected with.
//
// A group's position p holds row r of stripe (p - r) mod n, for each r below m (ec/stripe.h): on
// its node a row is named by r alone.
//
// Threads:   value types; any thread.
// Errors:    FromProto: kInvalidArgument or kVersionMismatch, for what came from a peer or a
//            catalog.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "daemon/core/ids.h"
#include "ec/geometry.h"
#include "ec/stripe.h"
#include "proto/catalog.pb.h"

namespace holdfast::daemon {

// Whose rows they are: the groups of an incarnation, which its coordinator counts.
struct GroupsName {
  std::uint64_t epoch = 0;    // the incarnation
  std::uint32_t version = 0;  // within it

  bool operator==(const GroupsName&) const = default;
};

struct CodeSet {
  std::uint32_t local_rank = 0;  // of each member's ranks, by rising rank
  std::uint64_t epoch = 0;       // incarnation whose coordinator made it
  ec::Geometry geometry;         // its version counts within that incarnation
  std::vector<Rank> ranks;       // by position; counts where geometry.shard_bytes is not 0
  proto::ImageKind kind = proto::DYNAMIC;  // what geometry.shard_bytes are of
  // Of DYNAMIC, by position: of the shard's static image; empty: no shard has one.
  std::vector<ByteCount> static_bytes;

  [[nodiscard]] bool HasShard(std::uint32_t position) const {
    return geometry.shard_bytes[position] != 0;
  }

  [[nodiscard]] bool SharesStatic(std::uint32_t position) const {
    return !static_bytes.empty() && static_bytes[position] != 0;
  }

  [[nodiscard]] std::uint32_t Count() const {
    return static_cast<std::uint32_t>(geometry.members.size());
  }

  [[nodiscard]] GroupsName Groups() const { return {epoch, geometry.version}; }

  [[nodiscard]] std::optional<std::uint32_t> PositionOfNode(const std::string& uuid) const;
  [[nodiscard]] std::optional<std::uint32_t> PositionOfRank(Rank rank) const;

  // The stripe of which "position" has row "row".
  [[nodiscard]] std::uint32_t StripeOfRow(std::uint32_t position, std::uint32_t row) const {
    return (position + Count() - row) % Count();
  }

  bool operator==(const CodeSet&) const = default;
};

// The set of the static images that the shards of "dynamic" have; nothing where none has one.
[[nodiscard]] std::optional<CodeSet> StaticSetOf(const CodeSet& dynamic);

// The image of a shard that a set of "kind" is of; null: it has none.
[[nodiscard]] const proto::ImageDigest* ImageOf(const proto::Sidecar& sidecar,
                                                proto::ImageKind kind);

// By length and digests, whichever snapshots own them.
[[nodiscard]] bool HaveSameBytes(const proto::ImageDigest& a, const proto::ImageDigest& b);

// Whether rows of the one are rows of the other: same nodes, ranks, lengths and code, whichever
// start made them.
[[nodiscard]] bool IsSameCode(const CodeSet& a, const CodeSet& b);

// Which vectors of a set are there.
struct CodeHolder {
  std::string shard_node;  // has the position's shard; empty: lost, or there is none
  // That the position's node has, with the name that they have there: a node that has not heard of
  // the newest groups has rows of the same code under older ones.
  std::map<std::uint32_t, GroupsName> rows;

  bool operator==(const CodeHolder&) const = default;
};

// A set, and what is left of it.
struct HeldSet {
  CodeSet set;
  std::vector<CodeHolder> holders;  // by position, one for each

  bool operator==(const HeldSet&) const = default;
};

// Whether each segment of the shard at "position" can be decoded: k vectors of its stripe are
// there.  What lies beyond a shard's end is known to be zero and counts.
[[nodiscard]] bool IsDecodable(const HeldSet& held, std::uint32_t position);

[[nodiscard]] proto::CodeSetRecord ToProto(const CodeSet& set);
// Validated: all of ec/ may be used on it.
[[nodiscard]] Result<CodeSet> FromProto(const proto::CodeSetRecord& record);

}  // namespace holdfast::daemon
