#include "client/fork_guard.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <type_traits>

#include <pthread.h>
#include <unistd.h>

#include "common/check.h"

namespace holdfast::client {
namespace {

// A plain list and a plain mutex: the child handler may touch nothing that could be in the middle
// of a change in another thread, and with the mutex taken before the fork this is not.
struct Registry {
  std::mutex mutex;
  ForkGuard* first = nullptr;
  bool handlers_installed = false;
};

// No destructor runs: a thread of a client that was not closed may still use it at exit.
static_assert(std::is_trivially_destructible_v<Registry>);
constinit Registry the_registry;

Registry& TheRegistry() {
  return the_registry;
}

}  // namespace

ForkGuard::Section::Section() {
  TheRegistry().mutex.lock();
}

ForkGuard::Section::~Section() {
  TheRegistry().mutex.unlock();
}

ForkGuard::ForkGuard() {
  std::fill(std::begin(fds_), std::end(fds_), -1);
  Registry& registry = TheRegistry();
  std::lock_guard lock(registry.mutex);
  if (!registry.handlers_installed) {
    HOLDFAST_CHECK(pthread_atfork(&Prepare, &InParent, &InChild) == 0);
    registry.handlers_installed = true;
  }
  next_ = registry.first;
  registry.first = this;
}

ForkGuard::~ForkGuard() {
  Registry& registry = TheRegistry();
  std::lock_guard lock(registry.mutex);
  ForkGuard** link = &registry.first;
  while (*link != this) {
    link = &(*link)->next_;
  }
  *link = next_;
}

void ForkGuard::Watch(int which, int fd) {
  HOLDFAST_CHECK(which >= 0 && which < kWatched);
  fds_[which] = fd;
}

void ForkGuard::Prepare() {
  TheRegistry().mutex.lock();
}

void ForkGuard::InParent() {
  TheRegistry().mutex.unlock();
}

void ForkGuard::InChild() {
  for (ForkGuard* guard = TheRegistry().first; guard != nullptr; guard = guard->next_) {
    guard->forked_.store(true, std::memory_order_relaxed);
    for (int& fd : guard->fds_) {
      if (fd >= 0) {
        ::close(fd);
        fd = -1;
      }
    }
  }
  TheRegistry().mutex.unlock();
}

}  // namespace holdfast::client
