#include "common/offload.h"

#include <atomic>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "common/io_thread.h"
#include "common/task_group.h"
#include "common/with_timeout.h"
#include "tests/common/run_coroutine.h"

namespace holdfast {
namespace {

namespace asio = boost::asio;
using tests::RunCoroutine;

// Opened by the test; a worker waits at it.
class Gate {
 public:
  void Open() { promise_.set_value(); }

  void Wait() { future_.wait_for(std::chrono::seconds(30)); }

 private:
  std::promise<void> promise_;
  std::shared_future<void> future_ = promise_.get_future().share();
};

class OffloadTest : public testing::Test {
 protected:
  asio::io_context io_{1};
  WorkerPool pool_{"test", 2};
};

asio::awaitable<Result<std::thread::id>> WhereItRuns(WorkerPool& pool, std::thread::id* after) {
  auto work = []() -> Result<std::thread::id> { return std::this_thread::get_id(); };
  auto result = co_await Offload(pool, std::move(work));
  *after = std::this_thread::get_id();
  co_return result;
}

TEST_F(OffloadTest, WorkRunsOnAWorkerAndTheCallerResumesAtHome) {
  std::thread::id after;
  const auto worker = RunCoroutine(io_, WhereItRuns(pool_, &after));
  ASSERT_TRUE(worker.has_value());
  EXPECT_NE(worker.value(), std::this_thread::get_id());
  EXPECT_EQ(after, std::this_thread::get_id());
}

asio::awaitable<Result<int>> Throws(WorkerPool& pool) {
  auto work = []() -> Result<int> { throw std::runtime_error("from a library"); };
  co_return co_await Offload(pool, std::move(work));
}

TEST_F(OffloadTest, AnExceptionOfTheWorkBecomesAnInternalError) {
  const auto result = RunCoroutine(io_, Throws(pool_));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, Errc::kInternal);
  EXPECT_NE(result.error().message.find("from a library"), std::string::npos);
}

asio::awaitable<Result<int>> ManyTrips(WorkerPool& pool, int trips) {
  int sum = 0;
  for (int i = 0; i < trips; ++i) {
    auto work = [i, text = std::string(100, 'x')]() -> Result<int> {
      if (i % 5 == 0) {
        return Error(Errc::kNotFound, text);
      }
      return static_cast<int>(text.size());
    };
    const auto result = co_await Offload(pool, std::move(work));
    sum += result.has_value() ? result.value() : 0;
  }
  co_return sum;
}

TEST_F(OffloadTest, ResultsAndErrorsOfManyTripsArrive) {
  const auto sum = RunCoroutine(io_, ManyTrips(pool_, 200));
  EXPECT_EQ(sum.value(), 160 * 100);
}

asio::awaitable<void> Wait(WorkerPool& pool, Gate* gate, bool* ended) {
  auto work = [gate]() -> Status {
    gate->Wait();
    return Ok();
  };
  (void)co_await Offload(pool, std::move(work));
  *ended = true;
}

// I12: what the function touches must stay valid while it runs.
TEST_F(OffloadTest, CancellationDoesNotCutAFunctionThatRuns) {
  Gate gate;
  bool ended = false;
  TaskGroup tasks(io_.get_executor(), "test", 4);
  ASSERT_TRUE(tasks.Spawn(Wait(pool_, &gate, &ended)));
  io_.poll();
  tasks.Stop();
  io_.restart();
  io_.run_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(ended);
  gate.Open();
  EXPECT_TRUE(RunCoroutine(io_, tasks.Join(std::chrono::seconds(30))));
  EXPECT_TRUE(ended);
}

asio::awaitable<Status> AbandonAfter(WorkerPool& pool,
                                     std::chrono::milliseconds limit,
                                     std::shared_ptr<Gate> gate,
                                     std::shared_ptr<std::atomic<int>> runs) {
  auto work = [gate, runs]() -> Status {
    gate->Wait();
    runs->fetch_add(1);
    return Ok();
  };
  co_return co_await WithTimeout(limit, OffloadOrAbandon(pool, std::move(work)));
}

TEST_F(OffloadTest, AHungFunctionIsAbandonedAtTheLimitAndEndsByItself) {
  auto gate = std::make_shared<Gate>();
  auto runs = std::make_shared<std::atomic<int>>(0);
  const auto status =
      RunCoroutine(io_, AbandonAfter(pool_, std::chrono::milliseconds(20), gate, runs));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::kTimeout);
  EXPECT_EQ(pool_.pending(), 1U);
  gate->Open();
  while (pool_.pending() != 0) {
    std::this_thread::yield();
  }
  EXPECT_EQ(runs->load(), 1);
}

TEST_F(OffloadTest, AnAbandonedFunctionThatHasNotBegunNeverRuns) {
  WorkerPool one("one", 1);
  auto gate = std::make_shared<Gate>();
  auto first = std::make_shared<std::atomic<int>>(0);
  auto second = std::make_shared<std::atomic<int>>(0);
  const auto limit = std::chrono::milliseconds(20);
  EXPECT_FALSE(RunCoroutine(io_, AbandonAfter(one, limit, gate, first)).has_value());
  EXPECT_FALSE(RunCoroutine(io_, AbandonAfter(one, limit, gate, second)).has_value());
  gate->Open();
  while (one.pending() != 0) {
    std::this_thread::yield();
  }
  EXPECT_EQ(first->load(), 1);
  EXPECT_EQ(second->load(), 0);
}

TEST_F(OffloadTest, APoolCountsWhatItDropsUnrun) {
  auto counter = std::make_shared<std::atomic<int>>(0);
  {
    WorkerPool one("one", 1);
    auto gate = std::make_shared<Gate>();
    const auto limit = std::chrono::milliseconds(5);
    EXPECT_FALSE(RunCoroutine(io_, AbandonAfter(one, limit, gate, counter)).has_value());
    EXPECT_EQ(one.pending(), 1U);
    gate->Open();
  }
  SUCCEED();
}

TEST(IoThreadTest, OnlyTheBoundThreadPasses) {
  IoThread io;
  EXPECT_TRUE(io.IsCurrent());
  io.Bind();
  EXPECT_TRUE(io.IsCurrent());
  bool elsewhere = true;
  std::thread other([&] { elsewhere = io.IsCurrent(); });
  other.join();
  EXPECT_FALSE(elsewhere);
}

}  // namespace
}  // namespace holdfast
