#include "client/admin_client.h"

#include <string>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "tests/client/fake_daemon.h"

namespace holdfast::client {
namespace {

using std::chrono::milliseconds;
using Verdict = FakeDaemon::Verdict;

constexpr milliseconds kLong{30'000};

TEST(AdminClientTest, RequestsAreAnsweredOneByOne) {
  FakeDaemon daemon;
  const auto client = AdminClient::Connect(daemon.SocketPath(), "cli", kLong).value();
  EXPECT_EQ(client->Daemon().software_version(), "fake");
  EXPECT_EQ(daemon.Received()[0].hello().program(), "cli");
  for (int i = 0; i < 3; ++i) {
    proto::ClientMessage request;
    request.mutable_ping();
    EXPECT_TRUE(client->Call(request, kLong).value().message.has_ping());
  }
}

TEST(AdminClientTest, ErrorReplyIsTheError) {
  FakeDaemon daemon;
  daemon.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_drop()) {
      return Verdict::kDefault;
    }
    proto::ServerMessage event;  // on the way, to be dropped
    event.mutable_outcome()->set_reason("x");
    daemon.Send(event);
    daemon.AnswerError(message, Errc::kPermission, "the job is another user's");
    return Verdict::kHandled;
  });
  const auto client = AdminClient::Connect(daemon.SocketPath(), "cli", kLong).value();
  proto::ClientMessage request;
  request.mutable_drop()->set_job_name("job");
  const auto reply = client->Call(request, kLong);
  ASSERT_TRUE(reply.has_error());
  EXPECT_EQ(reply.error().code, Errc::kPermission);
  EXPECT_EQ(reply.error().message, "the job is another user's");
}

TEST(AdminClientTest, DescriptorComesWithItsAnswer) {
  FakeDaemon daemon;
  const transport::OwnedFd file(::memfd_create("shard", MFD_CLOEXEC));
  daemon.SetHook([&](const proto::ClientMessage& message) {
    if (!message.has_open_shard()) {
      return Verdict::kDefault;
    }
    proto::ServerMessage answer;
    answer.mutable_open_shard()->set_has_fd(true);
    daemon.Answer(message, answer, file.Get());
    return Verdict::kHandled;
  });
  const auto client = AdminClient::Connect(daemon.SocketPath(), "cli", kLong).value();
  proto::ClientMessage request;
  request.mutable_open_shard()->set_rank(1);
  EXPECT_TRUE(client->Call(request, kLong).value().fd.Valid());
}

TEST(AdminClientTest, SilenceAndAbsenceAreSaid) {
  FakeDaemon daemon;
  daemon.SetHook([](const proto::ClientMessage& message) {
    return message.has_hello() ? Verdict::kDefault : Verdict::kHandled;
  });
  const auto client = AdminClient::Connect(daemon.SocketPath(), "cli", kLong).value();
  proto::ClientMessage request;
  request.mutable_status();
  EXPECT_EQ(client->Call(request, milliseconds(20)).error().code, Errc::kTimeout);
  EXPECT_EQ(AdminClient::Connect("/tmp/hf-no-such.sock", "cli", milliseconds(20)).error().code,
            Errc::kUnavailable);
}

TEST(AdminClientTest, OtherProtocolVersionIsRefused) {
  FakeDaemon daemon;
  daemon.SetHook([&](const proto::ClientMessage& message) {
    proto::ServerMessage answer;
    answer.mutable_hello()->set_protocol_version(5);
    daemon.Answer(message, answer);
    return Verdict::kHandled;
  });
  EXPECT_EQ(AdminClient::Connect(daemon.SocketPath(), "cli", kLong).error().code,
            Errc::kVersionMismatch);
}

}  // namespace
}  // namespace holdfast::client
