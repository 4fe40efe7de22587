#include "transport/stamp_gate.h"

#include <gtest/gtest.h>

namespace holdfast::transport {
namespace {

proto::PeerStamp Stamp(std::uint64_t epoch, std::uint64_t boot, std::uint64_t sequence) {
  proto::PeerStamp stamp;
  stamp.set_epoch_number(epoch);
  stamp.set_epoch_token(epoch * 10);
  stamp.set_boot(boot);
  stamp.set_sequence(sequence);
  return stamp;
}

TEST(StampGateTest, OlderMessagesOfASenderAreDropped) {
  StampGate gate;
  gate.Accepted("a", "job", 1, Stamp(1, 2, 5));
  EXPECT_EQ(gate.Check("a", "job", 1, Stamp(1, 2, 4)).error().code, Errc::kAlreadyExists);
  EXPECT_EQ(gate.Check("a", "job", 1, Stamp(1, 2, 5)).error().code, Errc::kAlreadyExists);
  EXPECT_EQ(gate.Check("a", "job", 1, Stamp(1, 1, 9)).error().code, Errc::kAlreadyExists);
  EXPECT_TRUE(gate.Check("a", "job", 1, Stamp(1, 2, 6)).has_value());
  EXPECT_TRUE(gate.Check("a", "job", 1, Stamp(1, 3, 1)).has_value());
  EXPECT_TRUE(gate.Check("a", "job", 2, Stamp(1, 2, 1)).has_value());
  EXPECT_TRUE(gate.Check("b", "job", 1, Stamp(1, 2, 1)).has_value());
  EXPECT_TRUE(gate.Check("a", "other", 1, Stamp(1, 2, 1)).has_value());
}

// I8
TEST(StampGateTest, LowerEpochOfAnySenderIsFenced) {
  StampGate gate;
  gate.Accepted("a", "job", 1, Stamp(7, 1, 1));
  EXPECT_EQ(gate.Check("b", "job", 2, Stamp(6, 9, 9)).error().code, Errc::kFenced);
  auto twin = Stamp(7, 9, 9);
  twin.set_epoch_token(1);
  EXPECT_EQ(gate.Check("b", "job", 1, twin).error().code, Errc::kFenced);
  EXPECT_TRUE(gate.Check("b", "job", 1, Stamp(7, 1, 1)).has_value());
  EXPECT_TRUE(gate.Check("a", "job", 1, Stamp(8, 1, 1)).has_value());
}

TEST(StampGateTest, MessagesThatEndInTheOtherOrderDoNotTurnItBack) {
  StampGate gate;
  gate.Accepted("a", "job", 1, Stamp(2, 1, 6));
  gate.Accepted("a", "job", 1, Stamp(2, 1, 5));
  gate.Accepted("a", "job", 1, Stamp(1, 1, 9));
  EXPECT_EQ(gate.Check("a", "job", 1, Stamp(2, 1, 6)).error().code, Errc::kAlreadyExists);
  EXPECT_EQ(gate.Check("a", "job", 1, Stamp(1, 2, 9)).error().code, Errc::kFenced);
}

// I9
TEST(StampGateTest, ItRemembersABoundedNumber) {
  StampGate gate(3);
  for (int i = 0; i < 100; ++i) {
    gate.Accepted("a", "first", 1, Stamp(2, 1, static_cast<std::uint64_t>(i)));
    gate.Accepted("a", "job" + std::to_string(i), 1, Stamp(2, 1, 1));
  }
  EXPECT_EQ(gate.size(), 6U);
  EXPECT_EQ(gate.Check("a", "first", 1, Stamp(2, 1, 99)).error().code, Errc::kAlreadyExists);
}

}  // namespace
}  // namespace holdfast::transport
