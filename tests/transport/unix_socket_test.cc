#include "transport/unix_socket.h"

#include <array>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/unique_name.h"
#include "transport/frame.h"

namespace holdfast::transport {
namespace {

using std::chrono::milliseconds;

std::string Frame(const std::string& payload) {
  std::string frame(kFrameHeaderBytes, '\0');
  EXPECT_FALSE(EncodeFrameHeader(payload.size(), frame.data()).has_error());
  return frame + payload;
}

int OpenDescriptors() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  }
  return count;
}

struct Pair {
  Pair() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    ours = std::make_unique<UnixSocket>(OwnedFd(fds[0]));
    theirs = std::make_unique<UnixSocket>(OwnedFd(fds[1]));
  }

  std::unique_ptr<UnixSocket> ours;
  std::unique_ptr<UnixSocket> theirs;
};

OwnedFd MemoryFile(const std::string& content) {
  OwnedFd fd(::memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(::write(fd.Get(), content.data(), content.size()),
            static_cast<ssize_t>(content.size()));
  return fd;
}

std::string Received(UnixSocket* socket) {
  const auto payload = socket->Receive(milliseconds(5000));
  return payload.has_value() ? std::string(AsText(payload.value())) : payload.error().ToString();
}

TEST(UnixSocketTest, DescriptorArrivesWithItsFrameAmongOthers) {
  Pair pair;
  const OwnedFd file = MemoryFile("content");
  // The kernel joins the first two frames into one read, with the descriptor of the second.
  ASSERT_FALSE(pair.theirs->Send(AsBytes(Frame("one")), -1, milliseconds(1000)).has_error());
  ASSERT_FALSE(
      pair.theirs->Send(AsBytes(Frame("two")), file.Get(), milliseconds(1000)).has_error());
  ASSERT_FALSE(pair.theirs->Send(AsBytes(Frame("three")), -1, milliseconds(1000)).has_error());
  EXPECT_EQ(Received(pair.ours.get()), "one");
  EXPECT_EQ(Received(pair.ours.get()), "two");
  const auto fd = pair.ours->TakeFd();
  ASSERT_TRUE(fd.has_value());
  EXPECT_NE(::fcntl(fd.value().Get(), F_GETFD) & FD_CLOEXEC, 0);

  struct stat status {};

  ASSERT_EQ(::fstat(fd.value().Get(), &status), 0);
  EXPECT_EQ(status.st_size, 7);
  EXPECT_EQ(Received(pair.ours.get()), "three");
}

TEST(UnixSocketTest, DescriptorThatNobodyAnnouncedIsClosedAndEndsTheConnection) {
  const int before = OpenDescriptors();
  {
    Pair pair;
    const OwnedFd file = MemoryFile("x");
    ASSERT_FALSE(
        pair.theirs->Send(AsBytes(Frame("one")), file.Get(), milliseconds(1000)).has_error());
    ASSERT_FALSE(pair.theirs->Send(AsBytes(Frame("two")), -1, milliseconds(1000)).has_error());
    EXPECT_EQ(Received(pair.ours.get()), "one");  // not taken
    EXPECT_EQ(pair.ours->Receive(milliseconds(1000)).error().code, Errc::kCorruption);
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST(UnixSocketTest, TwoDescriptorsAtOnceAreRefusedAndClosed) {
  const int before = OpenDescriptors();
  {
    std::array<int, 2> fds{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds.data()), 0);
    UnixSocket ours{OwnedFd(fds[0])};
    const OwnedFd theirs(fds[1]);
    const OwnedFd file = MemoryFile("x");
    std::string frame = Frame("x");
    iovec part{frame.data(), frame.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(3 * sizeof(int));
    const std::array<int, 3> three = {file.Get(), file.Get(), file.Get()};
    std::memcpy(CMSG_DATA(rights), three.data(), sizeof three);
    ASSERT_GT(::sendmsg(theirs.Get(), &message, 0), 0);
    EXPECT_EQ(ours.Receive(milliseconds(1000)).error().code, Errc::kCorruption);
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

// Who must keep it from a fork cannot wait for the rest.
TEST(UnixSocketTest, ADescriptorIsKnownBeforeItsFrameIsWhole) {
  Pair pair;
  const OwnedFd file = MemoryFile("content");
  const std::string frame = Frame("payload");
  EXPECT_EQ(pair.ours->WaitReadable(milliseconds(0)).error().code, Errc::kTimeout);
  ASSERT_FALSE(
      pair.theirs->Send(AsBytes(frame.substr(0, 5)), file.Get(), milliseconds(1000)).has_error());
  EXPECT_FALSE(pair.ours->WaitReadable(milliseconds(5000)).has_error());
  EXPECT_EQ(pair.ours->Receive(milliseconds(0)).error().code, Errc::kTimeout);
  ASSERT_EQ(pair.ours->Arrived().size(), 1U);
  EXPECT_GE(::fcntl(pair.ours->Arrived().front(), F_GETFD), 0);
  ASSERT_FALSE(pair.theirs->Send(AsBytes(frame.substr(5)), -1, milliseconds(1000)).has_error());
  EXPECT_EQ(Received(pair.ours.get()), "payload");
  const auto fd = pair.ours->TakeFd();
  ASSERT_TRUE(fd.has_value());
  EXPECT_TRUE(pair.ours->Arrived().empty());
}

TEST(UnixSocketTest, MissingDescriptorIsSaid) {
  Pair pair;
  ASSERT_FALSE(pair.theirs->Send(AsBytes(Frame("x")), -1, milliseconds(1000)).has_error());
  EXPECT_EQ(Received(pair.ours.get()), "x");
  EXPECT_EQ(pair.ours->TakeFd().error().code, Errc::kCorruption);
}

TEST(UnixSocketTest, SilenceIsATimeoutAndNothingIsLost) {
  Pair pair;
  const std::string frame = Frame("payload");
  EXPECT_EQ(pair.ours->Receive(milliseconds(1)).error().code, Errc::kTimeout);
  ASSERT_EQ(::write(pair.theirs->NativeHandle(), frame.data(), 5), 5);
  EXPECT_EQ(pair.ours->Receive(milliseconds(1)).error().code, Errc::kTimeout);
  ASSERT_GT(::write(pair.theirs->NativeHandle(), frame.data() + 5, frame.size() - 5), 0);
  EXPECT_EQ(Received(pair.ours.get()), "payload");
}

TEST(UnixSocketTest, EndOfStreamIsUnavailableAlsoInTheMiddleOfAFrame) {
  Pair pair;
  const std::string frame = Frame("payload");
  ASSERT_EQ(::write(pair.theirs->NativeHandle(), frame.data(), 9), 9);
  pair.theirs.reset();
  EXPECT_EQ(pair.ours->Receive(milliseconds(1000)).error().code, Errc::kUnavailable);
}

TEST(UnixSocketTest, ReaderThatStopsReadingCostsATimeoutThatIsFinal) {
  Pair pair;
  const std::string large = Frame(std::string(8 * kMiB, 'x'));
  EXPECT_EQ(pair.ours->Send(AsBytes(large), -1, milliseconds(20)).error().code, Errc::kTimeout);
  // The frame is cut: nothing may follow it.
  EXPECT_EQ(pair.ours->Send(AsBytes(Frame("x")), -1, milliseconds(20)).error().code,
            Errc::kUnavailable);
}

TEST(UnixSocketTest, ShutdownWakesAReceiver) {
  Pair pair;
  std::thread waker([&] { pair.ours->Shutdown(); });
  EXPECT_EQ(pair.ours->Receive(milliseconds(60'000)).error().code, Errc::kUnavailable);
  waker.join();
}

TEST(UnixSocketTest, NobodyListeningIsUnavailableAndSaysWhere) {
  const std::string path = tests::UniqueName("/tmp/hf-nobody") + ".sock";
  const auto socket = UnixSocket::Connect(path, milliseconds(100));
  ASSERT_TRUE(socket.has_error());
  EXPECT_EQ(socket.error().code, Errc::kUnavailable);
  EXPECT_NE(socket.error().message.find(path), std::string::npos);
}

TEST(UnixSocketTest, PathThatDoesNotFitIsInvalid) {
  EXPECT_EQ(UnixSocket::Connect(std::string(108, 'x'), milliseconds(10)).error().code,
            Errc::kInvalidArgument);
  EXPECT_EQ(UnixSocket::Connect("", milliseconds(10)).error().code, Errc::kInvalidArgument);
}

TEST(UnixSocketTest, ListenerThatNeverAcceptsIsATimeout) {
  const std::string path = tests::UniqueName("/tmp/hf-full") + ".sock";
  const OwnedFd listener(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlink(path.c_str());
  ASSERT_EQ(::bind(listener.Get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.Get(), 0), 0);
  std::vector<std::unique_ptr<UnixSocket>> queued;
  Errc code = Errc::kInternal;
  for (int i = 0; i < 8; ++i) {  // the queue has room for one or two
    auto socket = UnixSocket::Connect(path, milliseconds(20));
    if (socket.has_error()) {
      code = socket.error().code;
      break;
    }
    queued.push_back(std::move(socket).value());
  }
  EXPECT_EQ(code, Errc::kTimeout);
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace holdfast::transport
