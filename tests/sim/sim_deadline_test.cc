// A restore whose time is over ends on all ranks, with what was missing and where it was last seen,
// and takes nothing away from the next one (I11, I3, L).

#include <gmock/gmock.h>

#include "tests/sim/groups_fixture.h"

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr SnapshotKey k11{1, 1};

class SimDeadlineTest : public SimGroupsTest {
 protected:
  // Step 1 is protected, the node of rank 2 is lost, and its replacement cannot bring the shard.
  void LoseAndHold() {
    sim_.Start({0, 1, 2});
    sim_.Step(1);
    Settle();
    ASSERT_TRUE(Protected() == k11);
    Lose(2);
    sim_.Open({0, 1, 3});
    sim_.Node(3).Hold("bring");
  }

  void Ask(std::uint64_t timeout_ms) {
    for (Rank rank = 0; rank < 3; ++rank) {
      sim_.Client(rank).restore_timeout_ms = timeout_ms;
    }
    sim_.Restore({});
  }

  template <class Matcher>
  void ExpectErrors(const Matcher& matcher) {
    for (Rank rank = 0; rank < 3; ++rank) {
      EXPECT_THAT(sim_.Client(rank).restore_error.value_or("none"), matcher) << rank;
      EXPECT_FALSE(sim_.Client(rank).returned) << rank;
    }
  }
};

TEST_F(SimDeadlineTest, AllRanksAreToldInTimeWhatIsMissingAndTheNextStartHasIt) {
  LoseAndHold();
  Ask(20'000);
  sim_.Tick(seconds(16));
  EXPECT_FALSE(sim_.Client(0).restore_error.has_value());
  sim_.Tick(seconds(3));
  ExpectErrors(AllOf(HasSubstr("within 18 s"),
                     HasSubstr("waits for the shard of rank 2 of step 1"),
                     HasSubstr("parity"),
                     HasSubstr("pieces of it were on"),
                     HasSubstr(NodeText(sim_.Node(0).node_uuid())),
                     HasSubstr(NodeText(sim_.Node(1).node_uuid()))));
  sim_.Node(3).Unhold("bring");
  sim_.Start({0, 1, 3});
  ExpectReturned(k11);
}

TEST_F(SimDeadlineTest, WhyAttemptsFailedIsInIt) {
  LoseAndHold();
  Ask(20'000);
  ASSERT_TRUE(sim_.Node(3).FinishHeld("bring", "io"));
  sim_.Pump();
  sim_.Tick(seconds(19));
  ExpectErrors(AllOf(HasSubstr("step 1 of incarnation 1 failed: rank 2"), HasSubstr("io")));
}

TEST_F(SimDeadlineTest, WhoGivesNoTimeIsNotEnded) {
  LoseAndHold();
  Ask(0);
  sim_.Tick(seconds(3'600));
  EXPECT_FALSE(sim_.Client(0).restore_error.has_value());
  ReleaseBring(3, "ok");
  ExpectReturned(k11);
}

// The clock starts anew with each call.
TEST_F(SimDeadlineTest, WhoAsksAgainHasTheWholeTimeAgain) {
  LoseAndHold();
  Ask(20'000);
  sim_.Tick(seconds(19));
  ExpectErrors(HasSubstr("within 18 s"));
  sim_.Restore({});
  sim_.Tick(seconds(16));
  EXPECT_FALSE(sim_.Client(0).restore_error.has_value());
  sim_.Tick(seconds(3));
  ExpectErrors(HasSubstr("within 18 s"));
}

}  // namespace
}  // namespace holdfast::daemon
