// The daemon dies, hangs, comes back, or forgets: the trainer never waits and nothing is lost.
#include <string>
#include <vector>

#include "tests/client/proc_self.h"
#include "tests/client/trainer.h"

namespace holdfast::client {
namespace {

using Body = proto::ClientMessage::BodyCase;
using Verdict = FakeDaemon::Verdict;

class SessionResumeTest : public TrainerTest {
 protected:
  // The register request of the newest connection.
  proto::RegisterRequest LastRegister() {
    return daemon_.Received(Body::kRegister).back().register_();
  }

  void WaitReconnected(std::uint64_t times) {
    const MonotonicTime deadline = In(kLong);
    while (session_->Stats().reconnects < times || !session_->Stats().connected) {
      ASSERT_LT(SystemClock().Now(), deadline) << "the session did not come back";
      std::this_thread::yield();
    }
  }
};

TEST_F(SessionResumeTest, LostConnectionResumesTheSessionWithItsIdleSlot) {
  Begin();
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(4));
  daemon_.CutConnections();
  ASSERT_NO_FATAL_FAILURE(WaitReconnected(1));
  const auto resume = LastRegister();
  EXPECT_EQ(resume.session_token(), 99U);
  EXPECT_EQ(resume.last_begun_step(), 4);
  ASSERT_EQ(resume.held_size(), 1) << "the sealed slot is the daemon's";
  EXPECT_EQ(resume.held(0).use(), proto::HeldSlot::IDLE);
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  GoodSnapshot(5);
}

TEST_F(SessionResumeTest, SkippedStepsAreToldWithWhatADaemonHasCountedAlready) {
  Connect(Options());
  ASSERT_FALSE(session_->Miss(1, "no layout yet").has_error());
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  EXPECT_EQ(LastRegister().skipped_total(), 1U);
  EXPECT_EQ(LastRegister().skipped_told(), 0U);
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  ASSERT_FALSE(session_->Miss(2, "no time").has_error());
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(4));  // answered after the report of step 2
  daemon_.CutConnections();
  ASSERT_NO_FATAL_FAILURE(WaitReconnected(1));
  EXPECT_EQ(LastRegister().skipped_total(), 2U);
  EXPECT_EQ(LastRegister().skipped_told(), 2U);
}

TEST_F(SessionResumeTest, CopyUnderWayIsVouchedForAndSealsAfterTheResume) {
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  const std::string image = state_.ReferenceImage();
  ASSERT_TRUE(daemon_.WaitReceived(Body::kBegin, 1));
  daemon_.CutConnections();
  ASSERT_NO_FATAL_FAILURE(WaitReconnected(1));
  ASSERT_EQ(LastRegister().held_size(), 1);
  EXPECT_EQ(LastRegister().held(0).use(), proto::HeldSlot::FILLING);
  EXPECT_EQ(LastRegister().held(0).step(), 1);
  ASSERT_FALSE(ArmFailpoints("").has_error());
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  ASSERT_FALSE(session_->WaitSealed(1, In(kLong)).has_error());
  EXPECT_EQ(daemon_.SealedImage(1), image);
}

TEST_F(SessionResumeTest, FenceNeedsNoDaemonAndTheSealIsSentWhenItComesBack) {
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kBegin, 1));
  daemon_.Die();
  ASSERT_FALSE(ArmFailpoints("").has_error());
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  daemon_.Revive();
  ASSERT_FALSE(session_->WaitSealed(1, In(kLong)).has_error());
}

TEST_F(SessionResumeTest, LostSealAnswerIsAskedForAgainWithoutASecondBegin) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (message.has_begin()) {
      return Verdict::kHandled;  // not answered: it waits beside the seal
    }
    if (message.has_seal() && ++seen_ == 1) {
      daemon_.Default(message);  // sealed and on record
      return Verdict::kCut;      // but the answer may not have arrived
    }
    return Verdict::kDefault;
  });
  Begin();
  ASSERT_TRUE(Snapshot(1).value().started);
  (void)session_->Fence();
  ASSERT_FALSE(session_->WaitSealed(1, In(kLong)).has_error());
  EXPECT_EQ(daemon_.Received(Body::kBegin).size(), 1U);
  EXPECT_FALSE(daemon_.SealedImage(1).empty());
}

