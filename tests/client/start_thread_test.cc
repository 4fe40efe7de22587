// Threads in a process that may have no more of them.
#include "client/start_thread.h"

#include <atomic>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <pthread.h>

#include "tests/client/few_threads.h"

namespace holdfast::client {
namespace {

// While it lives, the system refuses every thread: there is no room for its stack.  Limits that are
// lifted for root (ulimit -u) would refuse none.
class NoRoomForStacks {
 public:
  NoRoomForStacks() {
    EXPECT_EQ(::pthread_getattr_default_np(&before_), 0);
    pthread_attr_t huge{};
    EXPECT_EQ(::pthread_attr_init(&huge), 0);
    EXPECT_EQ(::pthread_attr_setstacksize(&huge, std::size_t{1} << 62), 0);
    EXPECT_EQ(::pthread_setattr_default_np(&huge), 0);
    ::pthread_attr_destroy(&huge);
  }

  ~NoRoomForStacks() {
    EXPECT_EQ(::pthread_setattr_default_np(&before_), 0);
    ::pthread_attr_destroy(&before_);
  }

  NoRoomForStacks(const NoRoomForStacks&) = delete;
  NoRoomForStacks& operator=(const NoRoomForStacks&) = delete;

 private:
  pthread_attr_t before_{};
};

TEST(StartThreadTest, OneThatTheSystemRefusesIsAnErrorThatNamesTheLimits) {
  const NoRoomForStacks refused;
  const auto thread = StartThread([] {});
  ASSERT_TRUE(thread.has_error());
  EXPECT_EQ(thread.error().code, Errc::kIoError);
  EXPECT_NE(thread.error().message.find("ulimit -u"), std::string::npos) << thread.error().message;
}

TEST(StartThreadTest, ThoseBeforeOneThatIsRefusedGoOn) {
  std::atomic<int> ran{0};
  std::vector<std::thread> threads;
  const auto work = [&ran] { ++ran; };
  const Status started = StartThreads(5, work, &threads, FewThreads(3));
  for (std::thread& thread : threads) {
    thread.join();
  }
  ASSERT_TRUE(started.has_error());
  EXPECT_NE(started.error().message.find("no more"), std::string::npos);
  EXPECT_EQ(threads.size(), 3U);
  EXPECT_EQ(ran.load(), 3);
}

}  // namespace
}  // namespace holdfast::client
