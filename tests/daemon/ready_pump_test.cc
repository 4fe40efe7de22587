#include "daemon/ready_pump.h"

#include <chrono>
#include <deque>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "common/task_group.h"
#include "common/with_timeout.h"
#include "tests/common/run_coroutine.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using storage_tiers::CatalogBatch;
using tests::RunCoroutine;

// A core and a catalog that write down what happens in which order.
class ReadyPumpTest : public testing::Test {
 protected:
  ReadyPumpTest() : pump_(io_.get_executor(), MakeHooks(), MakeLimits()) {}

  static ReadyPump::Limits MakeLimits() {
    ReadyPump::Limits limits;
    limits.retry_min = std::chrono::milliseconds(1);
    limits.retry_max = std::chrono::milliseconds(4);
    return limits;
  }

  ReadyPump::Hooks MakeHooks() {
    ReadyPump::Hooks hooks;
    hooks.take = [this](Ready* ready) {
      if (readys_.empty()) {
        return false;
      }
      *ready = std::move(readys_.front());
      readys_.pop_front();
      return true;
    };
    hooks.add_records = [this](CatalogBatch* batch) {
      if (extra_record_) {
        extra_record_ = false;
        batch->DeleteSlot(999);
      }
    };
    hooks.apply = [this](ReadyPump::SharedBatch batch) { return Apply(std::move(batch)); };
    hooks.start = [this](Action action) {
      log_.push_back("close " + std::to_string(std::get<CloseSession>(action).session));
    };
    return hooks;
  }

  asio::awaitable<Status> Apply(ReadyPump::SharedBatch batch) {
    // A write takes a moment, in which the core goes on deciding.
    do {
      (void)co_await SleepFor(std::chrono::milliseconds(1));
    } while (hangs_ && !co_await Cancelled());
    if (failures_ > 0) {
      --failures_;
      log_.push_back("failed " + std::to_string(batch->size()));
      co_return Error(Errc::kNoSpace, "disk full");
    }
    log_.push_back("wrote " + std::to_string(batch->size()));
    co_return Ok();
  }

  // A Ready with "records" records and an action that says "session".
  static Ready Make(std::uint32_t records, SessionId session) {
    Ready ready;
    for (std::uint32_t i = 0; i < records; ++i) {
      ready.batch.DeleteSlot(i);
    }
    CloseSession close;
    close.session = session;
    ready.actions.push_back(close);
    return ready;
  }

  void RunToEnd() {
    ASSERT_TRUE(tasks_.Spawn(pump_.Run()));
    pump_.Stop();
    EXPECT_TRUE(RunCoroutine(io_, tasks_.Join(std::chrono::seconds(20))));
  }

  asio::io_context io_{1};
  std::deque<Ready> readys_;
  std::vector<std::string> log_;
  int failures_ = 0;
  bool hangs_ = false;
  bool extra_record_ = false;
  ReadyPump pump_;
  TaskGroup tasks_{io_.get_executor(), "pump", 1};
};

// I3, I7: the record is on disk before anything is done about it.
TEST_F(ReadyPumpTest, NoActionStartsBeforeItsBatchIsWritten) {
  readys_.push_back(Make(1, 1));
  RunToEnd();
  EXPECT_EQ(log_, std::vector<std::string>({"wrote 1", "close 1"}));
}

TEST_F(ReadyPumpTest, ReadysThatWaitTogetherShareOneWrite) {
  readys_.push_back(Make(1, 1));
  readys_.push_back(Make(2, 2));
  readys_.push_back(Make(0, 3));
  RunToEnd();
  EXPECT_EQ(log_, std::vector<std::string>({"wrote 3", "close 1", "close 2", "close 3"}));
}

TEST_F(ReadyPumpTest, AFailedWriteIsRepeatedAndNothingOvertakesIt) {
  failures_ = 3;
  readys_.push_back(Make(1, 1));
  ASSERT_TRUE(tasks_.Spawn(pump_.Run()));
  io_.restart();
  while (log_.empty()) {
    io_.run_one();
  }
  // Decided while the catalog fails, and without a record of its own: it waits all the same.
  readys_.push_back(Make(0, 2));
  pump_.Wake();
  io_.run_one();
  ASSERT_TRUE(pump_.failing().has_value());
  EXPECT_EQ(pump_.failing()->code, Errc::kNoSpace);
  pump_.Stop();
  EXPECT_TRUE(RunCoroutine(io_, tasks_.Join(std::chrono::seconds(20))));
  const std::vector<std::string> expected = {
      "failed 1", "failed 1", "failed 1", "wrote 1", "close 1", "close 2"};
  EXPECT_EQ(log_, expected);
  EXPECT_FALSE(pump_.failing().has_value());
}

// L: an operator sees a disk that hangs, and what it hides goes on by itself.
TEST_F(ReadyPumpTest, AWriteThatHangsIsSaidWaitedForAndNotRepeated) {
  hangs_ = true;
  readys_.push_back(Make(1, 1));
  const MonotonicTime began = SystemClock().Now();
  ASSERT_TRUE(tasks_.Spawn(pump_.Run()));
  io_.restart();
  io_.run_for(std::chrono::milliseconds(20));
  pump_.OnTick(began);
  EXPECT_FALSE(pump_.failing().has_value()) << "a write may take a moment";
  const MonotonicTime later = SystemClock().Now() + ReadyPump::Limits().hang_after;
  pump_.OnTick(later);
  ASSERT_TRUE(pump_.failing().has_value());
  EXPECT_EQ(pump_.failing()->code, Errc::kTimeout);
  EXPECT_TRUE(log_.empty());
  hangs_ = false;
  pump_.Stop();
  EXPECT_TRUE(RunCoroutine(io_, tasks_.Join(std::chrono::seconds(20))));
  EXPECT_EQ(log_, std::vector<std::string>({"wrote 1", "close 1"}));
  pump_.OnTick(later);
  EXPECT_FALSE(pump_.failing().has_value());
}

TEST_F(ReadyPumpTest, WithoutARecordNothingIsWritten) {
  readys_.push_back(Make(0, 5));
  RunToEnd();
  EXPECT_EQ(log_, std::vector<std::string>({"close 5"}));
}

TEST_F(ReadyPumpTest, RecordsOfTheRuntimeAreWrittenAlsoWithoutAReady) {
  extra_record_ = true;
  RunToEnd();
  EXPECT_EQ(log_, std::vector<std::string>({"wrote 1"}));
}

// The same as a crash at that moment: not recorded, so not done.
TEST_F(ReadyPumpTest, CancellationWhileTheCatalogFailsStartsNothing) {
  failures_ = 1'000'000;
  readys_.push_back(Make(1, 1));
  ASSERT_TRUE(tasks_.Spawn(pump_.Run()));
  io_.restart();
  while (log_.size() < 2) {
    io_.run_one();
  }
  tasks_.Stop();
  EXPECT_TRUE(RunCoroutine(io_, tasks_.Join(std::chrono::seconds(20))));
  for (const std::string& line : log_) {
    EXPECT_EQ(line, "failed 1");
  }
}

}  // namespace
}  // namespace holdfast::daemon
