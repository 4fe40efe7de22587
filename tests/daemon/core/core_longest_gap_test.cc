// Training with two slots a rank and faults at random: how many steps in a row bring no complete
// snapshot.

#include <algorithm>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/daemon/core/core_script.h"

namespace holdfast::daemon {
namespace {

// L: one bad step never stops the next.  Two slots a rank, so one to fill; a tenth of all copies
// are torn (one in eight of these still lands at the next step) or lose their connection (and seal
// a step late); one step in a hundred a rank dies, and the job starts again.
class TrainingWithFaults {
 public:
  explicit TrainingWithFaults(std::uint64_t seed) : random_(seed) {
    script_.Run("node ranks=2 slots=2");
    script_.Run("start");
    script_.harness()->CheckEachCall(false);
  }

  void Run(Step step) {
    bool fault = false;
    if (random_() % 100 == 0) {
      fault = true;
      script_.Run(random_() % 2 == 0 ? "die r0" : "die r1 worker=lives");
      script_.Run("workers_gone");
      script_.Run("start");
    }
    for (const std::string name : {"r0", "r1"}) {
      if (random_() % 8 != 0) {
        script_.Run("copies_done " + name);  // of torn copies of earlier steps
      }
      const bool has_slot = script_.harness()->Client(name).granted.has_value();
      script_.Run("begin " + name + " " + std::to_string(step));
      const auto fate = random_() % 20;
      script_.Run((fate == 0 ? "torn " : fate == 1 ? "disconnect " : "seal ") + name);
      script_.Run("resume " + name);
      fault = fault || fate <= 1 || !has_slot;
    }
    if (step % 16 == 0) {
      CheckInvariants(script_.harness());
    }
    bool newer = false;
    for (const auto& outcome : script_.harness()->Records().outcomes) {
      if (outcome.outcome() == proto::COMPLETE && KeyOf(outcome.id()) > newest_) {
        newest_ = KeyOf(outcome.id());
        newer = true;
      }
    }
    gap_ = newer ? 0 : gap_ + 1;
    clean_gap_ = newer || fault ? 0 : clean_gap_ + 1;
    longest_ = std::max(longest_, gap_);
    longest_clean_ = std::max(longest_clean_, clean_gap_);
    script_.TakeLog();
  }

  std::vector<std::string> TakeFailures() { return script_.TakeFailures(); }

  int longest() const { return longest_; }

  int longest_clean() const { return longest_clean_; }

 private:
  std::mt19937_64 random_;
  CoreScript script_;
  SnapshotKey newest_;
  int gap_ = 0;
  int clean_gap_ = 0;
  int longest_ = 0;
  int longest_clean_ = 0;
};

TEST(CoreLongestGapTest, OneBadStepNeverStopsTheNext) {
  TrainingWithFaults training(7);
  for (Step step = 1; step <= 10000; ++step) {
    training.Run(step);
    ASSERT_THAT(training.TakeFailures(), ::testing::IsEmpty()) << "step " << step;
  }
  std::cout << "longest gap: " << training.longest() << " steps; of steps in which nothing went "
            << "wrong: " << training.longest_clean() << "\n";
  constexpr int kAFewSteps = 8;
  EXPECT_LE(training.longest(), kAFewSteps);
  EXPECT_LE(training.longest_clean(), 0);
}

}  // namespace
}  // namespace holdfast::daemon
