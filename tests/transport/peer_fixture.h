// What the tests of the peer protocol share: nodes in one process on loopback, certificates, and a
// raw peer that says what a test likes.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gtest/gtest.h>

#include "common/task_group.h"
#include "transport/peer_channel.h"
#include "transport/peer_client.h"
#include "transport/peer_context.h"
#include "transport/peer_messages.h"
#include "transport/peer_server.h"

namespace holdfast::transport {

namespace asio = boost::asio;

[[nodiscard]] std::string Uuid(char letter);
[[nodiscard]] proto::PeerRequest SidecarOf(char job);
[[nodiscard]] proto::PeerRequest ReadOf(std::uint64_t offset, std::uint32_t length);
[[nodiscard]] proto::PeerRequest ReportOf(char sender, std::uint64_t epoch, std::uint64_t sequence);

// A folder with an authority, made once for the test program ("ca", "other").
[[nodiscard]] std::string Authority(const std::string& name);
[[nodiscard]] TlsFiles FilesOf(const std::string& authority, char node);
[[nodiscard]] std::shared_ptr<const TlsContext> TlsOf(const std::string& authority, char node);

// A daemon's peer side.  Its handler answers reads with bytes that follow from the offset, all else
// with an empty reply; with "hold" set, requests wait until the test lets them go.
class Node {
 public:
  struct Options {
    char name = 'a';
    std::uint64_t boot = 1;
    std::shared_ptr<const TlsContext> tls;
    PeerLimits limits;
    PeerServerLimits server;
  };

  Node(asio::io_context& io, const Options& options);

  void Listen(std::uint16_t port = 0);
  [[nodiscard]] std::uint16_t port() const;
  void LetGo(std::size_t held);  // index of those held, in order of arrival

  asio::io_context& io_;
  bool hold = false;
  bool deaf = false;  // held requests do not hear their cancellation
  std::size_t cancelled = 0;
  std::vector<proto::PeerRequest> arrived;
  std::deque<std::shared_ptr<asio::steady_timer>> held;
  std::vector<std::shared_ptr<PeerChannel>> ups;
  std::vector<Error> downs;
  PeerContext context;
  PeerServer server;

 private:
  [[nodiscard]] PeerContext::Hooks MakeHooks();
  [[nodiscard]] asio::awaitable<Result<proto::PeerReply>> Handle(proto::PeerRequest request);
};

// A socket of the test's own.
class RawPeer {
 public:
  explicit RawPeer(asio::io_context& io) : socket(io) {}

  void Connect(std::uint16_t port);
  void Send(const std::string& bytes);
  void SendMessage(const proto::PeerMessage& message);
  void SendHello(char name, std::uint32_t version = kPeerProtocolVersion, std::uint64_t boot = 1);

  asio::ip::tcp::socket socket;
};

class PeerTest : public testing::Test {
 protected:
  ~PeerTest() override;

  template <class T>
  static asio::awaitable<void> Store(asio::awaitable<T> work, std::optional<T>* out) {
    co_await asio::this_coro::throw_if_cancelled(false);
    out->emplace(co_await std::move(work));
  }

  // In the loop, as a daemon does it: a cancellation from outside of it comes when its target may
  // be gone.
  template <class Stoppable>
  static asio::awaitable<bool> StopAndJoin(Stoppable* what) {
    what->Stop();
    co_return co_await what->Join(std::chrono::seconds(10));
  }

  // Starts a task whose result lands in "out".
  template <class T>
  void Start(asio::awaitable<T> work, std::optional<T>* out) {
    ASSERT_TRUE(tasks_.Spawn(Store(std::move(work), out)));
  }

  template <class T>
  T RunToEnd(asio::awaitable<T> work) {
    std::optional<T> out;
    Start(std::move(work), &out);
    EXPECT_TRUE(RunUntil([&out] { return out.has_value(); }));
    return std::move(*out);
  }

  // False after 20 s.
  [[nodiscard]] bool RunUntil(const std::function<bool()>& done);

  // What a raw peer hears until the connection ends, or until "enough" says so.
  [[nodiscard]] std::vector<proto::PeerMessage> Hear(
      RawPeer* peer,
      const std::function<bool(const std::vector<proto::PeerMessage>&)>& enough = nullptr);

  // Stops and joins; afterwards nothing of the node may run (I12).
  void End(Node* node);
  void End(PeerClient* client);

  // A client of "from" that is connected with "to".
  [[nodiscard]] std::unique_ptr<PeerClient> Connected(Node* from, Node* to);

  asio::io_context io_{1};
  TaskGroup tasks_{io_.get_executor(), "test", 20'000};
};

}  // namespace holdfast::transport
