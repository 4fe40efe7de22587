// What no daemon of ours sends, and the word of a newer incarnation.
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "tests/client/proc_self.h"
#include "tests/client/trainer.h"

namespace holdfast::client {
namespace {

using Body = proto::ClientMessage::BodyCase;
using Verdict = FakeDaemon::Verdict;

class SessionHostileTest : public TrainerTest {
 protected:
  proto::ServerMessage Grant(std::uint32_t slot, std::uint64_t bytes, bool fd) {
    proto::ServerMessage event;
    event.mutable_grant()->set_slot(slot);
    event.mutable_grant()->set_generation(1);
    event.mutable_grant()->set_capacity_bytes(bytes);
    event.mutable_grant()->set_layout_generation(1);
    event.mutable_grant()->set_has_fd(fd);
    return event;
  }
};

TEST_F(SessionHostileTest, GarbageCostsTheConnectionOnly) {
  Begin();
  daemon_.SendRaw("this is no frame at all");
  ASSERT_TRUE(daemon_.WaitConnections(2));
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  GoodSnapshot(1);
}

TEST_F(SessionHostileTest, GrantWithoutMappingOrDescriptorDropsTheConnection) {
  Begin();
  daemon_.Send(Grant(500, 4096, false));
  ASSERT_TRUE(daemon_.WaitConnections(2));
  daemon_.Send(Grant(501, 4096, true));  // announced, not sent
  ASSERT_TRUE(daemon_.WaitConnections(3));
}

TEST_F(SessionHostileTest, GrantOfAFileThatIsTooShortDropsTheConnection) {
  Begin();
  const transport::OwnedFd file(::memfd_create("short", MFD_CLOEXEC));
  daemon_.Send(Grant(500, std::uint64_t{1} << 40, true), file.Get());
  ASSERT_TRUE(daemon_.WaitConnections(2));
}

// Also where it is the only one, and ready; one that is large enough is taken, and not that one.
TEST_F(SessionHostileTest, GrantSmallerThanTheImageIsNeverFilled) {
  const transport::OwnedFd small(::memfd_create("small", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(small.Get(), 4096), 0);
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_register_()) {
      return Verdict::kDefault;
    }
    proto::ServerMessage answer;
    answer.mutable_register_()->set_session_token(99);
    answer.mutable_register_()->set_layout_generation(1);
    daemon_.Answer(message, answer);
    daemon_.Send(Grant(1, 4096, true), small.Get());
    return Verdict::kHandled;
  });
  Connect(Options());
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  const MonotonicTime deadline = In(kLong);
  std::string why;
  // Said of slots that are ready only: the small one has been looked at.
  while (MappingsOf("memfd:small") == 0 || why.find("no slot is free") == std::string::npos) {
    ASSERT_LT(SystemClock().Now(), deadline) << why;
    const Status ready = session_->WaitReady(In(1));
    ASSERT_TRUE(ready.has_error());
    why = ready.error().message;
  }
  const auto start = Snapshot(1);
  ASSERT_TRUE(start.has_value());
  EXPECT_FALSE(start.value().started);

  const std::uint64_t bytes = state_.ReferenceImage().size();
  const transport::OwnedFd large(::memfd_create("large", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(large.Get(), static_cast<off_t>(bytes)), 0);
  daemon_.Send(Grant(2, bytes, true), large.Get());
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  ASSERT_TRUE(Snapshot(2).value().started);
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  ASSERT_TRUE(daemon_.WaitReceived(Body::kBegin, 1));
  EXPECT_EQ(daemon_.Received(Body::kBegin).front().begin().slot(), 2U);
  session_.reset();
  daemon_.Stop();  // before what the hook uses
}

TEST_F(SessionHostileTest, AnswerToNoRequestIsIgnored) {
  Begin();
  proto::ServerMessage answer;
  answer.set_request_id(123'456);
  answer.mutable_seal();
  daemon_.Send(answer);
  GoodSnapshot(1);
}

TEST_F(SessionHostileTest, UnknownErrorCodeIsInternal) {
  Begin();
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_finish()) {
      return Verdict::kDefault;
    }
    daemon_.AnswerError(message, static_cast<Errc>(200), "from the future");
    return Verdict::kHandled;
  });
  EXPECT_EQ(session_->Finish().error().code, Errc::kInternal);
}

