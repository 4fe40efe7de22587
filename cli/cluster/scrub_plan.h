// What nodes hold and are to read again, cut into parts that a node reads in a moment.
//
// Each request takes the next part of every node, so that all read at the same time, progress
// moves, Ctrl-C is heard, and nothing of a scrub is left in the cluster when this program is gone.
//
// Threads: any thread; pure.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/units.h"
#include "proto/client.pb.h"

namespace holdfast::cli {

// Of one request to one node: 256 MiB.
inline constexpr std::uint64_t kScrubPartChunks = 256;

// An image or a row at one node, and what was found.
struct ScrubItem {
  std::string node;
  std::string job;
  proto::StoredKey key;
  ByteCount length = 0;
  ByteCount bytes = 0;                    // read again
  std::vector<std::uint64_t> bad_chunks;  // ascending
  std::optional<Error> error;             // why it was not read, or not to its end
  bool was_poisoned = false;              // the node had found it bad before
  bool freed = false;                     // it was gone when its turn came: neither good nor bad

  [[nodiscard]] bool ok() const { return bad_chunks.empty() && !error && !was_poisoned; }
};

class ScrubPlan {
 public:
  // "job" empty: all.  What is still being filled, and empty rows, are left out.
  ScrubPlan(const std::vector<proto::NodeAnswer>& nodes, const std::string& job);

  [[nodiscard]] ByteCount total_bytes() const { return total_bytes_; }

  // The next part of each node, of at most "most" nodes; empty: all is done.  Each is answered by
  // Take before Next is asked again.
  [[nodiscard]] proto::ScrubNodesRequest Next(std::size_t most);

  // The answer to what Next gave last.  Returns the bytes that are done by it, read or given up.
  [[nodiscard]] ByteCount Take(const proto::ScrubNodesReply& reply);

  [[nodiscard]] const std::vector<ScrubItem>& items() const { return items_; }

  // Nodes that did not answer any more, with the reason: the rest of what they hold was left out.
  [[nodiscard]] const std::map<std::string, Error>& gone() const { return gone_; }

 private:
  void Add(const std::string& node, const proto::SnapshotInfo& snapshot);
  void Push(ScrubItem item);
  [[nodiscard]] ByteCount TakeOne(std::size_t item, const proto::ScrubResult& result);
  // All that is left of a node.
  [[nodiscard]] ByteCount GiveUp(const std::string& node, const Error& error);

  std::vector<ScrubItem> items_;
  std::map<std::string, std::deque<std::size_t>> left_;  // by node: indexes of items_
  std::vector<std::size_t> asked_;
  std::string last_node_;  // Next goes on behind it, so that all nodes have their turns
  std::map<std::string, Error> gone_;
  ByteCount total_bytes_ = 0;
};

}  // namespace holdfast::cli
