#include "common/task_group.h"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "common/with_timeout.h"
#include "tests/common/run_coroutine.h"

namespace holdfast {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using tests::RunCoroutine;

asio::awaitable<void> Sleeper(std::vector<std::string>* log, std::string name) {
  const Status status = co_await SleepFor(std::chrono::hours(1));
  log->push_back(name + (status.has_value() ? " slept" : " cancelled"));
}

class TaskGroupTest : public testing::Test {
 protected:
  asio::io_context io_{1};
  TaskGroup tasks_{io_.get_executor(), "test", 3};
  std::vector<std::string> log_;
};

TEST_F(TaskGroupTest, AFullGroupRefusesAndTheTaskNeverRuns) {
  EXPECT_TRUE(tasks_.Spawn(Sleeper(&log_, "a")));
  EXPECT_TRUE(tasks_.Spawn(Sleeper(&log_, "b")));
  EXPECT_TRUE(tasks_.Spawn(Sleeper(&log_, "c")));
  EXPECT_FALSE(tasks_.Spawn(Sleeper(&log_, "d")));
  EXPECT_EQ(tasks_.size(), 3U);
  tasks_.Stop();
  EXPECT_TRUE(RunCoroutine(io_, tasks_.Join(seconds(10))));
  EXPECT_EQ(log_.size(), 3U);
}

// I12
TEST_F(TaskGroupTest, StopCancelsAllAndRefusesNewOnes) {
  EXPECT_TRUE(tasks_.Spawn(Sleeper(&log_, "a")));
  io_.poll();
  tasks_.Stop();
  EXPECT_FALSE(tasks_.Spawn(Sleeper(&log_, "b")));
  EXPECT_TRUE(RunCoroutine(io_, tasks_.Join(seconds(10))));
  EXPECT_EQ(log_, std::vector<std::string>({"a cancelled"}));
}

TEST_F(TaskGroupTest, ATaskCancelledBeforeItsFirstStepStillRunsToItsEnd) {
  EXPECT_TRUE(tasks_.Spawn(Sleeper(&log_, "a")));
  tasks_.Cancel();
  EXPECT_TRUE(RunCoroutine(io_, tasks_.Join(seconds(10))));
  EXPECT_EQ(log_, std::vector<std::string>({"a cancelled"}));
}

TEST_F(TaskGroupTest, JoinGivesUpAtItsLimit) {
  EXPECT_TRUE(tasks_.Spawn(Sleeper(&log_, "a")));
  EXPECT_FALSE(RunCoroutine(io_, tasks_.Join(milliseconds(10))));
  tasks_.Stop();
  EXPECT_TRUE(RunCoroutine(io_, tasks_.Join(seconds(10))));
}

asio::awaitable<void> Thrower() {
  (void)co_await SleepFor(milliseconds(1));
  throw std::runtime_error("a bug");
}

TEST_F(TaskGroupTest, AnExceptionEndsOnlyItsTask) {
  EXPECT_TRUE(tasks_.Spawn(Thrower()));
  EXPECT_TRUE(tasks_.Spawn(Sleeper(&log_, "a")));
  EXPECT_FALSE(RunCoroutine(io_, tasks_.Join(milliseconds(50))));
  EXPECT_EQ(tasks_.size(), 1U);
  tasks_.Stop();
  EXPECT_TRUE(RunCoroutine(io_, tasks_.Join(seconds(10))));
}

// Three waits, then a clean-up wait that must work although the task was cancelled.
asio::awaitable<void> Steps(std::vector<std::string>* log) {
  for (const char* step : {"one", "two", "three"}) {
    const Status status = co_await SleepFor(milliseconds(5));
    if (!status.has_value()) {
      log->push_back(std::string("cancelled in ") + step);
      break;
    }
    log->push_back(step);
  }
  auto plain = []() -> asio::awaitable<Result<int>> { co_return 7; };
  const auto clean_up = co_await plain();
  log->push_back("cleaned up " + std::to_string(clean_up.value()));
}

TEST_F(TaskGroupTest, CancellationAtEachSuspensionPointStillCleansUp) {
  for (std::size_t after = 0; after < 3; ++after) {
    log_.clear();
    TaskGroup tasks(io_.get_executor(), "steps", 1);
    ASSERT_TRUE(tasks.Spawn(Steps(&log_)));
    io_.restart();
    while (log_.size() < after) {
      io_.run_one();
    }
    tasks.Stop();
    EXPECT_TRUE(RunCoroutine(io_, tasks.Join(seconds(10))));
    ASSERT_EQ(log_.size(), after + 2) << "after " << after;
    EXPECT_EQ(log_[after].rfind("cancelled in", 0), 0U);
    EXPECT_EQ(log_.back(), "cleaned up 7");
  }
}

asio::awaitable<Result<int>> SlowAnswer(milliseconds delay, bool* ended) {
  const Status status = co_await SleepFor(delay);
  *ended = true;
  if (!status.has_value()) {
    co_return status.error();
  }
  co_return 42;
}

TEST_F(TaskGroupTest, WithTimeoutGivesTheAnswerThatComesInTime) {
  bool ended = false;
  const auto result =
      RunCoroutine(io_, WithTimeout(seconds(30), SlowAnswer(milliseconds(1), &ended)));
  EXPECT_EQ(result.value(), 42);
}

TEST_F(TaskGroupTest, WithTimeoutEndsTheOperationBeforeItReturns) {
  bool ended = false;
  const auto result =
      RunCoroutine(io_, WithTimeout(milliseconds(5), SlowAnswer(std::chrono::hours(1), &ended)));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, Errc::kTimeout);
  EXPECT_TRUE(ended);
}

asio::awaitable<void> TimedTask(std::vector<std::string>* log, bool* ended) {
  const auto result = co_await WithTimeout(seconds(60), SlowAnswer(std::chrono::hours(1), ended));
  log->push_back(std::string(ErrcName(result.error().code)));
  // A cancelled task must not begin another wait.
  const auto again = co_await WithTimeout(seconds(60), SlowAnswer(std::chrono::hours(1), ended));
  log->push_back(std::string(ErrcName(again.error().code)));
}

TEST_F(TaskGroupTest, CancellingATaskInsideWithTimeoutIsCancelledAndNoTimeout) {
  bool ended = false;
  ASSERT_TRUE(tasks_.Spawn(TimedTask(&log_, &ended)));
  io_.poll();
  tasks_.Stop();
  EXPECT_TRUE(RunCoroutine(io_, tasks_.Join(seconds(10))));
  EXPECT_EQ(log_, std::vector<std::string>({"cancelled", "cancelled"}));
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace holdfast
