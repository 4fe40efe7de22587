// A real holdfastd in a process of its own, with folders of its own, for tests that kill it.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "tests/support/temp_folder.h"

namespace holdfast::tests {

class DaemonProcess {
 public:
  // Folders below /tmp and /dev/shm, removed at the end: a socket's path must be short.
  DaemonProcess();
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  struct Start {
    std::string failpoints;
    std::vector<std::string> flags;  // after the usual ones
    std::string config;              // content of a configuration file
    std::vector<std::pair<std::string, std::string>> environment;
    std::string scope;  // "system": started without --user
  };

  // Starts it, without waiting.
  void Spawn(const Start& start = {});
  // Spawn, then waits until a client is answered; false if it ended before.
  bool StartAndWait(const Start& start = {});

  void Signal(int number);
  // Waits for its end: exit code, or 128 + signal; -1 at the time limit.  Says the same again when
  // asked again.
  int WaitForEnd(std::chrono::seconds limit = std::chrono::seconds(60));
  int KillAndWait();
  [[nodiscard]] bool Alive();

  [[nodiscard]] pid_t pid() const { return pid_; }

  [[nodiscard]] const std::string& folder() const { return folder_; }

  [[nodiscard]] std::string state_dir() const { return folder_ + "/state"; }

  [[nodiscard]] std::string socket() const { return folder_ + "/state/holdfastd.sock"; }

  [[nodiscard]] std::string root() const { return folder_ + "/root"; }

  [[nodiscard]] const std::string& arena() const { return arena_; }

  // What it wrote to stderr so far, all starts together.
  [[nodiscard]] std::string Log() const;

 private:
  const TempFolder temp_{TempFolder::Where::kShort};
  const TempFolder memory_;
  const std::string& folder_ = temp_.path();
  const std::string& arena_ = memory_.path();
  pid_t pid_ = -1;
  int end_ = -1;  // how the last one ended; -1: it runs, or none did
};

}  // namespace holdfast::tests
