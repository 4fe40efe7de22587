// Parity takes the network over a part of the interval, and only where that costs no protection
// (docs/peers.md).

#include "daemon/parity/parity_pace.h"

#include <chrono>
#include <string>

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr ByteCount kShare = 8 * kGiB;

class ParityPaceTest : public ::testing::Test {
 protected:
  // The parity of one id, made in "takes", whose next comes "interval" after it.
  void Protect(ParityPace* pace, Step step, milliseconds interval, milliseconds takes) {
    pace->OnRow("job", {incarnation_, step}, kShare, now_);
    rate_ = pace->Rate();
    pace->OnRowEnded("job", now_ + takes);
    now_ += interval;
  }

  std::uint64_t incarnation_ = 1;
  MonotonicTime now_{seconds(1'000)};
  ByteCount rate_ = 0;
};

TEST_F(ParityPaceTest, TakesItsPartOfTheInterval) {
  ParityPace pace({50, 0});
  Protect(&pace, 1, seconds(20), seconds(1));
  EXPECT_EQ(rate_, 0U);  // nobody knows yet when the next comes
  Protect(&pace, 2, seconds(20), seconds(9));
  EXPECT_EQ(rate_, kShare / 10);
  EXPECT_EQ(pace.Rate(), 0U);  // nothing is under way
}

TEST_F(ParityPaceTest, CountsAllRowsOfANode) {
  ParityPace pace({50, 0});
  Protect(&pace, 1, seconds(20), seconds(1));
  pace.OnRow("job", {1, 2}, kShare, now_);
  pace.OnRow("job", {1, 2}, kShare, now_);
  EXPECT_EQ(pace.Rate(), 2 * kShare / 10);
}

TEST_F(ParityPaceTest, TheFirstRowOfAnIdKnowsWhatTheLastIdTook) {
  ParityPace pace({50, 0});
  pace.OnRow("job", {1, 1}, kShare, now_);
  pace.OnRow("job", {1, 1}, kShare, now_);
  pace.OnRowEnded("job", now_ + seconds(1));
  pace.OnRowEnded("job", now_ + seconds(1));
  pace.OnRow("job", {1, 2}, kShare, now_ + seconds(20));
  EXPECT_EQ(pace.Rate(), 2 * kShare / 10);
}

TEST_F(ParityPaceTest, TheShortestOfTheLastIntervalsCounts) {
  ParityPace pace({50, 0});
  Protect(&pace, 1, seconds(20), seconds(1));
  Protect(&pace, 2, seconds(300), seconds(1));  // training evaluated itself
  Protect(&pace, 3, seconds(20), seconds(1));
  EXPECT_EQ(rate_, kShare / 10);
}

TEST_F(ParityPaceTest, IsNeverSlowerThanItsBounds) {
  ParityPace pace({50, 0});
  Protect(&pace, 1, seconds(3'000), seconds(1));
  Protect(&pace, 2, seconds(3'000), seconds(1));
  EXPECT_EQ(rate_, kShare / 30);
  pace.OnRow("small", {1, 1}, kMiB, now_);
  pace.OnRowEnded("small", now_ + seconds(1));
  pace.OnRow("small", {1, 2}, kMiB, now_ + seconds(10));
  EXPECT_EQ(pace.Rate(), ParityPace::kLeastRate);
}

// I3: what a restart has to make good, and a job that would skip snapshots, are not slowed down.
TEST_F(ParityPaceTest, SlowsNothingThatIsMissed) {
  ParityPace pace({50, 0});
  Protect(&pace, 1, seconds(20), seconds(1));
  Protect(&pace, 2, seconds(20), seconds(19));
  Protect(&pace, 3, seconds(20), seconds(1));
  EXPECT_EQ(rate_, 0U) << "parity of step 2 was whole just before step 3 came";
  Protect(&pace, 4, seconds(20), seconds(1));
  EXPECT_EQ(rate_, kShare / 10);
  ++incarnation_;
  Protect(&pace, 5, seconds(20), seconds(1));
  EXPECT_EQ(rate_, 0U);
  incarnation_ = 1;  // the base of a start is older than what it takes itself
  Protect(&pace, 4, seconds(20), seconds(1));
  EXPECT_EQ(rate_, 0U);
}

TEST_F(ParityPaceTest, AnIdWhoseRowsWereNotDoneLags) {
  ParityPace pace({50, 0});
  pace.OnRow("job", {1, 1}, kShare, now_);
  pace.OnRow("job", {1, 2}, kShare, now_ + seconds(20));
  EXPECT_EQ(pace.Rate(), 0U);
}

TEST_F(ParityPaceTest, JobsShareWhatANodeMayTake) {
  ParityPace pace({50, kGiB});
  Protect(&pace, 1, seconds(20), seconds(1));
  EXPECT_EQ(rate_, kGiB);
  pace.OnRow("job", {1, 2}, kShare, now_);
  EXPECT_EQ(pace.Rate(), kShare / 10);
  pace.OnRow("other", {1, 1}, kShare, now_);
  EXPECT_EQ(pace.Rate(), kGiB) << "one of them has no limit of its own";
  pace.OnRowEnded("other", now_ + seconds(1));
  EXPECT_EQ(pace.Rate(), kShare / 10);
  pace.OnRow("other", {1, 2}, kShare, now_ + seconds(20));
  EXPECT_EQ(pace.Rate(), kGiB);
}

TEST_F(ParityPaceTest, OffMeansAtOnce) {
  ParityPace pace({0, 0});
  Protect(&pace, 1, seconds(20), seconds(1));
  Protect(&pace, 2, seconds(20), seconds(1));
  EXPECT_EQ(rate_, 0U);
}

}  // namespace
}  // namespace holdfast::daemon
