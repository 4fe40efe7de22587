// What must hold over all nodes at every moment, beside what core_checks.cc looks at on each.
//
// Threads:   one.
// Ownership: borrows the cluster.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "tests/sim/sim_cluster.h"

namespace holdfast::daemon {

class SimChecks {
 public:
  explicit SimChecks(SimCluster* sim) : sim_(sim) {}

  // A new start of the job: its processes are alive.
  void OnLaunch();
  // The trainer is about to say that it has loaded what it was told.
  void OnLoaded(const FakeClient& client);
  void Check();

  // Two launchers took one number: ids of the two look alike, so what was complete, and where it
  // went, cannot be told from ids any more (I3, R).
  bool twins() const { return twins_; }

 private:
  using Start = std::pair<std::uint64_t, std::uint64_t>;  // number, token
  using Attempt = std::tuple<std::uint64_t, std::uint64_t, std::uint32_t>;

  void CheckEpochs();
  void CheckCoordinators();
  void CheckOutcomes();
  void CheckReturned();
  void CheckCommits();
  void OnChoice(CoreHarness* node, const proto::IncarnationRecord& record);
  void OnCommit(const proto::IncarnationRecord& record);
  // The newest complete id, where it is not what the start restores.
  std::optional<SnapshotKey> PassedOver(const proto::IncarnationRecord& record) const;
  bool CouldBeHad(CoreHarness* coordinator,
                  const proto::IncarnationRecord& record,
                  const SnapshotKey& id);
  bool HoldsIntact(CoreHarness* node, const SnapshotKey& id, Rank rank) const;
  void Violation(const std::string& what);

  SimCluster* const sim_;
  int starts_ = 0;
  bool twins_ = false;
  std::map<std::int32_t, int> start_of_pid_;
  std::map<std::string, std::uint64_t> epochs_;  // highest recorded, by node
  std::map<Attempt, std::set<Rank>> loaded_;
  std::map<Attempt, int> loaded_start_;                                       // whose bytes
  std::map<std::pair<std::uint64_t, SnapshotKey>, proto::Outcome> outcomes_;  // by token and id
  std::set<Attempt> decided_;
  std::set<Attempt> committed_;
};

}  // namespace holdfast::daemon
