// I7, I12: the kernel's word that a trainer is dead, once for each, beyond its connection.

#include "daemon/process_watch.h"

#include <csignal>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/common/run_coroutine.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A process that lives until it is killed.
class Victim {
 public:
  Victim() : pid_(::fork()) {
    if (pid_ == 0) {
      for (;;) {
        ::pause();
      }
    }
  }

  ~Victim() { Kill(); }

  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;

  void Kill() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      pid_ = -1;
    }
  }

  [[nodiscard]] transport::OwnedFd Open() const {
    auto pidfd = OpenProcess(pid_);
    EXPECT_TRUE(pidfd.has_value());
    return std::move(pidfd).value();
  }

  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

class ProcessWatchTest : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_TRUE(tests::RunCoroutine(io_, End())); }

  boost::asio::awaitable<bool> End() {
    watch_.Stop();
    co_return co_await watch_.Join(seconds(20));
  }

  void RunUntilDead(std::size_t count) {
    const auto deadline = std::chrono::steady_clock::now() + seconds(20);
    io_.restart();
    while (dead_.size() < count && std::chrono::steady_clock::now() < deadline) {
      io_.run_one_for(milliseconds(10));
    }
  }

  void RunForAMoment() {
    io_.restart();
    io_.run_for(milliseconds(20));
  }

  boost::asio::io_context io_{1};
  std::vector<std::uint64_t> dead_;
  ProcessWatch watch_{
      io_.get_executor(), 2, [this](std::uint64_t token) { dead_.push_back(token); }};
};

TEST_F(ProcessWatchTest, ADeathIsToldOnceAndOnlyOfTheDead) {
  Victim first;
  Victim second;
  ASSERT_TRUE(watch_.Watch(11, first.Open()).has_value());
  ASSERT_TRUE(watch_.Watch(22, second.Open()).has_value());
  RunForAMoment();
  EXPECT_TRUE(dead_.empty());
  second.Kill();
  RunUntilDead(1);
  RunForAMoment();
  EXPECT_EQ(dead_, std::vector<std::uint64_t>({22}));
  EXPECT_TRUE(watch_.IsWatched(11));
  EXPECT_FALSE(watch_.IsWatched(22));
}

TEST_F(ProcessWatchTest, AProcessThatIsDeadAlreadyIsToldTheSame) {
  Victim victim;
  transport::OwnedFd pidfd = victim.Open();
  victim.Kill();
  ASSERT_TRUE(watch_.Watch(11, std::move(pidfd)).has_value());
  RunUntilDead(1);
  EXPECT_EQ(dead_, std::vector<std::uint64_t>({11}));
}

// A session that was resumed by another process: the death of the first means nothing any more.
TEST_F(ProcessWatchTest, OnlyTheLastProcessOfASessionCounts) {
  Victim first;
  Victim second;
  ASSERT_TRUE(watch_.Watch(11, first.Open()).has_value());
  ASSERT_TRUE(watch_.Watch(11, second.Open()).has_value());
  EXPECT_EQ(watch_.size(), 1U);
  first.Kill();
  RunForAMoment();
  EXPECT_TRUE(dead_.empty());
  second.Kill();
  RunUntilDead(1);
  EXPECT_EQ(dead_, std::vector<std::uint64_t>({11}));
}

// I9.
TEST_F(ProcessWatchTest, OneTooManyIsRefusedAndADeathMakesRoom) {
  Victim first;
  Victim second;
  Victim third;
  ASSERT_TRUE(watch_.Watch(1, first.Open()).has_value());
  ASSERT_TRUE(watch_.Watch(2, second.Open()).has_value());
  EXPECT_FALSE(watch_.HasRoom());
  EXPECT_EQ(watch_.Watch(3, third.Open()).error().code, Errc::kUnavailable);
  EXPECT_TRUE(watch_.Watch(2, third.Open()).has_value()) << "it takes the place of another";
  first.Kill();
  RunUntilDead(1);
  EXPECT_TRUE(watch_.HasRoom());
}

TEST_F(ProcessWatchTest, AfterTheEndNobodyIsToldAnything) {
  Victim victim;
  ASSERT_TRUE(watch_.Watch(11, victim.Open()).has_value());
  RunForAMoment();
  EXPECT_TRUE(tests::RunCoroutine(io_, End()));
  victim.Kill();
  RunForAMoment();
  EXPECT_TRUE(dead_.empty());
  Victim late;
  EXPECT_EQ(watch_.Watch(12, late.Open()).error().code, Errc::kUnavailable);
}

TEST(OpenProcessTest, WhoIsGoneIsNotFound) {
  Victim victim;
  const pid_t pid = victim.pid();
  victim.Kill();
  EXPECT_EQ(OpenProcess(pid).error().code, Errc::kNotFound);
  EXPECT_EQ(OpenProcess(0).error().code, Errc::kNotFound);
  EXPECT_EQ(OpenProcess(-1).error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace holdfast::daemon
