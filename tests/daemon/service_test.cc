// The daemon as a service of systemd: what the shipped unit says, and what the daemon tells the
// service manager.

#include <csignal>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/config.h"
#include "tests/daemon/daemon_process.h"
#include "tests/support/unique_name.h"
#include "tests/support/whole_file.h"
#include "transport/owned_fd.h"

namespace holdfast {
namespace {

using tests::DaemonProcess;

// The service manager's end of NOTIFY_SOCKET.
class Manager {
 public:
  // "@name" is an abstract socket.
  explicit Manager(const std::string& path)
      : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    if (path.front() == '@') {
      address.sun_path[0] = '\0';
    }
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    EXPECT_EQ(::bind(socket_.Get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  }

  // The next message, "" after 20 seconds without one.
  std::string Next() {
    pollfd entry{socket_.Get(), POLLIN, 0};
    if (::poll(&entry, 1, 20'000) != 1) {
      return "";
    }
    char text[1024];
    const ssize_t count = ::recv(socket_.Get(), text, sizeof text, 0);
    return count > 0 ? std::string(text, static_cast<std::size_t>(count)) : "";
  }

  // The first message that begins with "start"; those before it are dropped.
  std::string Await(const std::string& start) {
    std::string message = Next();
    while (!message.empty() && message.rfind(start, 0) != 0) {
      message = Next();
    }
    return message;
  }

 private:
  transport::OwnedFd socket_;
};

class ServiceTest : public testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure()) {
      std::fputs(daemon_.Log().c_str(), stderr);
    }
  }

  DaemonProcess daemon_;
};

TEST_F(ServiceTest, ReadyIsSaidWhenClientsAreServedAndStoppingAtTheEnd) {
  const std::string path = daemon_.folder() + "/notify";
  Manager manager(path);
  DaemonProcess::Start start;
  start.environment = {{"NOTIFY_SOCKET", path}};
  daemon_.Spawn(start);
  const std::string ready = manager.Next();
  EXPECT_EQ(ready.rfind("READY=1\n", 0), 0U) << ready;
  EXPECT_NE(ready.find("STATUS=serving on " + daemon_.socket()), std::string::npos) << ready;
  EXPECT_TRUE(std::filesystem::exists(daemon_.socket()));
  daemon_.Signal(SIGTERM);
  EXPECT_EQ(manager.Next().rfind("STOPPING=1\n", 0), 0U);
  EXPECT_EQ(daemon_.WaitForEnd(), 0);
}

TEST_F(ServiceTest, AnAbstractSocketIsToldTheSame) {
  const std::string name = tests::UniqueName("@holdfast-test");
  Manager manager(name);
  DaemonProcess::Start start;
  start.environment = {{"NOTIFY_SOCKET", name}};
  daemon_.Spawn(start);
  EXPECT_EQ(manager.Next().rfind("READY=1\n", 0), 0U);
}

// L: a loop that does not turn is killed and started again.
TEST_F(ServiceTest, TheWatchdogIsFedWhileTheLoopTurnsAndNotWhileItStands) {
  const std::string path = daemon_.folder() + "/notify";
  Manager manager(path);
  DaemonProcess::Start start;
  start.environment = {{"NOTIFY_SOCKET", path}, {"WATCHDOG_USEC", "500000"}};
  ASSERT_TRUE(daemon_.StartAndWait(start));
  EXPECT_EQ(manager.Await("WATCHDOG=1"), "WATCHDOG=1");
  EXPECT_EQ(manager.Await("WATCHDOG=1"), "WATCHDOG=1");
  daemon_.Signal(SIGTERM);
  EXPECT_EQ(manager.Await("STOPPING=1").rfind("STOPPING=1", 0), 0U);
}

TEST_F(ServiceTest, AWatchdogOfAnotherProcessIsNotFed) {
  const std::string path = daemon_.folder() + "/notify";
  Manager manager(path);
  DaemonProcess::Start start;
  start.environment = {{"NOTIFY_SOCKET", path}, {"WATCHDOG_USEC", "1000"}, {"WATCHDOG_PID", "1"}};
  ASSERT_TRUE(daemon_.StartAndWait(start));
  daemon_.Signal(SIGTERM);
  EXPECT_EQ(daemon_.WaitForEnd(), 0);
  EXPECT_EQ(manager.Next().rfind("READY=1", 0), 0U);
  EXPECT_EQ(manager.Next().rfind("STOPPING=1", 0), 0U);
}

constexpr char kUnit[] = "deploy/holdfastd.service";

// "Section.Key" to its values.
std::map<std::string, std::vector<std::string>> ReadUnit() {
  std::map<std::string, std::vector<std::string>> unit;
  std::ifstream file(kUnit);
  std::string section;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') {
      continue;
    }
    if (line.front() == '[' && line.back() == ']') {
      section = line.substr(1, line.size() - 2);
      continue;
    }
    const auto equals = line.find('=');
    EXPECT_NE(equals, std::string::npos) << line;
    unit[section + "." + line.substr(0, equals)].push_back(line.substr(equals + 1));
  }
  return unit;
}

