#include "client/session.h"

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/crc32c.h"
#include "tests/client/proc_self.h"
#include "tests/client/trainer.h"

namespace holdfast::client {
namespace {

using Body = proto::ClientMessage::BodyCase;

class SessionTest : public TrainerTest {};

TEST_F(SessionTest, SnapshotsSealWithTheBytesAndDigestsOfTheState) {
  Begin();
  for (std::int64_t step = 1; step <= 20; ++step) {
    ASSERT_NO_FATAL_FAILURE(GoodSnapshot(step));
    ASSERT_EQ(daemon_.SealedDigests(step), ChunkDigests(AsBytes(daemon_.SealedImage(step))));
    Update();
  }
  const auto stats = session_->Stats();
  EXPECT_EQ(stats.begun, 20U);
  EXPECT_EQ(stats.sealed, 20U);
  EXPECT_EQ(stats.skipped, 0U);
  EXPECT_EQ(stats.last_sealed_step, 20);
}

TEST_F(SessionTest, SealFollowsItsBeginAndCarriesTheState) {
  Begin();
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(7));
  std::vector<Body> order;
  for (const auto& message : daemon_.Received()) {
    order.push_back(message.body_case());
  }
  EXPECT_EQ(order, (std::vector<Body>{Body::kHello, Body::kRegister, Body::kBegin, Body::kSeal}));
  const auto seal = daemon_.Received(Body::kSeal)[0].seal();
  EXPECT_EQ(seal.step(), 7);
  ASSERT_EQ(seal.state_size(), 1);
  EXPECT_EQ(seal.state(0).json(), "{}");
  EXPECT_EQ(seal.layout_generation(), 1U);
}

// L: the next start of the job waits for nobody who has said so.
TEST_F(SessionTest, CloseLeavesAfterTheLastSealAndOnlyOnce) {
  Begin();
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(7));
  session_->Close();
  session_->Close();
  const auto received = daemon_.Received();
  EXPECT_EQ(received.back().body_case(), Body::kLeave);
  EXPECT_EQ(daemon_.Received(Body::kLeave).size(), 1U);
}

TEST_F(SessionTest, NoGrantAtHandIsSkippedAtOnceAndReported) {
  daemon_.SetSlots(1);
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    return message.has_seal() ? FakeDaemon::Verdict::kHandled : FakeDaemon::Verdict::kDefault;
  });
  Begin();
  ASSERT_TRUE(Snapshot(1).value().started);
  (void)session_->Fence();
  const auto skipped = Snapshot(2);
  ASSERT_TRUE(skipped.has_value());
  EXPECT_FALSE(skipped.value().started);
  EXPECT_NE(skipped.value().reason.find("no slot is free"), std::string::npos);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kMissed, 1));
  EXPECT_EQ(daemon_.Received(Body::kMissed)[0].missed().step(), 2);
  EXPECT_EQ(session_->WaitSealed(2, In(0)).error().code, Errc::kTimeout) << "step 1 is open";
  EXPECT_EQ(session_->Stats().skipped, 1U);
}

TEST_F(SessionTest, BeginMayWaitForASlotWhereTheCallerAllowsIt) {
  daemon_.SetSlots(1);
  auto options = Options();
  options.begin_wait = std::chrono::milliseconds(kLong);
  Begin(options);
  // The one slot is superseded by nothing: the fake frees it at the next seal only, so let it go.
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_seal()) {
      return FakeDaemon::Verdict::kDefault;
    }
    daemon_.AnswerError(message, Errc::kAbandoned, "rank 1 missed it");
    proto::ServerMessage grant;
    grant.mutable_grant()->set_slot(1);
    grant.mutable_grant()->set_generation(1);
    grant.mutable_grant()->set_layout_generation(1);
    daemon_.Send(grant);
    return FakeDaemon::Verdict::kHandled;
  });
  for (std::int64_t step = 1; step <= 5; ++step) {
    ASSERT_TRUE(Snapshot(step).value().started) << step;
    (void)session_->Fence();
  }
}

