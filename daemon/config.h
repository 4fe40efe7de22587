// Everything that an operator can set, in one struct, with one file format and one check.
//
// The keys are described once, in a table (config_keys.cc): unit, default, range and the reason why
// the key exists.  The parser, the check, the log of the effective configuration and the documents
// all read that table, so none of them can disagree.  A key is added only with a line on why its
// value cannot be derived.
//
// Threads:   value types; any thread.
// Ownership: values.
// Errors:    kInvalidArgument names file, line or flag, the key, what was found and what is
// accepted;
//            an unknown key is an error that names the nearest one (a typing error must never mean
//            "default").
// Lifecycle: defaults -> file -> flags -> ApplyDerivedDefaults -> Validate -> constant.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/log.h"
#include "common/result.h"
#include "common/units.h"

namespace holdfast::daemon {

struct Config {
  // [daemon]
  std::string state_dir;  // catalog and pid file
  LogLevel log_level = LogLevel::kInfo;
  std::string metrics_address;  // "127.0.0.1:9464"; empty: off
  std::chrono::milliseconds shutdown_timeout{5'000};

  // [arena]
  std::string arena_dir;
  bool discard_arena = false;  // --discard-arena: of one start, so no key of the file
  ByteCount budget_bytes = 0;  // 0: derived from the tmpfs and the memory
  std::uint64_t prefault_threads = 4;
  std::chrono::milliseconds quarantine_poll{500};

  // [clients]
  std::string socket;
  std::vector<std::uint32_t> allowed_uids;  // empty: own uid; where that is root, every uid
  std::vector<std::string> client_roots;    // folders below which other uids may name a root
  std::uint64_t max_sessions = 256;
  std::uint64_t max_requests_per_session = 64;
  ByteCount session_queue_bytes = 128 * kMiB;
  ByteCount request_memory_bytes = 256 * kMiB;
  std::chrono::milliseconds hello_timeout{10'000};
  std::chrono::milliseconds send_timeout{30'000};
  std::chrono::milliseconds open_wait{10'000};

  // [snapshots]
  std::uint64_t slots_per_rank = 3;
  std::uint64_t max_ranks_per_job = 64;
  std::chrono::milliseconds orphan_ttl{86'400'000};

  // [peer]: the daemons of other nodes
  std::string peer_listen;                  // "10.0.0.7:7400"; empty: no peers
  std::vector<std::string> peer_advertise;  // where others reach it; empty: peer_listen
  std::string peer_authority;               // certificates, all three or none
  std::string peer_certificate;
  std::string peer_key;
  bool peer_allow_insecure = false;
  std::chrono::milliseconds peer_dead_after{20'000};
  // "tls", and libfabric's names of providers, as peer.data_plane lists them.
  std::vector<std::string> peer_data_plane{"verbs;ofi_rxm", "efa", "tls"};
  std::string peer_fabric_device;  // empty: any that has the address of peer.listen

  // [coding]: how the nodes of a job protect each other
  std::uint64_t coding_data = 8;
  std::uint64_t coding_parity = 2;
  std::uint64_t coding_spread_percent = 50;
  ByteCount coding_bytes_per_second = 0;  // 0: no limit
  std::string failure_domain;             // of this node; empty: not known

  // [restore]
  std::uint64_t restore_tries = 3;
  std::chrono::milliseconds restore_wait{60'000};
  std::chrono::milliseconds resume_wait{30'000};

  // [flush]
  ByteCount flush_bytes_per_second = 0;  // 0: unlimited; of each root
  std::uint64_t flush_concurrency = 2;   // of each root
  ByteCount flush_block_bytes = 4 * kMiB;
  std::uint64_t flush_blocks_in_flight = 8;
  bool flush_direct_io = true;
  std::chrono::milliseconds flush_retry_min{1'000};
  std::chrono::milliseconds flush_retry_max{60'000};
  std::uint64_t flush_gives_way = 3;
  std::chrono::milliseconds tier_timeout{30'000};
  std::chrono::milliseconds tier_progress_timeout{60'000};
  std::uint64_t max_roots = 16;

  // [workers]
  std::uint64_t cpu_threads = 0;  // 0: derived from the processors
  std::uint64_t disk_threads = 2;
};

// One row of the table, as text; for documents and the log of the effective configuration.
struct ConfigKey {
  std::string name;   // "arena.budget"
  std::string unit;   // "bytes", "duration", "count", "text", "list", "yes/no"
  std::string range;  // as accepted
  std::string value;  // effective, in the file's own notation
  std::string why;    // what it is for, and why it cannot be derived
};

// All keys with the values that "config" has, in the order of the file.
[[nodiscard]] std::vector<ConfigKey> DescribeConfig(const Config& config);

// Every key in its range, and keys consistent with each other.  Looks at values only, never at the
// file system: --check-config must work on another machine.
[[nodiscard]] Status ValidateConfig(const Config& config);

// Sets the keys that "toml" names.  "source" is the file's name for messages.
[[nodiscard]] Status ApplyToml(std::string_view toml, const std::string& source, Config* config);

// Sets one key from text in the notation of the file ("512MiB", "30s"): flags.
[[nodiscard]] Status ApplyValue(std::string_view key, std::string_view text, Config* config);

// Reads a file of at most 1 MiB and applies it.
[[nodiscard]] Status ApplyConfigFile(const std::string& path, Config* config);

// Where things are for this user (XDG) or, for root, for the system.
struct Places {
  std::string state_dir;
  std::string arena_dir;
  std::string socket;
};

// state ${XDG_STATE_HOME:-~/.local/state}/holdfast, its holdfastd.sock, /dev/shm/holdfast-<uid>.
[[nodiscard]] Result<Places> UserPlaces();
// /var/lib/holdfast, /run/holdfast/holdfastd.sock, /dev/shm/holdfast.
[[nodiscard]] Places SystemPlaces();

// Fills what is still empty or 0: places, the budget (half of what the arena's file system and the
// memory have to give), threads.  kIoError where the system does not tell.
[[nodiscard]] Status ApplyDerivedDefaults(const Places& places, Config* config);

// The budget where none is set: half of what tmpfs and memory have free; what an arena of a former
// daemon holds counts as free and is the least, so that a restart never finds its own slots above
// its budget because they, or their trainers, have taken memory meanwhile.
[[nodiscard]] ByteCount BudgetFor(ByteCount on_tmpfs, ByteCount in_memory, ByteCount held);

// The value of $HOLDFAST_... and of systemd's variables: the only getenv of the daemon.
[[nodiscard]] std::string EnvironmentVariable(const char* name);

// "30s", "500ms", "5m", "24h", "2d".  kInvalidArgument names the accepted forms.
[[nodiscard]] Result<std::chrono::milliseconds> ParseDuration(std::string_view text);
[[nodiscard]] std::string FormatDuration(std::chrono::milliseconds duration);

// "/a//b/" to "/a/b".  kInvalidArgument unless absolute, without "." and "..", at most 1024 bytes,
// and without control characters.
[[nodiscard]] Result<std::string> NormalPath(std::string_view path);

}  // namespace holdfast::daemon
