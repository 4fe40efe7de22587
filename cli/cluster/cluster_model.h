// One picture of the cluster, from what each node says of itself.
//
// Each job and each snapshot is there once, whichever nodes know of it.  Where nodes disagree, the
// one that decides for the job (it serves rank 0) is believed, then the one that has heard of the
// latest start.  What the decider says of margins may be older than the last loss; margin_seen is
// counted here, from what the nodes that answered do hold.
//
// Threads: any thread; pure.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/units.h"
#include "proto/client.pb.h"

namespace holdfast::cli {

// One rank's shard in the memory of one node.
struct Holding {
  std::string node;
  proto::ShardInfo shard;
};

// A code set of a snapshot, with the vectors of it that are there.
struct SeenSet {
  proto::CodeSetRecord set;
  std::vector<std::map<std::uint32_t, proto::HeldRow>> rows;  // by position, by row
  std::vector<bool> shards;  // by position: it can be read somewhere, or there is none to read
  std::vector<bool> whole;   // by position: its node has shard, rows, and all sidecars of the set

  [[nodiscard]] std::uint32_t Count() const { return static_cast<std::uint32_t>(rows.size()); }

  // Whether the position gives no segment to that stripe but has a row of it.
  [[nodiscard]] bool OwnsRowOf(std::uint32_t position, std::uint32_t stripe) const;
  // Of the stripe's n vectors (k segments, m rows), those that are there.
  [[nodiscard]] std::uint32_t Available(std::uint32_t stripe) const;
};

struct ClusterSnapshot {
  proto::SnapshotInfo info;                                 // without shards, rows and sidecars
  std::map<std::uint32_t, std::vector<Holding>> shards;     // by rank
  std::map<std::string, std::set<std::uint32_t>> sidecars;  // by node: ranks
  std::vector<SeenSet> sets;                     // by geometry, local rank, kind of image
  std::map<std::uint32_t, std::string> servers;  // of the present start: rank to node
  std::uint32_t margin_seen = 0;       // members that each group may still lose, by what is there
  std::vector<std::uint32_t> missing;  // ranks whose shard no node that answered can give
  std::vector<std::uint32_t> lost;     // of these: no parity and no root brings them back either

  // Where a rank's shard was, by the code sets or by who serves the rank; empty: no node that
  // answered knows.
  [[nodiscard]] std::string LastSeen(std::uint32_t rank) const;
  // Nodes that have anything of it, by uuid.
  [[nodiscard]] std::set<std::string> Nodes() const;
};

struct ClusterJob {
  proto::JobStatus status;  // of all nodes that know its latest start
  std::string decider;      // node that serves rank 0; empty: none that answered knows
  std::map<std::uint32_t, std::string> servers;  // by rank: its node, as the job says
  std::set<std::string> nodes;                   // that answered and know the job
  std::vector<std::uint32_t> missing_ranks;      // whose node did not answer, or does not serve it

  // Of a rank; empty: not known.
  [[nodiscard]] std::string ServerOf(std::uint32_t rank) const;
};

struct Cluster {
  std::vector<proto::NodeAnswer> nodes;    // by uuid
  std::vector<ClusterJob> jobs;            // by name
  std::vector<ClusterSnapshot> snapshots;  // by name, then newest first
};

// "nodes" as AskNodes gives them.
[[nodiscard]] Cluster MergeAnswers(std::vector<proto::NodeAnswer> nodes);

}  // namespace holdfast::cli
