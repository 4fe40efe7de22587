// What a client may make the daemon hold, where timing would hide it from a test of real processes.

#include "daemon/session_server.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/io_thread.h"
#include "layout/image.h"
#include "storage_tiers/posix_file_system.h"
#include "tests/common/run_coroutine.h"
#include "tests/daemon/raw_client.h"
#include "tests/support/temp_folder.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using tests::RawClient;
using tests::RunCoroutine;

constexpr std::size_t kMaxRequests = 4;
// Three connections keep their buffers of 256 KiB; with their layouts they are above it.
constexpr ByteCount kRequestMemory = kMiB;

// Server and clients in one thread; nothing takes the core's Readys, so the core never answers.
class SessionServerTest : public testing::Test {
 protected:
  void SetUp() override {
    io_thread_.Bind();
    auto listener = Listener::Open(io_, folder_ + "/s", false);
    ASSERT_TRUE(listener.has_value()) << listener.error().ToString();
    server_.Start(std::move(listener).value());
  }

  void TearDown() override { EXPECT_TRUE(RunCoroutine(io_, End())); }

  asio::awaitable<bool> End() {
    server_.Stop();
    watch_.Stop();
    const bool server_ended = co_await server_.Join(seconds(20));
    co_return co_await watch_.Join(seconds(20)) && server_ended;
  }

  static ServerRules Rules() {
    ServerRules rules;
    rules.own_uid = ::geteuid();
    rules.max_requests = kMaxRequests;
    rules.request_memory_bytes = kRequestMemory;
    return rules;
  }

  static SessionServer::Hooks Hooks() {
    SessionServer::Hooks hooks;
    hooks.status_now = [](std::uint32_t) { return nullptr; };
    hooks.complete = [](proto::ServerMessage*) {};
    hooks.on_request = [](SessionId, const proto::ClientMessage&) {};
    hooks.on_reply = [](SessionId, const proto::ServerMessage&) {};
    hooks.on_ended = [](SessionId) {};
    return hooks;
  }

  TierSet::MakeFileSystem Maker() {
    return [] { return std::make_unique<storage_tiers::PosixFileSystem>(); };
  }

  // The next message, an empty one at the end of the connection.
  proto::ServerMessage Next(RawClient* client) {
    const auto deadline = std::chrono::steady_clock::now() + seconds(20);
    io_.restart();
    while (std::chrono::steady_clock::now() < deadline) {
      proto::ServerMessage message = client->Receive(milliseconds(0));
      if (message.body_case() != proto::ServerMessage::BODY_NOT_SET ||
          client->last_error == Errc::kUnavailable) {
        return message;
      }
      client->last_error = Errc::kInternal;
      io_.run_one_for(milliseconds(1));
    }
    ADD_FAILURE() << "no message came";
    return {};
  }

  std::unique_ptr<RawClient> Connect() {
    auto client = std::make_unique<RawClient>(folder_ + "/s");
    proto::ClientMessage hello;
    hello.mutable_hello()->set_protocol_version(1);
    client->Send(hello);
    EXPECT_TRUE(Next(client.get()).has_hello());
    return client;
  }

  // True: answered by a pong, so everything sent before was handled.
  bool Ping(RawClient* client) {
    proto::ClientMessage ping;
    ping.mutable_ping();
    client->Send(ping);
    return Next(client).has_ping();
  }

  TempFolder temp_{TempFolder::Where::kShort};
  const std::string folder_ = temp_.path();
  asio::io_context io_{1};
  IoThread io_thread_;
  WorkerPool cpu_{"cpu", 1};
  LayoutStore layouts_;
  TierSet tiers_{io_.get_executor(), TierOptions(), 2, Maker()};
  NodeCore core_{CoreOptions(), RecoveredState(), SystemClock().Now(), SystemClock().WallNow()};
  CoreGate gate_{&io_thread_, &core_, [] {}};
  ProcessWatch watch_{io_.get_executor(), 8, [](std::uint64_t) {}};
  RequestGate requests_{RequestRules(), &layouts_, &tiers_, &cpu_};
  SessionServer server_{io_.get_executor(),
                        Rules(),
                        proto::HelloReply(),
                        Hooks(),
                        &gate_,
                        &requests_,
                        &layouts_,
                        &watch_};
};

