// What the environment says: the only place of the program that reads it.
//
// Threads: before the first thread starts (getenv).
#pragma once

#include <string>
#include <vector>

namespace holdfast::cli {

struct Environment {
  std::string holdfast_socket;  // HOLDFAST_SOCKET
  std::string xdg_state_home;   // XDG_STATE_HOME
  std::string home;             // HOME
};

[[nodiscard]] Environment LoadEnvironment();

// The sockets to try, in order.  What a user names (--socket, else HOLDFAST_SOCKET) is the only one
// tried: silently asking another daemon than the named one could drop the wrong job.  Else the
// user's own daemon, then the system's.
[[nodiscard]] std::vector<std::string> SocketCandidates(const std::string& flag,
                                                        const Environment& environment);

}  // namespace holdfast::cli
