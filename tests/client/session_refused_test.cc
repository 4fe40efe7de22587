// What a session does when its daemon refuses requests about slots, or is late with their answers.
#include <string>

#include "client/session.h"
#include "tests/client/trainer.h"

namespace holdfast::client {
namespace {

using Body = proto::ClientMessage::BodyCase;

class SessionRefusedTest : public TrainerTest {};

// L: nothing was done of it, so both sides keep the slot as it was.  A daemon that refused the
// begin does not know what a seal speaks of.
TEST_F(SessionRefusedTest, ARefusedBeginOrSealIsRepeatedAndKeepsItsSlot) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    const std::int64_t step = message.has_begin() ? message.begin().step() : message.seal().step();
    const bool first = kept_.empty();
    if (message.has_begin() && step == 1 && first) {
      kept_.push_back(message);
      daemon_.AnswerError(message, Errc::kUnavailable, "too many requests wait");
      return FakeDaemon::Verdict::kHandled;
    }
    if (message.has_begin() && step == 1) {
      kept_.push_back(message);
    }
    if (message.has_seal() && step == 1 && kept_.size() < 2) {
      daemon_.AnswerError(message, Errc::kInvalidArgument, "slot 1 is not this rank's to use now");
      return FakeDaemon::Verdict::kHandled;
    }
    if (message.has_seal() && step == 2 && ++seen_ < 3) {
      daemon_.AnswerError(message, Errc::kUnavailable, "too many requests wait");
      return FakeDaemon::Verdict::kHandled;
    }
    return FakeDaemon::Verdict::kDefault;
  });
  Begin();
  for (std::int64_t step = 1; step <= 5; ++step) {
    ASSERT_NO_FATAL_FAILURE(GoodSnapshot(step));
  }
  EXPECT_EQ(seen_.load(), 3);
  EXPECT_EQ(session_->Stats().sealed, 5U);
}

TEST_F(SessionRefusedTest, ARefusedReportOfATornCopyIsRepeated) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_torn() || ++seen_ > 1) {
      return FakeDaemon::Verdict::kDefault;
    }
    daemon_.AnswerError(message, Errc::kUnavailable, "too many requests wait");
    return FakeDaemon::Verdict::kHandled;
  });
  daemon_.SetSlots(1);
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  Update();
  ASSERT_FALSE(ArmFailpoints("").has_error());
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kTorn);
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  ASSERT_TRUE(Snapshot(2).value().started);
  (void)session_->Fence();
  EXPECT_FALSE(session_->WaitSealed(2, In(kLong)).has_error());
}

// A begin that is refused for good leaves the slot granted: the client gives it back.
TEST_F(SessionRefusedTest, TheSlotOfABeginThatFailsIsGivenBack) {
  daemon_.SetSlots(1);
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    const bool of_first = (message.has_begin() && message.begin().step() == 1) ||
                          (message.has_seal() && message.seal().step() == 1);
    if (!of_first) {
      return FakeDaemon::Verdict::kDefault;
    }
    daemon_.AnswerError(message, Errc::kInvalidArgument, "no");
    return FakeDaemon::Verdict::kHandled;
  });
  Begin();
  ASSERT_TRUE(Snapshot(1).value().started);
  (void)session_->Fence();
  EXPECT_EQ(session_->WaitSealed(1, In(kLong)).error().code, Errc::kAbandoned);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kCopiesDone, 1));
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  ASSERT_TRUE(Snapshot(2).value().started);
  (void)session_->Fence();
  EXPECT_FALSE(session_->WaitSealed(2, In(kLong)).has_error());
}

// A daemon whose answers are late is not buried under reports of what it is late for.
TEST_F(SessionRefusedTest, OneMissedStepAtATimeIsReportedAndTheNewestAfterIt) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_missed() || ++seen_ > 1) {
      return FakeDaemon::Verdict::kDefault;
    }
    return FakeDaemon::Verdict::kHandled;
  });
  Begin();
  for (std::int64_t step = 1; step <= 50; ++step) {
    ASSERT_FALSE(session_->Miss(step, "no time").has_error());
  }
  ASSERT_TRUE(daemon_.WaitReceived(Body::kMissed, 1));
  proto::ServerMessage answer;
  answer.mutable_missed();
  daemon_.Answer(daemon_.Received(Body::kMissed)[0], answer);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kMissed, 2));
  EXPECT_EQ(daemon_.Received(Body::kMissed)[0].missed().step(), 1);
  EXPECT_EQ(daemon_.Received(Body::kMissed)[1].missed().step(), 50);
  EXPECT_EQ(daemon_.Received(Body::kMissed)[0].missed().skipped_total(), 1U);
  EXPECT_EQ(daemon_.Received(Body::kMissed)[1].missed().skipped_total(), 50U) << "each counts";
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(51));
  EXPECT_EQ(daemon_.Received(Body::kMissed).size(), 2U);
}

}  // namespace
}  // namespace holdfast::client