std::string One(const std::string& key) {
  const auto unit = ReadUnit();
  const auto found = unit.find(key);
  return found != unit.end() && found->second.size() == 1 ? found->second.front() : "";
}

TEST_F(ServiceTest, TheUnitGrantsThePlacesThatTheDaemonUses) {
  const daemon::Places places = daemon::SystemPlaces();
  EXPECT_EQ("/var/lib/" + One("Service.StateDirectory"), places.state_dir);
  EXPECT_EQ("/run/" + One("Service.RuntimeDirectory"),
            std::filesystem::path(places.socket).parent_path());
  EXPECT_EQ(One("Service.ReadWritePaths"), std::filesystem::path(places.arena_dir).parent_path());
  EXPECT_EQ(One("Service.RestartPreventExitStatus"), "2") << "what wrong configuration ends with";
  // I3: whatever removes files of the arena, or kills trainers with the daemon, loses memory.
  const auto unit = ReadUnit();
  EXPECT_FALSE(unit.contains("Service.PrivateTmp"));
  EXPECT_FALSE(unit.contains("Service.RemoveIPC"));
  EXPECT_EQ(One("Service.KillMode"), "process");
}

TEST_F(ServiceTest, TheUnitWaitsForTheNetworkAndIsNeverGivenUp) {
  EXPECT_EQ(One("Unit.Wants"), "network-online.target");
  EXPECT_NE(One("Unit.After").find("network-online.target"), std::string::npos);
  EXPECT_EQ(One("Service.Restart"), "always");
  EXPECT_EQ(One("Unit.StartLimitIntervalSec"), "0") << "a limit would end the restarts for good";
  EXPECT_GE(std::stoull(One("Service.RestartSec")), 5U);
}

TEST_F(ServiceTest, TheCommandOfTheUnitStartsAndSaysThatItIsReady) {
  std::istringstream words(One("Service.ExecStart"));
  std::string program;
  words >> program;
  EXPECT_EQ(std::filesystem::path(program).filename(), "holdfastd");
  ASSERT_EQ(One("Service.Type"), "notify");
  DaemonProcess::Start start;
  start.scope = "system";
  for (std::string word; words >> word;) {
    start.flags.push_back(word);
  }
  const std::string path = daemon_.folder() + "/notify";
  Manager manager(path);
  const auto watchdog_seconds = std::stoull(One("Service.WatchdogSec"));
  start.environment = {{"NOTIFY_SOCKET", path},
                       {"WATCHDOG_USEC", std::to_string(watchdog_seconds * 1'000'000)}};
  std::filesystem::create_directory(daemon_.state_dir());  // as systemd does
  ASSERT_TRUE(daemon_.StartAndWait(start));
  EXPECT_EQ(manager.Next().rfind("READY=1\n", 0), 0U);
  EXPECT_EQ(manager.Await("WATCHDOG=1"), "WATCHDOG=1");
  const auto limit = std::chrono::seconds(std::stoull(One("Service.TimeoutStopSec")));
  daemon_.Signal(SIGTERM);
  EXPECT_EQ(daemon_.WaitForEnd(limit), 0);
}

TEST_F(ServiceTest, SystemdItselfAcceptsTheUnit) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else waits for a child here
  if (std::system("command -v systemd-analyze > /dev/null") != 0) {
    GTEST_SKIP() << "systemd-analyze is not installed";
  }
  // It looks whether the program can be executed: the built one stands in for the installed one.
  std::string text;
  std::ifstream shipped(kUnit);
  for (std::string line; std::getline(shipped, line);) {
    const std::string installed = "/usr/bin/holdfastd";
    if (const auto at = line.find(installed); at != std::string::npos) {
      line.replace(at, installed.size(), std::filesystem::absolute("daemon/holdfastd").string());
    }
    text += line + "\n";
  }
  const std::string copy = daemon_.folder() + "/holdfastd.service";
  std::ofstream(copy) << text;
  const std::string said = daemon_.folder() + "/said";
  const int status =
      // NOLINTNEXTLINE(concurrency-mt-unsafe): as above
      std::system(("systemd-analyze verify " + copy + " > " + said + " 2>&1").c_str());
  const std::string output = WholeFile(said);
  EXPECT_EQ(status, 0) << output;
  EXPECT_EQ(output.find("holdfastd.service"), std::string::npos) << output;
}

}  // namespace
}  // namespace holdfast
