// A simulated cluster whose nodes protect each other, and what its stories ask of it.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "tests/sim/sim_cluster.h"

namespace holdfast::daemon {

inline bool Holds(CoreHarness& node, const SnapshotKey& id) {
  const auto& shards = node.Records().shards;
  return std::any_of(shards.begin(), shards.end(), [&](const proto::ShardRecord& shard) {
    return KeyOf(shard.sidecar().id()) == id;
  });
}

inline std::size_t Rows(CoreHarness& node, const SnapshotKey& id) {
  const auto& rows = node.Records().rows;
  return static_cast<std::size_t>(
      std::count_if(rows.begin(), rows.end(), [&](const proto::RowRecord& row) {
        return KeyOf(row.id()) == id;
      }));
}

// Nodes n0 to n2 in one group of 2+1, n3 is a spare.
class SimGroupsTest : public ::testing::Test {
 protected:
  explicit SimGroupsTest(std::uint32_t slots = 3) : sim_({4, 3, slots, 2, 1}) {}

  explicit SimGroupsTest(const SimSize& size) : sim_(size) {}

  void TearDown() override {
    for (const std::string& violation : sim_.violations()) {
      ADD_FAILURE() << violation;
    }
    if (HasFailure()) {
      ADD_FAILURE() << sim_.log();
    }
  }

  proto::JobStatus Status() { return sim_.NodeOf(0).core()->StatusNow().jobs(0); }

  std::optional<SnapshotKey> Protected() {
    const proto::JobStatus job = Status();
    return job.has_protected_id() ? std::optional(KeyOf(job.protected_id())) : std::nullopt;
  }

  void ExpectReturned(const std::optional<SnapshotKey>& id) {
    for (Rank rank = 0; rank < sim_.on().size(); ++rank) {
      EXPECT_TRUE(sim_.Client(rank).returned) << "r" << rank;
      EXPECT_TRUE(sim_.Client(rank).told == id)
          << "r" << rank << " " << sim_.Client(rank).restore_error.value_or("");
    }
  }

  // The machine and its trainer are gone; an empty one with another uuid takes its place.
  void Lose(int node) {
    for (Rank rank = 0; rank < sim_.on().size(); ++rank) {
      if (sim_.on()[rank] == node && sim_.Client(rank).alive) {
        sim_.NodeOf(rank).Die("r" + std::to_string(rank), false);
      }
    }
    sim_.Node(node).LoseMemory();
    sim_.Pump();
  }

  // What "node" was held up in ends so, nothing of it is held any more, and all ranks load.
  void ReleaseBring(int node, const std::string& outcome) {
    sim_.Node(node).Unhold("bring");
    sim_.Node(node).FinishHeld("bring", outcome);
    sim_.Pump();
    sim_.LoadAll();
  }

  void Settle() {
    for (int i = 0; i < 4; ++i) {
      sim_.Tick(std::chrono::seconds(2));
    }
  }

  SimCluster sim_;
};

}  // namespace holdfast::daemon