TEST_F(SessionResumeTest, UnansweredSealIsSentAgainOnEveryConnection) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    return message.has_seal() && ++seen_ < 4 ? Verdict::kCut : Verdict::kDefault;
  });
  Begin();
  ASSERT_TRUE(Snapshot(1).value().started);
  (void)session_->Fence();
  ASSERT_FALSE(session_->WaitSealed(1, In(kLong)).has_error());
  EXPECT_EQ(seen_.load(), 4);
}

TEST_F(SessionResumeTest, StepsWhileTheDaemonIsAwayAreSkippedAtOnceAndToldAtTheResume) {
  Begin();
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
  daemon_.Die();
  while (session_->Stats().connected) {
    std::this_thread::yield();
  }
  for (std::int64_t step = 2; step <= 60; ++step) {
    const auto skipped = Snapshot(step);
    ASSERT_TRUE(skipped.has_value());
    ASSERT_FALSE(skipped.value().started);
    EXPECT_EQ(skipped.value().reason, "holdfastd is away");
    EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  }
  daemon_.Revive();
  ASSERT_NO_FATAL_FAILURE(WaitReconnected(1));
  EXPECT_EQ(LastRegister().last_begun_step(), 60);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kMissed, 1));
  EXPECT_LE(daemon_.Received(Body::kMissed).size(), 9U) << "bounded, the newest count";
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  GoodSnapshot(61);
}

TEST_F(SessionResumeTest, SlotThatTheDaemonDidNotKeepIsUnmappedAfterItsCopy) {
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (message.has_seal()) {
      daemon_.AnswerError(message, Errc::kNotFound, "that slot is quarantined");
      return Verdict::kHandled;
    }
    if (!message.has_register_()) {
      return Verdict::kDefault;
    }
    proto::ServerMessage answer;
    answer.mutable_register_()->set_session_token(99);
    answer.mutable_register_()->set_layout_generation(1);
    daemon_.Answer(message, answer);  // keeps nothing
    return Verdict::kHandled;
  });
  daemon_.CutConnections();
  ASSERT_NO_FATAL_FAILURE(WaitReconnected(1));
  EXPECT_EQ(MappingsOf("memfd:slot"), 1) << "it is being written";
  ASSERT_FALSE(ArmFailpoints("").has_error());
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied) << "no crash, no alarm";
  EXPECT_EQ(session_->WaitSealed(1, In(kLong)).error().code, Errc::kAbandoned);
  EXPECT_EQ(SlotsMappedInTheEnd(), 0);
}

TEST_F(SessionResumeTest, GenerationsCountedAnewByARestartedDaemonAreFollowed) {
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_register_()) {
      return Verdict::kDefault;
    }
    proto::ServerMessage answer;
    answer.mutable_register_()->set_session_token(100);
    answer.mutable_register_()->set_layout_generation(8);
    for (const auto& held : message.register_().held()) {
      *answer.mutable_register_()->add_kept() = held;
    }
    daemon_.Answer(message, answer);
    return Verdict::kHandled;
  });
  daemon_.CutConnections();
  ASSERT_NO_FATAL_FAILURE(WaitReconnected(1));
  ASSERT_FALSE(ArmFailpoints("").has_error());
  (void)session_->Fence();
  ASSERT_FALSE(session_->WaitSealed(1, In(kLong)).has_error());
  EXPECT_EQ(daemon_.Received(Body::kSeal)[0].seal().layout_generation(), 8U);
}

// L: the grant for a new layout is lost with the daemon, which knows of it; an idle slot of the old
// layout, named at the resume, would count as that grant, and no other would ever come.
TEST_F(SessionResumeTest, AGrantLostWithTheConnectionIsNotTakenForAnOldOne) {
  Begin();
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_register_() || ++seen_ > 1) {
      return Verdict::kDefault;
    }
    proto::ServerMessage answer;
    answer.mutable_register_()->set_session_token(99);
    answer.mutable_register_()->set_layout_generation(2);
    daemon_.Answer(message, answer);  // and no grant follows
    return Verdict::kHandled;
  });
  auto specs = state_.specs;
  specs.pop_back();
  ASSERT_FALSE(session_->SetLayout(specs).has_error());
  daemon_.CutConnections();
  ASSERT_NO_FATAL_FAILURE(WaitReconnected(1));
  EXPECT_EQ(LastRegister().held_size(), 0);
}

