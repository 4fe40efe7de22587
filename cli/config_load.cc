#include "cli/config_load.h"

#include <cstdlib>

namespace holdfast::cli {
namespace {

constexpr const char* kSystemSocket = "/run/holdfast/holdfastd.sock";

std::string Variable(const char* name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets variables
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

Environment LoadEnvironment() {
  return {Variable("HOLDFAST_SOCKET"), Variable("XDG_STATE_HOME"), Variable("HOME")};
}

std::vector<std::string> SocketCandidates(const std::string& flag, const Environment& environment) {
  if (!flag.empty()) {
    return {flag};
  }
  if (!environment.holdfast_socket.empty()) {
    return {environment.holdfast_socket};
  }
  std::vector<std::string> candidates;
  // The XDG rules: a path that is not absolute is ignored.
  if (environment.xdg_state_home.starts_with("/")) {
    candidates.push_back(environment.xdg_state_home + "/holdfast/holdfastd.sock");
  } else if (!environment.home.empty()) {
    candidates.push_back(environment.home + "/.local/state/holdfast/holdfastd.sock");
  }
  candidates.emplace_back(kSystemSocket);
  return candidates;
}

}  // namespace holdfast::cli
