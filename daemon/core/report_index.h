// What the newest reports of all members say together of each id, kept as each of them comes.
//
// A job of thousands of nodes cannot have all reports looked over for each that comes: here a
// report costs what it changed.  What is counted is always that of the reports as they are (nothing
// is remembered that they do not show), so a lost or late one does no harm.
//
// Threads:   io thread only.
// Ownership: owns what it counts; borrows the view, which outlives it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/core/ids.h"
#include "daemon/core/messages.h"

namespace holdfast::daemon {

class ReportIndex {
 public:
  // Who serves whom, and who protects whom.  After any change of it: Rebuild.
  struct View {
    const std::map<std::string, std::vector<Rank>>& ranks_of;  // of each node, rising; empty: each
                                                               // node serves what it has
    const std::vector<GroupView>& groups;
    const std::map<std::string, std::size_t>& group_of;  // index in groups, by node
    const std::uint32_t& group_version;
    std::uint64_t epoch = 0;  // incarnation that the groups are of
  };

  // One rank's shard of an id: on how many nodes it is in which state.
  struct Holding {
    std::uint32_t sealed = 0;
    std::uint32_t poisoned = 0;
    std::uint32_t filling = 0;

    [[nodiscard]] ShardEntry::State State() const {
      return sealed > 0     ? ShardEntry::State::kSealed
             : poisoned > 0 ? ShardEntry::State::kPoisoned
                            : ShardEntry::State::kFilling;
    }

    friend bool operator==(const Holding&, const Holding&) = default;
  };

  // An id as one start took it.
  struct Taken {
    std::map<Rank, Holding> held;  // ranks whose shard any node has, never empty
    std::size_t sealed = 0;        // of them, with a sealed one
    // Ranks whose sealed shard lies on the node that serves them; of these, of known length.  They
    // mean something only where ranks_of is not empty.
    std::size_t at_servers = 0;
    std::size_t measured = 0;
    // Members of groups that have their shards, all their rows, and the sidecars of all that they
    // may have to help decode.
    std::size_t whole_nodes = 0;
    std::map<std::size_t, std::size_t> whole;  // by group; none: 0

    friend bool operator==(const Taken&, const Taken&) = default;
  };

  using ByToken = std::map<std::uint64_t, Taken>;

  // An id of which a node's part changed.
  struct Touched {
    SnapshotKey id;
    std::uint64_t token = 0;
    bool shrunk = false;  // the node had something of it that it has no more
  };

  explicit ReportIndex(View view);

  // In place of the node's last one.
  std::vector<Touched> Put(const Report& report);
  // The node's report counts no more.
  void Erase(const std::string& node);
  // All of them anew.
  void Rebuild(const std::map<std::string, Report>& reports);

  // Ids of which any shard is held, by the start that took them.
  [[nodiscard]] const std::map<SnapshotKey, ByToken>& ids() const { return ids_; }

  // I8: where two starts took one number, without a shared tier, their ids look alike.  Only the
  // shards of one of them may count together: of the one that has shards of more ranks.  Nothing
  // where no shard of the id is held.
  [[nodiscard]] std::optional<std::uint64_t> StartOf(const SnapshotKey& id) const;
  // Of that start; null where no shard of the id is held.
  [[nodiscard]] const Taken* Find(const SnapshotKey& id) const;

 private:
  struct Entry {
    Rank rank = 0;
    ShardEntry::State state = ShardEntry::State::kFilling;
    bool at_server = false;  // sealed, on the node that serves the rank
    bool measured = false;   // that, and of known length

    friend bool operator==(const Entry&, const Entry&) = default;
  };

  // What one node has of one id.
  struct Part {
    std::vector<Entry> entries;           // by rank
    std::optional<std::size_t> whole_in;  // the group of which it is a whole member

    friend bool operator==(const Part&, const Part&) = default;
  };

  using Parts = std::map<std::pair<SnapshotKey, std::uint64_t>, Part>;

  void ListRanks();
  [[nodiscard]] Parts PartsOf(const Report& report) const;
  // "own": the ranks that the report's node serves, a member of that group.
  [[nodiscard]] bool IsWhole(const Report& report,
                             const SnapshotKey& id,
                             std::uint64_t token,
                             const Part& part,
                             const std::vector<Rank>& own,
                             std::size_t group) const;
  // Whether a sealed shard at its server, or the place as a whole member, is gone.
  static bool HasLess(const Part& now, const Part& before);
  void Count(const SnapshotKey& id, std::uint64_t token, const Part& part, bool add);

  const View view_;
  std::vector<std::vector<Rank>> ranks_of_group_;  // rising
  std::vector<std::size_t> local_ranks_;           // of each group: of the node that has most
  std::map<std::string, Parts> parts_;             // by node
  std::map<SnapshotKey, ByToken> ids_;
};

}  // namespace holdfast::daemon
