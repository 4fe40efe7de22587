// What strangers and broken clients can do to a daemon's socket: nothing but lose their connection.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "client/admin_client.h"
#include "tests/daemon/daemon_process.h"
#include "tests/daemon/raw_client.h"
#include "tests/daemon/raw_trainer.h"
#include "transport/messages.h"

namespace holdfast {
namespace {

using std::chrono::seconds;
using tests::DaemonProcess;
using tests::kLimit;
using tests::LayoutOf;
using tests::OpenJob;
using tests::RawClient;
using tests::RegisterOf;

class SessionHostileTest : public testing::Test {
 protected:
  void SetUp() override {
    DaemonProcess::Start start;
    start.config =
        "[clients]\nhello_timeout = \"500ms\"\nmax_sessions = 8\nsend_timeout = \"1s\"\n";
    ASSERT_TRUE(daemon_.StartAndWait(start));
  }

  void TearDown() override {
    EXPECT_TRUE(daemon_.Alive());
    const auto client = client::AdminClient::Connect(daemon_.socket(), "test", kLimit);
    EXPECT_TRUE(client.has_value()) << "the daemon does not serve any more";
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  DaemonProcess daemon_;
};

std::string Frame(std::uint32_t length, std::string_view payload) {
  std::string frame(transport::kFrameHeaderBytes, '\0');
  StoreLe32(frame.data(), transport::kFrameMagic);
  StoreLe32(frame.data() + 4, length);
  return frame + std::string(payload);
}

TEST_F(SessionHostileTest, GarbageEndsTheConnection) {
  for (const std::string& bytes : {std::string(100, '\0'),
                                   std::string("GET / HTTP/1.1\r\n\r\n"),
                                   Frame(0xffffffff, "x"),
                                   Frame(65 << 20, "x"),
                                   Frame(5, "\xff\xff\xff\xff\xff"),
                                   Frame(0, "")}) {
    RawClient client(daemon_.socket());
    EXPECT_TRUE(client.SendBytes(bytes));
    EXPECT_TRUE(client.Ended());
  }
}

TEST_F(SessionHostileTest, HalfAFrameIsCutOffAtTheHelloLimit) {
  RawClient client(daemon_.socket());
  EXPECT_TRUE(client.SendBytes(Frame(1'000, "half")));
  const auto began = std::chrono::steady_clock::now();
  EXPECT_TRUE(client.Ended());
  EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(15));
}

TEST_F(SessionHostileTest, ARequestBeforeHelloIsRefusedAndEndsTheConnection) {
  RawClient client(daemon_.socket());
  proto::ClientMessage status;
  status.mutable_status();
  const proto::ServerMessage reply = client.Call(status);
  EXPECT_EQ(reply.error().code(), static_cast<std::uint32_t>(Errc::kInvalidArgument));
  EXPECT_TRUE(client.Ended());
}

TEST_F(SessionHostileTest, AnotherProtocolVersionIsToldBothVersions) {
  RawClient client(daemon_.socket());
  proto::ClientMessage hello;
  hello.mutable_hello()->set_protocol_version(77);
  const proto::ServerMessage reply = client.Call(hello);
  EXPECT_EQ(reply.error().code(), static_cast<std::uint32_t>(Errc::kVersionMismatch));
  EXPECT_NE(reply.error().message().find("77"), std::string::npos);
  EXPECT_NE(reply.error().message().find("version 1"), std::string::npos);
  EXPECT_TRUE(client.Ended());
}

TEST_F(SessionHostileTest, ASecondHelloIsRefusedAndTheSessionGoesOn) {
  RawClient client(daemon_.socket());
  client.Hello();
  proto::ClientMessage hello;
  hello.mutable_hello()->set_protocol_version(1);
  EXPECT_TRUE(client.Call(hello).has_error());
  proto::ClientMessage ping;
  ping.mutable_ping();
  EXPECT_TRUE(client.Call(ping).has_ping());
}

TEST_F(SessionHostileTest, RequestsOfARankWithoutARankAreRefused) {
  RawClient client(daemon_.socket());
  client.Hello();
  std::vector<proto::ClientMessage> requests(6);
  requests[0].mutable_begin()->set_step(1);
  requests[1].mutable_seal()->set_step(1);
  requests[2].mutable_restore();
  requests[3].mutable_loaded()->set_attempt(7);
  requests[4].mutable_torn();
  requests[5].mutable_copies_done()->set_slot(3);
  for (const proto::ClientMessage& request : requests) {
    EXPECT_TRUE(client.Call(request).has_error()) << request.ShortDebugString();
  }
}

TEST_F(SessionHostileTest, OneConnectionTooManyIsToldSo) {
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<RawClient>(daemon_.socket()));
    clients.back()->Hello();
  }
  RawClient extra(daemon_.socket());
  const proto::ServerMessage reply = extra.Receive();
  EXPECT_EQ(reply.error().code(), static_cast<std::uint32_t>(Errc::kUnavailable));
  EXPECT_TRUE(extra.Ended());
  clients.clear();
  // Their places come back (a moment after the ends are seen).
  const auto deadline = std::chrono::steady_clock::now() + seconds(20);
  bool served = false;
  while (!served && std::chrono::steady_clock::now() < deadline) {
    served = client::AdminClient::Connect(daemon_.socket(), "test", kLimit).has_value();
  }
  EXPECT_TRUE(served);
}

TEST_F(SessionHostileTest, AClientThatDoesNotReadIsCutOff) {
  RawClient client(daemon_.socket());
  client.Hello();
  proto::ClientMessage ping;
  ping.mutable_ping();
  // The answers fill the socket's buffer; then nothing moves for send_timeout.
  bool cut = false;
  for (int i = 0; i < 1'000'000 && !cut; ++i) {
    cut = !client.Send(ping);
  }
  EXPECT_TRUE(cut);
}

TEST_F(SessionHostileTest, LayoutsThatDoNotHoldAreRefused) {
  RawClient client(daemon_.socket());
  client.Hello();
  const proto::OpenIncarnationReply opened = OpenJob(&client);
  std::vector<proto::ClientMessage> bad(4, RegisterOf(opened, LayoutOf(1'000)));
  bad[0].mutable_register_()->set_layout_hash(std::string(16, 'x'));
  bad[1].mutable_register_()->mutable_layout()->set_dynamic_image_bytes(1ULL << 62);
  bad[2].mutable_register_()->mutable_layout()->mutable_tensors(0)->set_offset_bytes(7);
  bad[3].mutable_register_()->clear_layout();
  for (const proto::ClientMessage& request : bad) {
    EXPECT_TRUE(client.Call(request).has_error()) << request.ShortDebugString();
  }
  EXPECT_TRUE(client.Call(RegisterOf(opened, LayoutOf(1'000))).has_register_());
}

TEST_F(SessionHostileTest, ARegistrationOverTheBudgetIsRefusedWithTheNumbers) {
  RawClient client(daemon_.socket());
  client.Hello();
  const proto::ServerMessage reply =
      client.Call(RegisterOf(OpenJob(&client), LayoutOf(100'000'000)));
  EXPECT_EQ(reply.error().code(), static_cast<std::uint32_t>(Errc::kNoSpace));
  EXPECT_NE(reply.error().message().find("128 MiB"), std::string::npos) << reply.error().message();
}

// Design section 11: a client can hurt its own job only, and not for ever (L): neither its next
// snapshot nor the next trainer gets what it cut.
class CutSlotTest : public SessionHostileTest {
 protected:
  static constexpr std::uint64_t kElements = 2'000'000;

  void CutAndFailToSeal(RawClient* client, off_t length) {
    grant_ = tests::JoinAndAwaitGrant(client, "job", kElements);
    ASSERT_TRUE(client->Call(tests::BeginOf(grant_, 1)).has_begin());
    ASSERT_EQ(::ftruncate(client->fds[0].Get(), length), 0);
    EXPECT_TRUE(client->Call(tests::SealOf(grant_, 1)).has_error())
        << "I5, I7: nothing was there to be sealed";
  }

  // Without digests: the daemon reads its own mapping of the slot.
  void ExpectSeals(RawClient* client, const proto::GrantEvent& grant, std::int64_t step) {
    EXPECT_NE(grant.slot(), grant_.slot());
    EXPECT_TRUE(client->Call(tests::BeginOf(grant, step)).has_begin());
    const proto::ServerMessage sealed = client->Call(tests::SealOf(grant, step));
    EXPECT_TRUE(sealed.has_seal()) << sealed.ShortDebugString();
  }

  proto::GrantEvent grant_;
};

TEST_F(CutSlotTest, IsNeverGrantedAgainToTheSameClient) {
  RawClient client(daemon_.socket());
  client.Hello();
  CutAndFailToSeal(&client, 0);
  for (std::int64_t step = 2; step < 6; ++step) {
    ExpectSeals(&client, tests::AwaitGrant(&client), step);
  }
}

TEST_F(CutSlotTest, IsNeverGrantedToTheNextTrainer) {
  {
    RawClient client(daemon_.socket());
    client.Hello();
    CutAndFailToSeal(&client, 0);
  }
  RawClient next(daemon_.socket());
  next.Hello();
  ExpectSeals(&next, tests::JoinAndAwaitGrant(&next, "job", kElements), 1);
}

// Its bytes are sealed first; the cut is seen when the slot is due again.
TEST_F(CutSlotTest, ASealedSlotThatIsCutLaterIsNotGrantedAgain) {
  RawClient client(daemon_.socket());
  client.Hello();
  grant_ = tests::JoinAndAwaitGrant(&client, "job", kElements);
  ASSERT_TRUE(client.Call(tests::BeginOf(grant_, 1)).has_begin());
  ASSERT_TRUE(client.Call(tests::SealOf(grant_, 1)).has_seal());
  ASSERT_EQ(::ftruncate(client.fds[0].Get(), 4'096), 0);
  for (std::int64_t step = 2; step < 8; ++step) {
    ExpectSeals(&client, tests::AwaitGrant(&client), step);
  }
}

}  // namespace
}  // namespace holdfast
