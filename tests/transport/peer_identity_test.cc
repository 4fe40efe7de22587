#include "transport/peer_identity.h"

#include <cstring>
#include <string>

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/unique_name.h"

namespace holdfast::transport {
namespace {

TEST(PeerIdentityTest, DeathOfThePeerIsReadableThoughAForkHoldsItsSocket) {
  const std::string path = tests::UniqueName("/tmp/hf-peer") + ".sock";
  const OwnedFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlink(path.c_str());
  ASSERT_EQ(::bind(listener.Get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.Get(), 4), 0);
  const pid_t trainer = ::fork();
  ASSERT_GE(trainer, 0);
  if (trainer == 0) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      ::_exit(1);
    }
    const pid_t worker = ::fork();  // keeps the socket open
    if (worker != 0 && ::write(fd, &worker, sizeof worker) != sizeof worker) {
      ::_exit(1);
    }
    ::pause();
    ::_exit(0);
  }
  const OwnedFd accepted(::accept4(listener.Get(), nullptr, nullptr, SOCK_CLOEXEC));
  auto peer = ReadPeerIdentity(accepted.Get());
  ASSERT_TRUE(peer.has_value());
  EXPECT_EQ(peer.value().pid, trainer);
  pid_t worker = 0;
  ASSERT_EQ(::read(accepted.Get(), &worker, sizeof worker), static_cast<ssize_t>(sizeof worker));
  ::kill(trainer, SIGKILL);
  pollfd dead{peer.value().pidfd.Get(), POLLIN, 0};
  EXPECT_EQ(::poll(&dead, 1, 20'000), 1);
  char byte = 0;
  EXPECT_LT(::recv(accepted.Get(), &byte, 1, MSG_DONTWAIT), 0) << "no end of stream proves life";
  ::kill(worker, SIGKILL);
  ::waitpid(trainer, nullptr, 0);
  ::unlink(path.c_str());
}

TEST(PeerIdentityTest, DescriptorThatIsNoSocketIsAnError) {
  EXPECT_TRUE(ReadPeerIdentity(-1).has_error());
}

}  // namespace
}  // namespace holdfast::transport