TEST_F(SessionResumeTest, DaemonThatKnowsNothingOfTheSessionGetsANewOne) {
  Begin();
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (message.has_register_() && message.register_().session_token() != 0) {
      ++seen_;
      daemon_.AnswerError(message, Errc::kNotFound, "no such session");
      return Verdict::kHandled;
    }
    return Verdict::kDefault;
  });
  daemon_.ForgetMappings();
  daemon_.CutConnections();
  ASSERT_NO_FATAL_FAILURE(WaitReconnected(1));
  EXPECT_EQ(seen_.load(), 1);
  EXPECT_EQ(LastRegister().session_token(), 0U);
  EXPECT_EQ(LastRegister().held_size(), 0);
}

TEST_F(SessionResumeTest, DaemonThatHangsBlocksOnlyCallsThatWait) {
  auto options = Options();
  options.request_timeout = std::chrono::milliseconds(50);
  Begin(options);
  daemon_.SetHook([&](const proto::ClientMessage&) { return Verdict::kHandled; });
  ASSERT_TRUE(Snapshot(1).value().started);
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  for (std::int64_t step = 2; step < 30; ++step) {
    const auto skipped = Snapshot(step);
    ASSERT_TRUE(skipped.has_value());
    EXPECT_FALSE(skipped.value().started);
  }
  EXPECT_EQ(session_->WaitSealed(1, In(20)).error().code, Errc::kTimeout);
  EXPECT_EQ(session_->Finish().error().code, Errc::kTimeout);
  state_ = MakePlainState({{"other", 5}});
  EXPECT_EQ(session_->SetLayout(state_.specs).error().code, Errc::kTimeout);
  session_.reset();  // does not hang either
}

TEST_F(SessionResumeTest, SilentDaemonIsAskedAndThenCountsAsGone) {
  auto options = Options();
  options.connection.ping_after = std::chrono::milliseconds(20);
  options.connection.lost_after = std::chrono::milliseconds(200);
  Begin(options);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kPing, 2)) << "answered pings keep the connection";
  EXPECT_TRUE(session_->Stats().connected);
  EXPECT_EQ(session_->Stats().reconnects, 0U);
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    return message.has_ping() ? Verdict::kHandled : Verdict::kDefault;
  });
  EXPECT_TRUE(daemon_.WaitConnections(2));
}

TEST_F(SessionResumeTest, CallThatWaitsOutlivesARestartOfTheDaemon) {
  Begin();
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    return message.has_drain() && ++seen_ == 1 ? Verdict::kCut : Verdict::kDefault;
  });
  const auto drained = session_->Drain(In(kLong));
  ASSERT_TRUE(drained.has_value()) << drained.error().ToString();
  EXPECT_EQ(seen_.load(), 2);
}

TEST_F(SessionResumeTest, RegistrationCutOffIsSentAgain) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    return message.has_register_() && ++seen_ < 3 ? Verdict::kCut : Verdict::kDefault;
  });
  Begin();
  EXPECT_EQ(seen_.load(), 3);
  GoodSnapshot(1);
}

TEST_F(SessionResumeTest, AnswersInAnyOrderFindTheirRequests) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (message.has_begin()) {
      kept_.push_back(message);
      return Verdict::kHandled;
    }
    if (message.has_seal() && !kept_.empty()) {
      daemon_.Default(message);       // the seal first,
      daemon_.Default(kept_.back());  // then its begin
      return Verdict::kHandled;
    }
    return Verdict::kDefault;
  });
  Begin();
  for (std::int64_t step = 1; step <= 3; ++step) {
    ASSERT_NO_FATAL_FAILURE(GoodSnapshot(step));
    Update();
  }
}

}  // namespace
}  // namespace holdfast::client
