#include "transport/session_socket.h"

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/messages.h"
#include "transport/unix_socket.h"

namespace holdfast::transport {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

class SessionSocketTest : public testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> fds{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    SessionSocket::Socket socket(io_);
    socket.assign(asio::local::stream_protocol(), fds[0]);
    session_ = std::make_unique<SessionSocket>(std::move(socket));
    client_ = std::make_unique<UnixSocket>(OwnedFd(fds[1]));
  }

  template <class T>
  static asio::awaitable<void> Store(asio::awaitable<T> work, std::optional<T>* out) {
    out->emplace(co_await std::move(work));
  }

  // Starts a coroutine whose result lands in "out"; Poll() moves it on.
  template <class T>
  void Start(asio::awaitable<T> work, std::optional<T>* out) {
    asio::co_spawn(io_, Store(std::move(work), out), [](std::exception_ptr failure) {
      ASSERT_EQ(failure, nullptr);
    });
  }

  template <class T>
  T RunToEnd(asio::awaitable<T> work) {
    std::optional<T> out;
    Start(std::move(work), &out);
    io_.restart();
    io_.run_for(std::chrono::seconds(20));
    EXPECT_TRUE(out.has_value()) << "the coroutine did not end";
    return std::move(*out);
  }

  void Poll() {
    io_.restart();
    io_.poll();
  }

  static proto::ClientMessage Ping(std::uint64_t id) {
    proto::ClientMessage message;
    message.set_request_id(id);
    message.mutable_ping();
    return message;
  }

  asio::io_context io_{1};
  std::unique_ptr<SessionSocket> session_;
  std::unique_ptr<UnixSocket> client_;
};

TEST_F(SessionSocketTest, RequestsArriveInOrder) {
  for (std::uint64_t id = 1; id <= 3; ++id) {
    const std::string frame = EncodeFrame(Ping(id)).value();
    ASSERT_FALSE(client_->Send(AsBytes(frame), -1, milliseconds(1000)).has_error());
  }
  for (std::uint64_t id = 1; id <= 3; ++id) {
    auto message = RunToEnd(session_->Receive());
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(message.value().request_id(), id);
  }
}

TEST_F(SessionSocketTest, DescriptorGoesOutWithItsMessage) {
  const OwnedFd file(::memfd_create("slot", MFD_CLOEXEC));
  proto::ServerMessage message;
  message.mutable_grant()->set_has_fd(true);
  const auto status = RunToEnd(session_->Send(message, file.Get()));
  ASSERT_FALSE(status.has_error());
  ASSERT_TRUE(client_->Receive(milliseconds(1000)).has_value());
  EXPECT_TRUE(client_->TakeFd().has_value());
}

TEST_F(SessionSocketTest, DescriptorWithoutAnnouncementIsNotSent) {
  proto::ServerMessage message;
  message.mutable_grant()->set_has_fd(true);
  EXPECT_EQ(RunToEnd(session_->Send(message, -1)).error().code, Errc::kInvalidArgument);
  message.mutable_grant()->set_has_fd(false);
  EXPECT_EQ(RunToEnd(session_->Send(message, 0)).error().code, Errc::kInvalidArgument);
}

TEST_F(SessionSocketTest, GarbageIsCorruption) {
  ASSERT_EQ(::write(client_->NativeHandle(), "GET / HTTP/1.1\r\n", 16), 16);
  EXPECT_EQ(RunToEnd(session_->Receive()).error().code, Errc::kCorruption);
}

TEST_F(SessionSocketTest, HalfAFrameThatStallsCostsOnlyWhatArrived) {
  char header[kFrameHeaderBytes];
  ASSERT_FALSE(EncodeFrameHeader(kMaxFramePayloadBytes, header).has_error());
  ASSERT_EQ(::write(client_->NativeHandle(), header, sizeof header),
            static_cast<ssize_t>(sizeof header));
  std::optional<Result<proto::ClientMessage>> out;
  Start(session_->Receive(), &out);
  Poll();
  EXPECT_FALSE(out.has_value());
  EXPECT_LE(session_->BufferedBytes(), 64 * kKiB);
  session_->Close();  // I12: the coroutine ends
  Poll();
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->error().code, Errc::kCancelled);
}

TEST_F(SessionSocketTest, ClientThatDoesNotReadSuspendsTheSenderUntilClose) {
  proto::ServerMessage message;
  message.mutable_outcome()->set_reason(std::string(4 * kMiB, 'x'));
  std::optional<Status> out;
  Start(session_->Send(message, -1), &out);
  Poll();
  EXPECT_FALSE(out.has_value());
  session_->Close();
  Poll();
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->error().code, Errc::kCancelled);
}

TEST_F(SessionSocketTest, LargeMessageArrivesWholeOnceTheClientReads) {
  proto::ServerMessage message;
  message.mutable_outcome()->set_reason(std::string(4 * kMiB, 'x'));
  std::optional<Status> out;
  Start(session_->Send(message, -1), &out);
  Result<ByteView> payload = Error(Errc::kTimeout, "not yet");
  for (int i = 0; i < 10'000 && payload.has_error(); ++i) {
    Poll();
    payload = client_->Receive(milliseconds(0));
    ASSERT_TRUE(payload.has_value() || payload.error().code == Errc::kTimeout);
  }
  ASSERT_TRUE(payload.has_value());
  EXPECT_EQ(ParseServerMessage(payload.value()).value().outcome().reason().size(), 4 * kMiB);
}

TEST_F(SessionSocketTest, ClosedClientIsUnavailable) {
  client_.reset();
  EXPECT_EQ(RunToEnd(session_->Receive()).error().code, Errc::kUnavailable);
  proto::ServerMessage message;
  message.mutable_ping();
  EXPECT_EQ(RunToEnd(session_->Send(message, -1)).error().code, Errc::kUnavailable);
}

TEST_F(SessionSocketTest, DescriptorsThatAClientSendsAreNotInstalled) {
  const OwnedFd file(::memfd_create("hostile", MFD_CLOEXEC));
  const int next_before = ::dup(0);
  ::close(next_before);
  const std::string frame = EncodeFrame(Ping(1)).value();
  ASSERT_FALSE(client_->Send(AsBytes(frame), file.Get(), milliseconds(1000)).has_error());
  ASSERT_TRUE(RunToEnd(session_->Receive()).has_value());
  const int next_after = ::dup(0);
  ::close(next_after);
  EXPECT_EQ(next_after, next_before);
}

TEST_F(SessionSocketTest, PeerIsNamedByTheKernel) {
  auto peer = session_->Peer();
  ASSERT_TRUE(peer.has_value());
  EXPECT_EQ(peer.value().pid, ::getpid());
  EXPECT_EQ(peer.value().uid, ::getuid());
  EXPECT_EQ(peer.value().gid, ::getgid());
  pollfd alive{peer.value().pidfd.Get(), POLLIN, 0};
  EXPECT_EQ(::poll(&alive, 1, 0), 0) << "this process lives";
}

}  // namespace
}  // namespace holdfast::transport