TEST_F(SessionHostileTest, OtherProtocolVersionIsSaidAtOnce) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    proto::ServerMessage answer;
    answer.mutable_hello()->set_protocol_version(2);
    answer.mutable_hello()->set_software_version("9.9");
    daemon_.Answer(message, answer);
    return Verdict::kHandled;
  });
  Session session(Options(), std::make_unique<HostCopyEngine>(1));
  const Status status = session.Connect(In(kLong));
  ASSERT_TRUE(status.has_error());
  EXPECT_EQ(status.error().code, Errc::kVersionMismatch);
  EXPECT_NE(status.error().message.find("9.9"), std::string::npos);
}

TEST_F(SessionHostileTest, PermissionIsSaidAtOnce) {
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    daemon_.AnswerError(message, Errc::kPermission, "uid 5 is not allowed");
    return Verdict::kHandled;
  });
  Session session(Options(), std::make_unique<HostCopyEngine>(1));
  EXPECT_EQ(session.Connect(In(kLong)).error().code, Errc::kPermission);
}

TEST_F(SessionHostileTest, NoDaemonIsUnavailableAfterTheTimeout) {
  daemon_.Die();
  Session session(Options(), std::make_unique<HostCopyEngine>(1));
  const Status status = session.Connect(In(50));
  ASSERT_TRUE(status.has_error());
  EXPECT_EQ(status.error().code, Errc::kUnavailable);
  EXPECT_NE(status.error().message.find(daemon_.SocketPath()), std::string::npos);
}

// I8: messages of a lower epoch change nothing, and their client learns it for good.
TEST_F(SessionHostileTest, FencedEventIsStickyAndOpensTheFence) {
  Begin();
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_TRUE(Snapshot(1).value().started);
  proto::ServerMessage event;
  event.mutable_fenced()->set_newer_epoch(4);
  daemon_.Send(event);
  EXPECT_EQ(session_->WaitSealed(1, In(kLong)).error().code, Errc::kFenced);
  ASSERT_FALSE(ArmFailpoints("").has_error());
  EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
  EXPECT_EQ(Snapshot(2).error().code, Errc::kFenced);
  EXPECT_EQ(session_->WaitReady(In(kLong)).error().code, Errc::kFenced);
  EXPECT_EQ(session_->Finish().error().code, Errc::kFenced);
  EXPECT_EQ(session_->SetLayout(state_.specs).error().code, Errc::kFenced);
  EXPECT_TRUE(session_->Stats().fenced);
  EXPECT_FALSE(session_->Stats().connected);
  EXPECT_TRUE(daemon_.Received(Body::kSeal).empty());
}

TEST_F(SessionHostileTest, FencedAnswerToABeginIsSticky) {
  Begin();
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_begin()) {
      return Verdict::kDefault;
    }
    daemon_.AnswerError(message, Errc::kFenced, "incarnation 4 exists");
    return Verdict::kHandled;
  });
  ASSERT_TRUE(Snapshot(1).value().started);
  (void)session_->Fence();
  EXPECT_EQ(session_->WaitSealed(1, In(kLong)).error().code, Errc::kFenced);
  EXPECT_EQ(Snapshot(2).error().code, Errc::kFenced);
}

TEST_F(SessionHostileTest, FencedAnswerToAResumeEndsTheAttemptsToComeBack) {
  Begin();
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_register_()) {
      return Verdict::kDefault;
    }
    daemon_.AnswerError(message, Errc::kFenced, "incarnation 4 exists");
    return Verdict::kHandled;
  });
  daemon_.CutConnections();
  const MonotonicTime deadline = In(kLong);
  while (!session_->Stats().fenced) {
    ASSERT_LT(SystemClock().Now(), deadline);
    std::this_thread::yield();
  }
  EXPECT_EQ(session_->WaitReady(In(kLong)).error().code, Errc::kFenced);
  EXPECT_EQ(Snapshot(1).error().code, Errc::kFenced);
  EXPECT_EQ(daemon_.Received(Body::kHello).size(), 2U);
}

}  // namespace
}  // namespace holdfast::client
