// What every command gets: where to print, where to look, and the seams that tests replace.
//
// Threads:   one thread.
// Ownership: borrows all of it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/admin_channel.h"
#include "cli/config_load.h"
#include "cli/console.h"
#include "cli/source.h"
#include "storage_tiers/file_system.h"

namespace holdfast::cli {

using ConnectFunction =
    std::function<Result<std::unique_ptr<AdminChannel>>(const std::vector<std::string>& sockets)>;

struct Context {
  Console console;
  Environment environment;
  std::string socket;  // --socket
  storage_tiers::FileSystem& fs;
  ConnectFunction connect;
};

// Where --root, --state-dir and --arena say to look; none of them: the daemon.
struct Places {
  std::vector<std::string> roots;
  std::string state_dir;
  std::string arena;

  [[nodiscard]] bool offline() const { return !roots.empty() || !state_dir.empty(); }
};

struct Sources {
  std::unique_ptr<AdminChannel> channel;      // where the daemon is asked
  std::vector<std::unique_ptr<Source>> list;  // never empty
};

// A failure that was told to the user already is only its exit.
template <class T>
struct OrExit {
  std::optional<T> value;
  ExitCode exit = ExitCode::kOk;
};

// Connects, or says which sockets were tried and exits with kNoDaemon (kRefused where a socket is
// there and may not be used).
[[nodiscard]] OrExit<std::unique_ptr<AdminChannel>> Connect(const Context& context);

[[nodiscard]] OrExit<Sources> OpenSources(const Context& context, const Places& places);

// kNotFound names the first of several --root that is no folder: what the others hold must not pass
// for all that was asked for.
[[nodiscard]] Status CheckRoots(const Context& context, const Places& places);

// A snapshot and where it was found.
struct FoundSnapshot {
  proto::SnapshotInfo snapshot;
  Source* source = nullptr;
};

// The first source that has it.  The error of the last one tells the user what there is.
[[nodiscard]] Result<FoundSnapshot> FindIn(const Sources& sources,
                                           const std::string& job,
                                           const std::string& spec);

// "/data/" and "/data" are one root; "." and relative paths are made absolute by the caller's
// working folder.
[[nodiscard]] std::string CleanPath(const std::string& path);

}  // namespace holdfast::cli
