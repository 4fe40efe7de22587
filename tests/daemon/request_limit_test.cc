// I9: what clients ask of a daemon that cannot answer is bounded, and I12: no request is forgotten,
// since it would count for ever.

#include <chrono>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "layout/image.h"
#include "tests/daemon/daemon_process.h"
#include "tests/daemon/raw_client.h"
#include "tests/daemon/raw_trainer.h"

namespace holdfast {
namespace {

using tests::DaemonProcess;
using tests::RawClient;

constexpr int kLimit = 4;
constexpr int kSessions = 8;

class RequestLimitTest : public testing::Test {
 protected:
  void StartDaemon(const std::string& failpoints) {
    DaemonProcess::Start start;
    start.config = "[clients]\nmax_requests = " + std::to_string(kLimit) +
                   "\nmax_sessions = " + std::to_string(kSessions) + "\n";
    start.failpoints = failpoints;
    ASSERT_TRUE(daemon_.StartAndWait(start));
  }

  void TearDown() override {
    EXPECT_TRUE(daemon_.Alive());
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  // A record waits for a catalog that cannot be written, and every later answer behind it.
  void BlockTheCatalog(RawClient* client) {
    proto::ClientMessage open;
    open.mutable_open_incarnation()->set_job_name("job");
    open.mutable_open_incarnation()->set_world_size(1);
    ASSERT_TRUE(client->Send(open));
    while (daemon_.Log().find("catalog.failed") == std::string::npos) {
      ASSERT_TRUE(daemon_.Alive());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  DaemonProcess daemon_;
};

bool IsRefusal(const proto::ServerMessage& reply, const std::string& word) {
  return reply.error().code() == static_cast<std::uint32_t>(Errc::kUnavailable) &&
         reply.error().message().find(word) != std::string::npos;
}

proto::ClientMessage ListRequest() {
  proto::ClientMessage list;
  list.mutable_list();
  return list;
}

proto::ClientMessage PingRequest() {
  proto::ClientMessage ping;
  ping.mutable_ping();
  return ping;
}

TEST_F(RequestLimitTest, WhileTheCatalogFailsOneSessionHasOnlySoManyRequestsWaiting) {
  StartDaemon("catalog.before_apply=error:28");
  RawClient client(daemon_.socket());
  client.Hello();
  BlockTheCatalog(&client);
  for (int i = 1; i < kLimit; ++i) {
    ASSERT_TRUE(client.Send(ListRequest()));
  }
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(IsRefusal(client.Call(ListRequest()), "clients.max_requests"));
  }
  EXPECT_TRUE(client.Call(PingRequest()).has_ping());
  EXPECT_TRUE(client.events.empty()) << "nothing was answered before its record";
}

// Who asks, leaves and comes again has a full count each time; what was asked waits all the same.
TEST_F(RequestLimitTest, WhileTheCatalogFailsReconnectingDoesNotFillTheQueue) {
  StartDaemon("catalog.before_apply=error:28");
  RawClient first(daemon_.socket());
  first.Hello();
  BlockTheCatalog(&first);
  bool refused = false;
  for (int i = 0; i < 10 * kSessions && !refused; ++i) {
    RawClient client(daemon_.socket());
    client.Hello();
    for (int k = 0; k < kLimit; ++k) {
      ASSERT_TRUE(client.Send(ListRequest()));
    }
    // Answered in order: what the core has taken is silent, what was refused is not.
    client.Call(PingRequest());
    refused = !client.events.empty() && IsRefusal(client.events.front(), "catalog");
  }
  EXPECT_TRUE(refused);
}

class WaitingRequestTest : public RequestLimitTest {
 protected:
  static constexpr std::uint32_t kWorld = 2;  // the second rank never comes: a restore waits

  proto::OpenIncarnationReply Open(RawClient* client) {
    proto::ClientMessage open;
    open.mutable_open_incarnation()->set_job_name("job");
    open.mutable_open_incarnation()->set_world_size(kWorld);
    const proto::ServerMessage reply = client->Call(open);
    EXPECT_TRUE(reply.has_open_incarnation()) << reply.ShortDebugString();
    return reply.open_incarnation();
  }

  void Register(RawClient* client, const proto::OpenIncarnationReply& opened) {
    std::vector<layout::TensorSpec> specs(1);
    specs[0].name = "weights";
    specs[0].dtype = proto::F32;
    specs[0].global_shape = {1'000};
    specs[0].local_shape = {1'000};
    specs[0].tensor_class = proto::STABLE;
    proto::ClientMessage message;
    proto::RegisterRequest* request = message.mutable_register_();
    request->set_job_name("job");
    request->set_job_uid(opened.job_uid());
    request->set_epoch_number(opened.number());
    request->set_epoch_token(opened.token());
    request->set_world_size(kWorld);
    request->set_last_begun_step(-1);
    *request->mutable_layout() = layout::PlanImage(specs).value();
    request->set_layout_hash(layout::LayoutHash(request->layout()));
    ASSERT_TRUE(client->Call(message).has_register_());
  }

  static std::vector<std::uint32_t> ErrorsAmongEvents(const RawClient& client) {
    std::vector<std::uint32_t> codes;
    for (const proto::ServerMessage& message : client.events) {
      if (message.has_error()) {
        codes.push_back(message.error().code());
      }
    }
    return codes;
  }
};

// A client that gives up waiting and asks again must not use up its own limit.
TEST_F(WaitingRequestTest, ARequestThatALaterOneReplacesIsAnswered) {
  StartDaemon("");
  RawClient client(daemon_.socket());
  client.Hello();
  Register(&client, Open(&client));
  proto::ClientMessage restore;
  restore.mutable_restore();
  ASSERT_TRUE(client.Send(restore));
  for (int i = 0; i < 5 * kLimit; ++i) {
    ASSERT_TRUE(client.Send(restore));
    proto::ServerMessage reply = client.Receive();
    while (reply.request_id() == 0 && reply.body_case() != proto::ServerMessage::BODY_NOT_SET) {
      reply = client.Receive();
    }
    ASSERT_EQ(reply.error().code(), static_cast<std::uint32_t>(Errc::kCancelled))
        << reply.ShortDebugString();
  }
  EXPECT_TRUE(client.Call(ListRequest()).has_list());
}

TEST_F(WaitingRequestTest, ARequestOfAnIncarnationThatEndsIsAnswered) {
  StartDaemon("");
  RawClient client(daemon_.socket());
  client.Hello();
  Register(&client, Open(&client));
  proto::ClientMessage restore;
  restore.mutable_restore();
  ASSERT_TRUE(client.Send(restore));
  Open(&client);
  EXPECT_EQ(ErrorsAmongEvents(client),
            std::vector<std::uint32_t>({static_cast<std::uint32_t>(Errc::kFenced)}));
}

// L: a refusal would leave the two of different minds about the slot.
class SlotRequestTest : public WaitingRequestTest {
 protected:
  void SetUp() override {
    std::ofstream(Gate()) << "open";
    StartDaemon("catalog.apply.before=wait:" + Gate());
    client_ = std::make_unique<RawClient>(daemon_.socket());
    client_->Hello();
    grant_ = tests::JoinAndAwaitGrant(client_.get(), "job", 1'000);
    ASSERT_EQ(::unlink(Gate().c_str()), 0);
    // Its record waits, and every later answer behind it.
    ASSERT_TRUE(client_->Send(tests::BeginOf(grant_, 1)));
    ASSERT_TRUE(client_->Send(tests::SealOf(grant_, 1)));
  }

  void TearDown() override {
    std::ofstream(Gate()) << "open";
    WaitingRequestTest::TearDown();
  }

  [[nodiscard]] std::string Gate() const { return daemon_.folder() + "/gate"; }

  static proto::ClientMessage MissedOf(std::int64_t step) {
    proto::ClientMessage missed;
    missed.mutable_missed()->set_step(step);
    return missed;
  }

  std::unique_ptr<RawClient> client_;
  proto::GrantEvent grant_;
};

TEST_F(SlotRequestTest, AreNotRefusedWhileOthersAre) {
  // Fewer than what waits of all sessions may be.
  for (int i = 0; i < 5 * kLimit; ++i) {
    ASSERT_TRUE(client_->Send(MissedOf(2 + i)));
  }
  for (int i = 0; i < kLimit; ++i) {
    ASSERT_TRUE(client_->Send(ListRequest()));
  }
  EXPECT_TRUE(IsRefusal(client_->Call(ListRequest()), "clients.max_requests"));
  EXPECT_TRUE(ErrorsAmongEvents(*client_).empty());
  std::ofstream(Gate()) << "open";
  EXPECT_TRUE(client_->Call(tests::BeginOf(tests::AwaitGrant(client_.get()), 100)).has_begin());
  EXPECT_TRUE(ErrorsAmongEvents(*client_).empty());
}

// I9
TEST_F(SlotRequestTest, AFloodOfThemIsCutOff) {
  bool cut = false;
  for (int i = 0; i < 1'000'000 && !cut; ++i) {
    cut = !client_->Send(tests::BeginOf(grant_, i));
  }
  EXPECT_TRUE(cut);
  EXPECT_NE(daemon_.Log().find("without waiting for any answer"), std::string::npos);
}

}  // namespace
}  // namespace holdfast