TEST_F(SessionTest, AbandonedSealIsGivenUpForGood) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_seal()) {
      return FakeDaemon::Verdict::kDefault;
    }
    daemon_.AnswerError(message, Errc::kAbandoned, "rank 1 missed it");
    return FakeDaemon::Verdict::kHandled;
  });
  Begin();
  ASSERT_TRUE(Snapshot(1).value().started);
  (void)session_->Fence();
  const Status sealed = session_->WaitSealed(1, In(kLong));
  ASSERT_TRUE(sealed.has_error());
  EXPECT_EQ(sealed.error().code, Errc::kAbandoned);
  EXPECT_NE(sealed.error().message.find("rank 1 missed it"), std::string::npos);
}

TEST_F(SessionTest, SnapshotAbandonedUnderTheCopyIsNotSealedAndFreesItsSlot) {
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  proto::ServerMessage event;
  event.mutable_outcome()->mutable_id()->set_job_uid(std::string(16, 'u'));
  event.mutable_outcome()->mutable_id()->set_incarnation(3);
  event.mutable_outcome()->mutable_id()->set_step(1);
  event.mutable_outcome()->set_kind(proto::OutcomeEvent::KIND_ABANDONED);
  daemon_.Send(event);
  EXPECT_EQ(session_->WaitSealed(1, In(kLong)).error().code, Errc::kAbandoned);
  ASSERT_FALSE(ArmFailpoints("").has_error());
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kCopiesDone, 1));
  EXPECT_TRUE(daemon_.Received(Body::kSeal).empty());
}

// I7
TEST_F(SessionTest, TornSnapshotIsNeverSealedAndTrainingGoesOn) {
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  Update();
  ASSERT_FALSE(ArmFailpoints("").has_error());
  const auto fence = session_->Fence();
  EXPECT_EQ(fence.kind, CopyOutcome::Kind::kTorn);
  EXPECT_NE(fence.reason.find('"'), std::string::npos) << "names the tensor";
  EXPECT_EQ(session_->Stats().torn, 1U);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kTorn, 1));
  EXPECT_TRUE(daemon_.Received(Body::kTorn)[0].torn().copies_done());
  EXPECT_TRUE(daemon_.Received(Body::kSeal).empty());
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  GoodSnapshot(2);
}

TEST_F(SessionTest, SealedSlotIsReadOnlyUntilItIsGrantedAgain) {
  Begin();
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
  EXPECT_EQ(MappingsOf("memfd:slot", "r--s"), 1) << "the sealed one";
  EXPECT_EQ(MappingsOf("memfd:slot", "rw-s"), 1) << "the granted one";
}

TEST_F(SessionTest, NewLayoutTakesSlotsOfItsOwn) {
  Begin();
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
  state_ = MakePlainState({{"weight", 700'000}, {"bias", 12}, {"lora", 50'000}});
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(2));
  EXPECT_EQ(daemon_.Received(Body::kSeal)[1].seal().layout_generation(), 2U);
}

TEST_F(SessionTest, SameLayoutAgainCostsNoMessage) {
  Begin();
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  EXPECT_EQ(daemon_.Received(Body::kRegister).size(), 1U);
  GoodSnapshot(1);
}

