// A start of the job over three nodes, in which one daemon dies at every point in turn: before and
// after each durable write, and after each message that left.  All ranks get the snapshot back, and
// train on (L, I11).

#include <gtest/gtest.h>

#include "tests/sim/sim_cluster.h"
#include "tests/support/sanitized.h"

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;

constexpr SnapshotKey k11{1, 1};

struct Death {
  std::uint64_t ready = 0;  // 0: nobody dies
  CrashPoint point = CrashPoint::kNone;
  std::size_t actions = 0;
};

struct Variant {
  int node = 0;               // that dies
  bool late_clients = false;  // they come back after the peers have spoken to the new daemon
  bool second_attempt = false;
};

std::string TextOf(const Death& death) {
  return "dies at its Ready " + std::to_string(death.ready) +
         (death.point == CrashPoint::kBeforeSync
              ? " before the sync"
              : " after the sync and " + std::to_string(death.actions) + " actions");
}

class CrashPlay {
 public:
  explicit CrashPlay(const Variant& variant, const Death& death = {})
      : variant_(variant), death_(death) {
    sim_.Start({0, 1, 2});
    sim_.Step(1);
    first_ = Node().readies() + 1;
    if (death.ready != 0) {
      Node().DieOnceAtReady(death.ready, death.point, death.actions);
    }
    sim_.Open({0, 1, 2});
    if (variant.late_clients) {
      Node().ClientsComeLate();
    }
    sim_.Restore({});
    if (variant.second_attempt) {
      sim_.NodeOf(2).Loaded("r2", true);
      sim_.Pump();
    }
    for (int i = 0; i < kTicks; ++i) {
      Node().ClientsComeBack();
      sim_.Pump();
      sim_.LoadAll();
      sim_.Tick(seconds(2));
    }
    last_ = Node().readies();
    sim_.Step(2);
    sim_.Tick(seconds(2));
  }

  // Of the node that dies, from the start of incarnation 2 until its restore is over.
  std::uint64_t first() const { return first_; }

  std::uint64_t last() const { return last_; }

  void Check() {
    for (const std::string& violation : sim_.violations()) {
      ADD_FAILURE() << violation;
    }
    for (Rank rank = 0; rank < 3; ++rank) {
      EXPECT_TRUE(sim_.Client(rank).returned) << "r" << rank;
      EXPECT_TRUE(sim_.Client(rank).told == k11) << "r" << rank;
    }
    // Whoever died while it opened the incarnation opens another.
    EXPECT_EQ(sim_.Node(0).history().newest_complete.begin()->second.step, 2);
    if (::testing::Test::HasFailure()) {
      ADD_FAILURE() << TextOf(death_) << "\n" << sim_.log();
    }
  }

 private:
  // Far less than restore_wait: what is lost is repaired by repetition, not by a deadline.
  static constexpr int kTicks = 6;

  CoreHarness& Node() { return sim_.Node(variant_.node); }

  const Variant variant_;
  const Death death_;
  SimCluster sim_{{3, 3, 2}};
  std::uint64_t first_ = 0;
  std::uint64_t last_ = 0;
};

class SimCrashTest : public ::testing::TestWithParam<Variant> {};

TEST_P(SimCrashTest, ARestoreOutlivesTheDeathOfADaemonAtAnyPoint) {
  constexpr std::size_t kMostActions = 8;
  constexpr std::uint64_t kEach = UnlessSanitized(1, 4);
  CrashPlay nobody(GetParam());
  nobody.Check();
  ASSERT_GT(nobody.last(), nobody.first() + 8);
  for (std::uint64_t ready = nobody.first(); ready <= nobody.last(); ready += kEach) {
    CrashPlay(GetParam(), {ready, CrashPoint::kBeforeSync}).Check();
    for (std::size_t actions = 0; actions < kMostActions && !HasFailure(); ++actions) {
      CrashPlay(GetParam(), {ready, CrashPoint::kAfterSync, actions}).Check();
    }
    ASSERT_FALSE(HasFailure());
  }
}

std::string NameOf(const ::testing::TestParamInfo<Variant>& variant) {
  return std::string(variant.param.node == 0 ? "Coordinator" : "Member") +
         (variant.param.late_clients ? "LateClients" : "") +
         (variant.param.second_attempt ? "SecondAttempt" : "");
}

INSTANTIATE_TEST_SUITE_P(Variants,
                         SimCrashTest,
                         ::testing::Values(Variant{0, false, false},
                                           Variant{0, true, false},
                                           Variant{0, false, true},
                                           Variant{0, true, true},
                                           Variant{1, false, false},
                                           Variant{1, true, false},
                                           Variant{1, false, true},
                                           Variant{1, true, true}),
                         NameOf);

}  // namespace
}  // namespace holdfast::daemon
