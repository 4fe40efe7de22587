// Which nodes protect each other.
//
// The nodes of a job are split into groups of about n = k + m.  A code set is the shards of one
// local rank on the nodes of a group, so groups are made of nodes, whatever ranks they have.
//
//   how many    g = ceil(N / n), lowered while a group would have fewer than m + 2 members; sizes
//               differ by at most one.  A group of n_g members has m_g = min(m, n_g - 1) parity
//               rows and k_g = n_g - m_g segments: two nodes mirror each other, one node has no
//               peers.
//   who         first nodes with equal shards (the same pipeline stage), because segments are as
//               long as the longest shard of the group makes them; then spread over failure
//               domains. A group with more than m_g members in one domain does not survive the loss
//               of that domain: it is named as not covered.
//
// Shards count as equal if their lengths differ by at most 1/32 of the longer one: image headers
// differ by a few bytes, and a group of such nodes wastes no more than that.  Beyond 256 different
// lengths the shortest ones count as equal.
//
// The result depends on the set of nodes only, not on their order.  2,048 nodes take milliseconds.
//
// Threads:   pure functions; any thread.
// Errors:    kInvalidArgument names the node or the option.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/units.h"

namespace holdfast::ec {

inline constexpr std::size_t kMaxNodes = 16384;
inline constexpr std::size_t kMaxLocalRanks = 256;

struct Node {
  std::string uuid;                    // 16 raw bytes
  std::vector<ByteCount> shard_bytes;  // image length by local rank; missing ones are empty shards
  std::string failure_domain;          // rack, switch, ...; "": not known, so a domain of its own
};

struct GroupingOptions {
  std::uint32_t data = 8;    // k that is wished for; from 1
  std::uint32_t parity = 2;  // m, from 1
};

struct Group {
  std::vector<std::uint32_t> members;  // indices of the nodes given, in order of position
  std::uint32_t data = 0;              // k_g
  std::uint32_t parity = 0;  // m_g; 0: the only member has no peers and is never protected
  bool reduced = false;      // m_g is below the m that is wished for
  std::vector<std::string> uncovered_domains;  // those with more than m_g members here, sorted

  [[nodiscard]] bool HasPeers() const { return parity > 0; }
};

// Every node is in exactly one group.  Members are ordered by uuid, groups by their first member's.
// Options as CodeParams allows them (params.h), at most kMaxNodes nodes with different uuids, at
// most kMaxLocalRanks ranks of at most kMaxShardBytes (geometry.h) each.
[[nodiscard]] Result<std::vector<Group>> MakeGroups(std::span<const Node> nodes,
                                                    const GroupingOptions& options);

// The lengths of one code set, by position: what MakeGeometry takes.  0 for a rank that a node does
// not have.
[[nodiscard]] std::vector<ByteCount> ShardBytesOf(std::span<const Node> nodes,
                                                  const Group& group,
                                                  std::uint32_t local_rank);

}  // namespace holdfast::ec