TEST_F(SessionTest, LayoutThatASlowDaemonTakesLateIsJoinedByTheNextCall) {
  Begin();
  std::mutex mutex;
  std::vector<proto::ClientMessage> held;
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_register_()) {
      return FakeDaemon::Verdict::kDefault;
    }
    const std::lock_guard<std::mutex> lock(mutex);
    held.push_back(message);
    return FakeDaemon::Verdict::kHandled;
  });
  state_ = MakePlainState({{"weight", 700'000}, {"exp_avg", 700'000}});
  const auto few = std::chrono::milliseconds(20);
  EXPECT_EQ(session_->SetLayout(state_.specs, few).error().code, Errc::kTimeout);
  EXPECT_EQ(session_->SetLayout(state_.specs, few).error().code, Errc::kTimeout);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kRegister, 2));
  daemon_.SetHook(nullptr);
  proto::ClientMessage first;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    ASSERT_EQ(held.size(), 1U) << "the second call joins the first one's registration";
    first = held[0];
  }
  daemon_.Default(first);
  ASSERT_FALSE(session_->SetLayout(state_.specs, std::chrono::milliseconds(kLong)).has_error());
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
  EXPECT_EQ(session_->Stats().reconnects, 0U);
}

TEST_F(SessionTest, OtherLayoutTakesThePlaceOfOneThatIsNotAnswered) {
  Begin();
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    return message.has_register_() ? FakeDaemon::Verdict::kHandled : FakeDaemon::Verdict::kDefault;
  });
  const auto other = MakePlainState({{"weight", 700'000}, {"exp_avg", 700'000}});
  EXPECT_EQ(session_->SetLayout(other.specs, std::chrono::milliseconds(20)).error().code,
            Errc::kTimeout);
  daemon_.SetHook(nullptr);
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  // A new connection makes sure that the other is never answered: steps are skipped until it is
  // there.
  std::int64_t step = 1;
  const auto until = In(kLong);
  while (!Snapshot(step).value().started && SystemClock().Now() < until) {
    ++step;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  ASSERT_FALSE(session_->WaitSealed(step, In(kLong)).has_error());
  EXPECT_EQ(daemon_.SealedImage(step), state_.ReferenceImage());
}

TEST_F(SessionTest, LayoutIsRefusedAtOnceWhileTheDaemonIsAway) {
  Connect(Options());
  daemon_.Die();
  while (session_->Stats().connected) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(session_->SetLayout(state_.specs).error().code, Errc::kUnavailable);
  ASSERT_FALSE(session_->Miss(1, "no layout").has_error());
  EXPECT_EQ(session_->Miss(1, "no layout").error().code, Errc::kInvalidArgument);
  EXPECT_EQ(session_->Stats().skipped, 1U);
  daemon_.Revive();
  while (!session_->Stats().connected) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  EXPECT_EQ(daemon_.Received(Body::kRegister)[0].register_().last_begun_step(), 1);
  EXPECT_TRUE(daemon_.Received(Body::kMissed).empty()) << "the registration told it";
}

TEST_F(SessionTest, LayoutIsRefusedUnderACopyAndTheOneInForceStays) {
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  const auto other = MakePlainState({{"weight", 700'000}, {"exp_avg", 700'000}});
  const Status refused = session_->SetLayout(other.specs);
  ASSERT_FALSE(ArmFailpoints("").has_error());
  ASSERT_TRUE(refused.has_error());
  EXPECT_EQ(refused.error().code, Errc::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("hf_fence"), std::string::npos);
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  ASSERT_FALSE(session_->WaitSealed(1, In(kLong)).has_error());
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(2));
}

TEST_F(SessionTest, RefusedLayoutLeavesNoneInForce) {
  Begin();
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_register_()) {
      return FakeDaemon::Verdict::kDefault;
    }
    daemon_.AnswerError(message, Errc::kNoSpace, "needs 3 GiB, 1 GiB are free");
    return FakeDaemon::Verdict::kHandled;
  });
  state_ = MakePlainState({{"other", 5}, {"tensors", 6}});
  const Status refused = session_->SetLayout(state_.specs);
  ASSERT_TRUE(refused.has_error());
  EXPECT_EQ(refused.error().code, Errc::kNoSpace);
  EXPECT_EQ(refused.error().message, "needs 3 GiB, 1 GiB are free");
  EXPECT_EQ(Snapshot(1).error().code, Errc::kInvalidArgument);
}