TEST_F(SessionServerTest, AMissingFolderOfTheSocketIsNamed) {
  const auto listener = Listener::Open(io_, folder_ + "/none/s", false);
  ASSERT_FALSE(listener.has_value());
  EXPECT_EQ(listener.error().code, Errc::kNotFound);
  const std::string text = listener.error().ToString();
  EXPECT_NE(text.find("there is no folder " + folder_ + "/none:"), std::string::npos) << text;
  EXPECT_NE(text.find("clients.socket"), std::string::npos) << text;
}

// I9.
TEST_F(SessionServerTest, AnAnswerMakesRoomForARequestAndAnEventDoesNot) {
  const auto client = Connect();
  proto::ClientMessage list;
  list.mutable_list();
  for (std::size_t i = 0; i < kMaxRequests; ++i) {
    client->Send(list);
  }
  // A pong counts for the moment in which it waits: so the place of the first list is asked for.
  client->Send(list);
  EXPECT_TRUE(Next(client.get()).has_error());
  Outgoing event;
  event.message.mutable_fenced();
  server_.Send(1, std::move(event));
  EXPECT_TRUE(Next(client.get()).has_fenced());
  client->Send(list);
  EXPECT_TRUE(Next(client.get()).has_error());
  Outgoing answer;
  answer.message.set_request_id(2);
  answer.message.mutable_list();
  server_.Send(1, std::move(answer));
  EXPECT_TRUE(Next(client.get()).has_list());
  client->Send(list);
  EXPECT_TRUE(Ping(client.get())) << "the request was refused";
}

proto::ClientMessage LargeRegistration() {
  std::vector<layout::TensorSpec> specs(1'500);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    specs[i].name = "tensor" + std::to_string(i) + std::string(60, 'x');
    specs[i].dtype = proto::F32;
    specs[i].global_shape = {10};
    specs[i].local_shape = {10};
    specs[i].tensor_class = proto::STABLE;
  }
  proto::ClientMessage message;
  *message.mutable_register_()->mutable_layout() = layout::PlanImage(specs).value();
  message.mutable_register_()->set_layout_hash(layout::LayoutHash(message.register_().layout()));
  EXPECT_GT(message.ByteSizeLong(), 100 * kKiB);
  EXPECT_LT(message.ByteSizeLong(), 200 * kKiB);
  return message;
}

// I9: a layout is held while it is checked, though nothing of it is received any more.
TEST_F(SessionServerTest, LayoutsBeingCheckedCountAndTheLargestIsCutOff) {
  std::promise<void> go;
  auto block = [gate = go.get_future().share()]() -> Status {
    gate.wait();
    return Ok();
  };
  TaskGroup blocker(io_.get_executor(), "blocker", 1);
  auto hold = [](WorkerPool* pool, auto function) -> asio::awaitable<void> {
    (void)co_await Offload(*pool, std::move(function));
  };
  ASSERT_TRUE(blocker.Spawn(hold(&cpu_, std::move(block))));
  std::vector<std::unique_ptr<RawClient>> clients;
  int cut = 0;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(Connect());
    clients.back()->Send(LargeRegistration());
    const auto witness = Connect();
    EXPECT_TRUE(Ping(witness.get()));
  }
  go.set_value();
  EXPECT_TRUE(RunCoroutine(io_, blocker.Join(seconds(20))));
  for (const auto& client : clients) {
    proto::ClientMessage ping;
    ping.mutable_ping();
    cut += client->Send(ping) && Next(client.get()).has_ping() ? 0 : 1;
  }
  EXPECT_GE(cut, 1);
  EXPECT_LT(cut, 3);
}

}  // namespace
}  // namespace holdfast::daemon
