// What a trainer is told while no daemon serves it: above all where one is there and refuses.
#include <string>
#include <thread>

#include <sys/mman.h>

#include "tests/client/trainer.h"

namespace holdfast::client {
namespace {

using Body = proto::ClientMessage::BodyCase;
using Verdict = FakeDaemon::Verdict;

class SessionAwayTest : public TrainerTest {
 protected:
  // Registrations are answered with that error from the next connection on.
  void RefuseToResume(Errc code, const std::string& text) {
    daemon_.SetHook([this, code, text](const proto::ClientMessage& message) {
      if (message.has_register_()) {
        daemon_.AnswerError(message, code, text);
      }
      return message.has_register_() || message.has_seal() ? Verdict::kHandled : Verdict::kDefault;
    });
    daemon_.CutConnections();
  }

  // Why no slot is ready, as soon as that has to do with "part".
  std::string WhyNotReady(const std::string& part) {
    const MonotonicTime deadline = In(kLong);
    std::string why;
    while (why.find(part) == std::string::npos && SystemClock().Now() < deadline) {
      std::this_thread::yield();
      const Status ready = session_->WaitReady(In(0));
      why = ready.has_error() ? ready.error().message : "";
    }
    return why;
  }
};

// As after a damaged catalog, which the operator has moved away: who is told to start a daemon that
// runs looks for the fault in the wrong place.
TEST_F(SessionAwayTest, ADaemonWithoutRecordsOfTheJobIsToldWithWhatToDoForAsLongAsItStaysSo) {
  Begin();
  daemon_.SetHook([](const proto::ClientMessage& message) {
    return message.has_seal() ? Verdict::kHandled : Verdict::kDefault;
  });
  ASSERT_TRUE(Snapshot(1).value().started);
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  EXPECT_EQ(session_->WhyAway(), "");
  RefuseToResume(Errc::kNotFound, "job job is not known here; rank 0 opens it first");
  const std::string away =
      "holdfastd is away: job job is not known here; rank 0 opens it first: start the training "
      "again";
  ASSERT_EQ(WhyNotReady("not known here"), "no slot is ready: " + away);
  EXPECT_EQ(session_->WhyAway(), away);
  EXPECT_EQ(session_->WaitSealed(1, In(0)).error().message, "step 1 is not sealed: " + away);
  for (std::int64_t step = 2; step <= 4; ++step) {
    ASSERT_TRUE(daemon_.WaitReceived(Body::kRegister, static_cast<std::size_t>(step) + 2));
    const auto skipped = Snapshot(step);
    ASSERT_TRUE(skipped.has_value()) << skipped.error().ToString();
    EXPECT_FALSE(skipped.value().started);
    EXPECT_EQ(skipped.value().reason, away);
  }
  const Status refused = session_->SetLayout(MakePlainState({{"other", 5}}).specs);
  ASSERT_TRUE(refused.has_error());
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
  EXPECT_EQ(refused.error().message, away);
}

TEST_F(SessionAwayTest, AnyOtherRefusalIsToldToAndEndsWithItsReason) {
  Begin();
  for (const Errc code : {Errc::kNoSpace, Errc::kVersionMismatch, Errc::kUnavailable}) {
    const std::string text = "because of " + std::string(ErrcName(code));
    RefuseToResume(code, text);
    EXPECT_EQ(WhyNotReady("because"), "no slot is ready: holdfastd is away: " + text);
    daemon_.SetHook(nullptr);
    ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
    EXPECT_EQ(session_->WhyAway(), "");
  }
  daemon_.Die();
  EXPECT_EQ(WhyNotReady("away"), "no slot is ready: holdfastd is away")
      << "nobody refuses anything";
}

TEST_F(SessionAwayTest, ASlotThatCannotBeMappedIsToldWhileTheConnectionIsMadeAnew) {
  Begin();
  const transport::OwnedFd file(::memfd_create("short", MFD_CLOEXEC));
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_register_()) {
      return Verdict::kDefault;
    }
    daemon_.Default(message);
    proto::ServerMessage event;
    event.mutable_grant()->set_slot(500);
    event.mutable_grant()->set_generation(1);
    event.mutable_grant()->set_capacity_bytes(std::uint64_t{1} << 40);
    event.mutable_grant()->set_layout_generation(1);
    event.mutable_grant()->set_has_fd(true);
    daemon_.Send(event, file.Get());
    return Verdict::kHandled;
  });
  daemon_.CutConnections();
  EXPECT_EQ(WhyNotReady("no file of"),
            "no slot is ready: holdfastd is away: a granted slot is no file of 1.00 TiB (it has 0 "
            "bytes)");
  session_.reset();
  daemon_.Stop();  // before what the hook uses
}

}  // namespace
}  // namespace holdfast::client