TEST_F(SessionTest, StepsMustRise) {
  Begin();
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(5));
  EXPECT_EQ(Snapshot(5).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(Snapshot(4).error().code, Errc::kInvalidArgument);
  GoodSnapshot(6);
}

TEST_F(SessionTest, SnapshotWithoutFenceBeforeIsSkippedWhileTheCopyRuns) {
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  const auto second = Snapshot(2);
  ASSERT_TRUE(second.has_value());
  EXPECT_FALSE(second.value().started);
  EXPECT_NE(second.value().reason.find("fence"), std::string::npos);
  ASSERT_FALSE(ArmFailpoints("").has_error());
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
}

TEST_F(SessionTest, FenceWithoutSnapshotReturnsAtOnce) {
  Begin();
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
}

TEST_F(SessionTest, FailedCopyIsReportedAndGivenUp) {
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=error:5@2").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kFailed);
  EXPECT_EQ(session_->Stats().failed, 1U);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kTorn, 1));
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  GoodSnapshot(2);
}

TEST_F(SessionTest, OutcomesOfThisIncarnationAreCounted) {
  Begin();
  proto::ServerMessage event;
  event.mutable_outcome()->mutable_id()->set_job_uid(std::string(16, 'u'));
  event.mutable_outcome()->mutable_id()->set_incarnation(2);
  event.mutable_outcome()->mutable_id()->set_step(900);
  event.mutable_outcome()->set_kind(proto::OutcomeEvent::KIND_COMPLETE);
  daemon_.Send(event);
  event.mutable_outcome()->mutable_id()->set_incarnation(3);
  event.mutable_outcome()->mutable_id()->set_step(4);
  daemon_.Send(event);
  event.mutable_outcome()->set_kind(proto::OutcomeEvent::KIND_DURABLE);
  event.mutable_outcome()->mutable_id()->set_step(3);
  daemon_.Send(event);
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(10));  // behind the events on the same stream
  EXPECT_EQ(session_->Stats().last_complete_step, 4);
  EXPECT_EQ(session_->Stats().last_durable_step, 3);
}

TEST_F(SessionTest, DrainAndFinishGiveTheDaemonsWord) {
  Begin();
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
  const auto drained = session_->Drain(In(kLong));
  ASSERT_TRUE(drained.has_value());
  EXPECT_TRUE(drained.value().durable());
  EXPECT_EQ(session_->Finish().value(), 42U);
}

TEST_F(SessionTest, RevokedSlotIsUnmappedOnceItsCopyHasEnded) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_copies_done()) {
      return FakeDaemon::Verdict::kDefault;
    }
    proto::ServerMessage answer;
    answer.mutable_copies_done();
    daemon_.Answer(message, answer);  // and it is not granted again
    return FakeDaemon::Verdict::kHandled;
  });
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  proto::ServerMessage event;
  event.mutable_revoke()->set_slot(1);
  event.mutable_revoke()->set_generation(1);
  daemon_.Send(event);
  proto::ServerMessage outcome;  // to know that the revoke was seen
  outcome.mutable_outcome()->mutable_id()->set_job_uid(std::string(16, 'u'));
  outcome.mutable_outcome()->mutable_id()->set_incarnation(3);
  outcome.mutable_outcome()->mutable_id()->set_step(1);
  outcome.mutable_outcome()->set_kind(proto::OutcomeEvent::KIND_ABANDONED);
  daemon_.Send(outcome);
  EXPECT_EQ(session_->WaitSealed(1, In(kLong)).error().code, Errc::kAbandoned);
  EXPECT_EQ(MappingsOf("memfd:slot"), 1) << "it is being written";
  ASSERT_FALSE(ArmFailpoints("").has_error());
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied) << "it wrote into mapped memory";
  EXPECT_EQ(SlotsMappedInTheEnd(), 0);
}

}  // namespace
}  // namespace holdfast::client
