// Tensors that must be zero in a snapshot: a check whose answer travels in the snapshot itself.
#include <cstring>

#include "tests/client/trainer.h"

namespace holdfast::client {
namespace {

using Body = proto::ClientMessage::BodyCase;

class ExpectZeroTest : public TrainerTest {
 protected:
  static constexpr std::uint32_t kFlag = 1;  // the small one

  void Fill(int value) { std::memset(state_.memory.at(kFlag).data(), value, Length()); }

  std::size_t Length() { return state_.memory.at(kFlag).size(); }
};

// I7
TEST_F(ExpectZeroTest, ASnapshotWhereTheyAreNotIsTornAndNamed) {
  Begin();
  Fill(0);
  ASSERT_FALSE(session_->ExpectZero({&kFlag, 1}).has_error());
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
  // Memory has room around the tensor.
  static_cast<std::byte*>(const_cast<void*>(state_.pointers.at(kFlag)))[5] = std::byte{1};
  ASSERT_TRUE(Snapshot(2).value().started);
  (void)session_->Fence();
  const Status sealed = session_->WaitSealed(2, In(kLong));
  ASSERT_TRUE(sealed.has_error());
  EXPECT_NE(sealed.error().message.find(state_.specs.at(kFlag).name), std::string::npos)
      << sealed.error().message;
  ASSERT_TRUE(daemon_.WaitReceived(Body::kTorn, 1));
  EXPECT_EQ(daemon_.Received(Body::kSeal).size(), 1U);
  EXPECT_EQ(session_->Stats().torn, 1U);
  Fill(0);
  ASSERT_FALSE(
      session_->WaitReady(In(kLong)).has_error());  // the torn one's slot may come back late
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(3));
}

TEST_F(ExpectZeroTest, AnotherLayoutExpectsNothing) {
  Begin();
  Fill(1);
  ASSERT_FALSE(session_->ExpectZero({&kFlag, 1}).has_error());
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
}

TEST_F(ExpectZeroTest, WhatHasNoBytesIsRefused) {
  Begin();
  const auto none = static_cast<std::uint32_t>(state_.specs.size());
  const Status refused = session_->ExpectZero({&none, 1});
  ASSERT_TRUE(refused.has_error());
  EXPECT_EQ(refused.error().code, Errc::kInvalidArgument);
}

}  // namespace
}  // namespace holdfast::client
