// Who is the trainer of a job, when other processes want to be: real processes, real deaths.

#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/daemon/daemon_process.h"
#include "tests/daemon/raw_client.h"
#include "tests/daemon/raw_trainer.h"

namespace holdfast {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using tests::DaemonProcess;
using tests::RawClient;

constexpr std::uint64_t kElements = 1'000;

// A trainer in a process of its own, which ends when it is killed.
class OtherTrainer {
 public:
  enum class Until { kAsks, kRegistered, kLeft };

  // The child opens the job, says so, sends its registration, and goes on until there.
  void Start(const std::string& socket, Until until) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ends[0]);
      Train(socket, until, ends[1]);
    }
    ::close(ends[1]);
    std::string text;
    char buffer[256];
    for (ssize_t got = 0; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<std::size_t>(got));
    }
    ::close(ends[0]);
    ASSERT_TRUE(opened_.ParseFromString(text));
    ASSERT_FALSE(opened_.job_uid().empty());
  }

  ~OtherTrainer() { Kill(); }

  void Kill() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      pid_ = 0;
    }
  }

  [[nodiscard]] pid_t pid() const { return pid_; }

  [[nodiscard]] const proto::OpenIncarnationReply& opened() const { return opened_; }

 private:
  [[noreturn]] static void Train(const std::string& socket, Until until, int told) {
    RawClient client(socket);
    client.Hello();
    const proto::OpenIncarnationReply opened = tests::OpenJob(&client);
    const proto::ClientMessage request = tests::RegisterOf(opened, tests::LayoutOf(kElements));
    until == Until::kAsks ? (void)client.Send(request) : (void)client.Call(request);
    if (until == Until::kLeft) {
      proto::ClientMessage leave;
      leave.mutable_leave();
      client.Call(leave);
    }
    const std::string text = opened.SerializeAsString();
    (void)!::write(told, text.data(), text.size());
    ::close(told);
    for (;;) {
      ::pause();
    }
  }

  pid_t pid_ = 0;
  proto::OpenIncarnationReply opened_;
};

class SessionTwinTest : public testing::Test {
 protected:
  void StartDaemon(const std::string& open_wait, const std::string& failpoints = "") {
    DaemonProcess::Start start;
    start.config = "[clients]\nopen_wait = \"" + open_wait + "\"\n";
    start.failpoints = failpoints;
    ASSERT_TRUE(daemon_.StartAndWait(start));
  }

  void TearDown() override {
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  static proto::ClientMessage Open() {
    proto::ClientMessage open;
    open.mutable_open_incarnation()->set_job_name("job");
    open.mutable_open_incarnation()->set_world_size(1);
    return open;
  }

  DaemonProcess daemon_;
};

TEST_F(SessionTwinTest, AProcessThatNeverHeardItsAnswerIsNoTwinOfItself) {
  StartDaemon("1s");
  RawClient first(daemon_.socket());
  first.Hello();
  const proto::ClientMessage request =
      tests::RegisterOf(tests::OpenJob(&first), tests::LayoutOf(kElements));
  EXPECT_TRUE(first.Call(request).has_register_());
  RawClient again(daemon_.socket());
  again.Hello();
  const proto::ServerMessage answer = again.Call(request);
  EXPECT_TRUE(answer.has_register_()) << answer.ShortDebugString();
}

TEST_F(SessionTwinTest, AnotherProcessIsATwinAndIsTold) {
  StartDaemon("1s");
  OtherTrainer first;
  first.Start(daemon_.socket(), OtherTrainer::Until::kRegistered);
  RawClient second(daemon_.socket());
  second.Hello();
  const proto::ServerMessage answer =
      second.Call(tests::RegisterOf(first.opened(), tests::LayoutOf(kElements)));
  EXPECT_EQ(answer.error().code(), static_cast<std::uint32_t>(Errc::kAlreadyExists));
}

TEST_F(SessionTwinTest, ASecondStartIsRefusedWithTheProcessOfTheFirst) {
  StartDaemon("1s");
  OtherTrainer first;
  first.Start(daemon_.socket(), OtherTrainer::Until::kRegistered);
  RawClient second(daemon_.socket());
  second.Hello();
  const proto::ServerMessage refused = second.Call(Open());
  EXPECT_EQ(refused.error().code(), static_cast<std::uint32_t>(Errc::kAlreadyExists));
  EXPECT_NE(refused.error().message().find(std::to_string(first.pid())), std::string::npos)
      << refused.error().message();
  proto::ClientMessage take_over = Open();
  take_over.mutable_open_incarnation()->set_take_over(true);
  EXPECT_TRUE(second.Call(take_over).has_open_incarnation());
}

TEST_F(SessionTwinTest, ATrainerThatLeftIsNotWaitedForThoughItsProcessLives) {
  StartDaemon("60s");  // longer than a test may take
  OtherTrainer first;
  first.Start(daemon_.socket(), OtherTrainer::Until::kLeft);
  RawClient second(daemon_.socket());
  second.Hello();
  EXPECT_TRUE(second.Call(Open()).has_open_incarnation());
}

TEST_F(SessionTwinTest, AStartWaitsForATrainerThatIsDying) {
  StartDaemon("15s");
  OtherTrainer first;
  first.Start(daemon_.socket(), OtherTrainer::Until::kRegistered);
  std::thread death([&] {
    std::this_thread::sleep_for(milliseconds(300));
    first.Kill();
  });
  RawClient second(daemon_.socket());
  second.Hello();
  const auto began = steady_clock::now();
  EXPECT_TRUE(second.Call(Open()).has_open_incarnation());
  EXPECT_LT(steady_clock::now() - began, seconds(10));
  death.join();
}

// I12: the answer to the registration finds neither the session nor the process.
TEST_F(SessionTwinTest, ATrainerThatDiesWhileItsRegistrationIsSyncedIsDead) {
  const std::string go = daemon_.folder() + "/go";
  StartDaemon("1s", "catalog.before_apply=wait:" + go + "@2");
  OtherTrainer first;
  first.Start(daemon_.socket(), OtherTrainer::Until::kAsks);
  const auto deadline = steady_clock::now() + seconds(20);
  while (daemon_.Log().find("register 3") == std::string::npos && steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  first.Kill();
  // The end of its connection is seen before the answer is due.
  std::this_thread::sleep_for(milliseconds(300));
  std::ofstream(go) << "go";
  RawClient next(daemon_.socket());
  next.Hello();
  const proto::ClientMessage request =
      tests::RegisterOf(first.opened(), tests::LayoutOf(kElements));
  proto::ServerMessage answer = next.Call(request);
  while (!answer.has_register_() && steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(50));
    answer = next.Call(request);
  }
  EXPECT_TRUE(answer.has_register_()) << answer.ShortDebugString();
}

}  // namespace
}  // namespace holdfast
