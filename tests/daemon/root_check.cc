#include "tests/daemon/root_check.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include <sys/wait.h>

namespace holdfast::tests {

namespace fs = std::filesystem;

std::vector<std::string> Leftovers(const std::string& root) {
  std::vector<std::string> found;
  std::error_code vanished;  // a folder that is deleted while it is read
  fs::recursive_directory_iterator at(root, vanished);
  for (; !vanished && at != fs::recursive_directory_iterator(); at.increment(vanished)) {
    const fs::directory_entry& entry = *at;
    const std::string name = entry.path().filename().string();
    std::error_code ignored;
    const bool snapshot = entry.is_directory(ignored) && name.rfind("step-", 0) == 0;
    if (name.rfind(".tmp-", 0) == 0 || name.rfind(".trash-", 0) == 0 ||
        (snapshot && !fs::exists(entry.path() / "manifest.json", ignored))) {
      found.push_back(entry.path().string());
    }
  }
  if (vanished) {
    found.push_back("changes while it is read: " + vanished.message());
  }
  return found;
}

std::vector<std::string> WaitForCleanRoot(const std::string& root) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::vector<std::string> left = Leftovers(root);
  while (!left.empty() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    left = Leftovers(root);
  }
  return left;
}

int VerifyRoot(const std::string& root, std::string* said) {
  // A path of TempFolder: nothing in it for a shell to interpret.
  const std::string command = "cli/holdfast verify --root " + root + " 2>&1";
  FILE* output = ::popen(command.c_str(), "r");
  if (output == nullptr) {
    return -1;
  }
  std::array<char, 4096> part{};
  std::size_t count = 0;
  while ((count = std::fread(part.data(), 1, part.size(), output)) > 0) {
    said->append(part.data(), count);
  }
  const int status = ::pclose(output);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace holdfast::tests
