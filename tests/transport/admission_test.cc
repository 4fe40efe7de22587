#include "transport/admission.h"

#include <optional>

#include "tests/transport/peer_fixture.h"

namespace holdfast::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class AdmissionTest : public PeerTest {
 protected:
  static Deadline In(milliseconds limit) { return std::chrono::steady_clock::now() + limit; }

  void Poll() {
    io_.restart();
    io_.poll();
  }

  Admission room_{io_.get_executor(), 10};
};

TEST_F(AdmissionTest, LargeOneIsNotOvertakenBySmallOnes) {
  ASSERT_TRUE(RunToEnd(room_.Acquire(6, In(seconds(10)))).has_value());
  std::optional<Status> large;
  std::optional<Status> small;
  Start(room_.Acquire(8, In(seconds(10))), &large);
  Start(room_.Acquire(1, In(seconds(10))), &small);
  Poll();
  EXPECT_FALSE(large.has_value());
  EXPECT_FALSE(small.has_value());
  EXPECT_EQ(room_.waiting(), 2U);
  room_.Release(6);
  ASSERT_TRUE(RunUntil([&] { return large.has_value() && small.has_value(); }));
  EXPECT_EQ(room_.held(), 9U);
}

TEST_F(AdmissionTest, WhoIsLargerThanTheRoomGoesAlone) {
  ASSERT_TRUE(RunToEnd(room_.Acquire(1, In(seconds(10)))).has_value());
  std::optional<Status> huge;
  Start(room_.Acquire(100, In(seconds(10))), &huge);
  Poll();
  EXPECT_FALSE(huge.has_value());
  room_.Release(1);
  ASSERT_TRUE(RunUntil([&] { return huge.has_value(); }));
  EXPECT_EQ(RunToEnd(room_.Acquire(1, In(milliseconds(10)))).error().code, Errc::kTimeout);
  room_.Release(100);
  EXPECT_EQ(room_.held(), 0U);
}

TEST_F(AdmissionTest, WhoLeavesTheLineLetsTheNextIn) {
  ASSERT_TRUE(RunToEnd(room_.Acquire(6, In(seconds(10)))).has_value());
  std::optional<Status> large;
  std::optional<Status> small;
  Start(room_.Acquire(8, In(milliseconds(20))), &large);
  Start(room_.Acquire(4, In(seconds(10))), &small);
  ASSERT_TRUE(RunUntil([&] { return large.has_value() && small.has_value(); }));
  EXPECT_EQ(large->error().code, Errc::kTimeout);
  EXPECT_TRUE(small->has_value());
  EXPECT_EQ(room_.held(), 10U);
}

TEST_F(AdmissionTest, CancelledWaiterHoldsNothing) {
  ASSERT_TRUE(RunToEnd(room_.Acquire(10, In(seconds(10)))).has_value());
  TaskGroup callers(io_.get_executor(), "callers", 1);
  std::optional<Status> waiter;
  ASSERT_TRUE(callers.Spawn(Store(room_.Acquire(1, In(seconds(10))), &waiter)));
  Poll();
  EXPECT_TRUE(RunToEnd(StopAndJoin(&callers)));
  EXPECT_EQ(waiter->error().code, Errc::kCancelled);
  EXPECT_EQ(room_.waiting(), 0U);
  EXPECT_EQ(room_.held(), 10U);
}

TEST_F(AdmissionTest, CloseEndsAllWaits) {
  ASSERT_TRUE(RunToEnd(room_.Acquire(10, In(seconds(10)))).has_value());
  std::optional<Status> waiter;
  Start(room_.Acquire(1, In(seconds(10))), &waiter);
  Poll();
  room_.Close(Error(Errc::kUnavailable, "gone"));
  room_.Close(Error(Errc::kInternal, "again"));
  ASSERT_TRUE(RunUntil([&] { return waiter.has_value(); }));
  EXPECT_EQ(waiter->error().message, "gone");
  EXPECT_EQ(RunToEnd(room_.Acquire(1, In(seconds(10)))).error().code, Errc::kUnavailable);
  room_.Release(10);
  EXPECT_EQ(room_.held(), 0U);
}

TEST_F(AdmissionTest, SmallerCapacityWorksAsTheyLeave) {
  ASSERT_TRUE(RunToEnd(room_.Acquire(4, In(seconds(10)))).has_value());
  room_.SetCapacity(5);
  EXPECT_EQ(RunToEnd(room_.Acquire(2, In(milliseconds(10)))).error().code, Errc::kTimeout);
  EXPECT_TRUE(RunToEnd(room_.Acquire(1, In(seconds(10)))).has_value());
}

}  // namespace
}  // namespace holdfast::transport
