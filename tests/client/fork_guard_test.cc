#include "client/fork_guard.h"

#include <functional>
#include <memory>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "transport/owned_fd.h"

namespace holdfast::client {
namespace {

bool IsOpen(int fd) {
  return ::fcntl(fd, F_GETFD) != -1;
}

// What "check" finds in a forked child.
bool InChild(const std::function<bool()>& check) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(check() ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

transport::OwnedFd MakeFd() {
  return transport::OwnedFd(::eventfd(0, EFD_CLOEXEC));
}

// I7: a data loader that holds the socket would keep a dead trainer's session alive.
TEST(ForkGuardTest, AChildHasNeitherDescriptorAndTheParentKeepsBoth) {
  const transport::OwnedFd first = MakeFd();
  const transport::OwnedFd second = MakeFd();
  const transport::OwnedFd other = MakeFd();
  ForkGuard guard;
  {
    const ForkGuard::Section section;
    guard.Watch(0, first.Get());
    guard.Watch(1, second.Get());
  }
  EXPECT_TRUE(InChild([&] {
    return guard.Forked() && !IsOpen(first.Get()) && !IsOpen(second.Get()) && IsOpen(other.Get());
  }));
  EXPECT_FALSE(guard.Forked());
  EXPECT_TRUE(IsOpen(first.Get()));
  EXPECT_TRUE(IsOpen(second.Get()));
}

TEST(ForkGuardTest, ADescriptorThatWasTakenOutIsNotClosedThoughItsNumberIsUsedAgain) {
  const transport::OwnedFd fd = MakeFd();
  ForkGuard guard;
  {
    const ForkGuard::Section section;
    guard.Watch(0, fd.Get());
    guard.Watch(0, -1);
  }
  EXPECT_TRUE(InChild([&] { return guard.Forked() && IsOpen(fd.Get()); }));
}

TEST(ForkGuardTest, EveryClientOfTheProcessIsMarkedAndThoseThatEndedAreNotTouched) {
  const transport::OwnedFd first = MakeFd();
  const transport::OwnedFd ended = MakeFd();
  auto a = std::make_unique<ForkGuard>();
  auto b = std::make_unique<ForkGuard>();
  auto c = std::make_unique<ForkGuard>();
  {
    const ForkGuard::Section section;
    a->Watch(0, first.Get());
    b->Watch(0, ended.Get());
  }
  b.reset();
  EXPECT_TRUE(InChild(
      [&] { return a->Forked() && c->Forked() && !IsOpen(first.Get()) && IsOpen(ended.Get()); }));
}

TEST(ForkGuardTest, AChildMayForkAgainAndEndItsClients) {
  auto guard = std::make_unique<ForkGuard>();
  EXPECT_TRUE(InChild([&] {
    const bool grandchild = InChild([&] { return guard->Forked(); });
    guard.reset();
    ForkGuard fresh;
    return grandchild && !fresh.Forked();
  }));
}

}  // namespace
}  // namespace holdfast::client
