// The commands of `holdfast`, each in its own command_*.cc.
//
// Each prints its result itself and returns the exit; what it promises to users is in
// docs/operations.md, "The holdfast command".
//
// Threads:   one thread; verify, export and restore use more inside.
// Errors:    none leave a command: they were printed (and written as JSON) before it returns.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/exit_code.h"

namespace holdfast::cli {

// Of the commands that can ask every node.
struct ClusterOptions {
  bool on = false;
  double timeout_seconds = 5;  // for each node

  [[nodiscard]] std::chrono::milliseconds timeout() const {
    return std::chrono::milliseconds(static_cast<std::int64_t>(timeout_seconds * 1'000));
  }
};

struct StatusOptions {
  Places places;
  ClusterOptions cluster;
};

[[nodiscard]] ExitCode RunStatus(const Context& context, const Places& places);
[[nodiscard]] ExitCode RunClusterStatus(const Context& context, const ClusterOptions& options);

struct LsOptions {
  std::string job;  // empty: all
  Places places;
  ClusterOptions cluster;
};

[[nodiscard]] ExitCode RunLs(const Context& context, const LsOptions& options);
[[nodiscard]] ExitCode RunClusterLs(const Context& context, const LsOptions& options);

struct ShowCommandOptions {
  std::string job;
  std::string snapshot;
  std::optional<std::uint32_t> rank;  // else the lowest that can be read here
  bool tensors = false;
  bool state = false;
  Places places;
  ClusterOptions cluster;
};

[[nodiscard]] ExitCode RunShow(const Context& context, const ShowCommandOptions& options);
[[nodiscard]] ExitCode RunClusterShow(const Context& context, const ShowCommandOptions& options);

struct VerifyOptions {
  std::string job;       // empty: all
  std::string snapshot;  // empty: all of the job
  std::optional<std::uint32_t> rank;
  bool memory_only = false;  // of the daemon: not the roots that it names
  Places places;
  ClusterOptions cluster;  // --peers
};

[[nodiscard]] ExitCode RunVerify(const Context& context, const VerifyOptions& options);
[[nodiscard]] ExitCode RunVerifyPeers(const Context& context, const VerifyOptions& options);

struct ExportOptions {
  std::string job;
  std::string snapshot;
  std::string to;
  std::optional<std::uint32_t> rank;  // else all of the world
  bool partial = false;               // what is here is enough
  Places places;
};

[[nodiscard]] ExitCode RunExport(const Context& context, const ExportOptions& options);

struct RestoreOptions {
  std::string job;
  std::string snapshot;
  std::string from_root;  // this, or state_dir
  std::string state_dir;
  std::string arena;
  std::string to_root;
};

[[nodiscard]] ExitCode RunRestore(const Context& context, const RestoreOptions& options);

struct RmOptions {
  std::string job;
  std::string snapshot;
  std::string root;
  bool memory = false;
  bool yes = false;
  bool force = false;
};

[[nodiscard]] ExitCode RunRm(const Context& context, const RmOptions& options);

struct DropOptions {
  std::string job;
  bool force = false;
  bool forget = false;
};

[[nodiscard]] ExitCode RunDrop(const Context& context, const DropOptions& options);

[[nodiscard]] ExitCode RunConfigCheck(const Context& context, const std::string& file);

struct CertsOptions {
  std::string folder;
  std::string node;                    // a uuid
  std::vector<std::string> addresses;  // of that node
  std::uint32_t days = 0;              // 0: the default
};

[[nodiscard]] ExitCode RunCertsInit(const Context& context, const CertsOptions& options);
[[nodiscard]] ExitCode RunCertsIssue(const Context& context, const CertsOptions& options);

}  // namespace holdfast::cli
