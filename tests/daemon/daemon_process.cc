#include "tests/daemon/daemon_process.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/admin_client.h"
#include "tests/support/whole_file.h"

namespace holdfast::tests {
namespace {

using std::chrono::milliseconds;

}  // namespace

DaemonProcess::DaemonProcess() {
  std::filesystem::create_directory(root());
}

DaemonProcess::~DaemonProcess() {
  KillAndWait();
}

void DaemonProcess::Spawn(const Start& start) {
  std::vector<std::string> words = {
      "daemon/holdfastd", "--state-dir", state_dir(), "--arena", arena_, "--log-level", "debug"};
  if (start.scope != "system") {
    words.emplace_back("--user");
  } else {
    words.insert(words.end(), {"--socket", socket()});
  }
  if (start.config.find("budget") == std::string::npos) {
    words.insert(words.end(), {"--budget", "128MiB"});
  }
  if (!start.config.empty()) {
    std::ofstream(folder_ + "/config.toml") << start.config;
    words.insert(words.end(), {"--config", folder_ + "/config.toml"});
  }
  words.insert(words.end(), start.flags.begin(), start.flags.end());
  const std::string log = folder_ + "/log";
  end_ = -1;
  pid_ = ::fork();
  if (pid_ != 0) {
    return;
  }
  const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(fd, 1);
  ::dup2(fd, 2);
  // NOLINTBEGIN(concurrency-mt-unsafe): a child of fork has one thread
  if (start.failpoints.empty()) {
    ::unsetenv("HOLDFAST_FAILPOINTS");
  } else {
    ::setenv("HOLDFAST_FAILPOINTS", start.failpoints.c_str(), 1);
  }
  for (const auto& [name, value] : start.environment) {
    ::setenv(name.c_str(), value.c_str(), 1);
  }
  // NOLINTEND(concurrency-mt-unsafe)
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

bool DaemonProcess::StartAndWait(const Start& start) {
  Spawn(start);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < deadline) {
    if (client::AdminClient::Connect(socket(), "test", milliseconds(5'000)).has_value()) {
      return true;
    }
    if (!Alive()) {
      return false;
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

void DaemonProcess::Signal(int number) {
  if (pid_ > 0) {
    ::kill(pid_, number);
  }
}

bool DaemonProcess::Alive() {
  return pid_ > 0 && WaitForEnd(std::chrono::seconds(0)) == -1;
}

int DaemonProcess::WaitForEnd(std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (pid_ > 0) {
    int status = 0;
    const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
    if (ended == pid_) {
      pid_ = -1;
      end_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return -1;
    }
    std::this_thread::sleep_for(milliseconds(5));
  }
  return end_;
}

int DaemonProcess::KillAndWait() {
  Signal(SIGKILL);
  return WaitForEnd();
}

std::string DaemonProcess::Log() const {
  return WholeFile(folder_ + "/log");
}

}  // namespace holdfast::tests
