#include "daemon/config_keys.h"

#include <algorithm>
#include <cstddef>

namespace holdfast::daemon {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr ByteCount kPiB = kGiB * kMiB;

std::vector<KeySpec> DaemonKeys() {
  return {
      {"daemon.state_dir",
       PathField{&Config::state_dir},
       "Catalog and lock; on a local disk that survives a reboot. Only the operator knows which."},
      {"daemon.log_level",
       LevelField{&Config::log_level},
       "debug, info, warning or error. What a reader wants to see cannot be derived."},
      {"daemon.metrics",
       AddressField{&Config::metrics_address},
       "ADDRESS:PORT of the Prometheus endpoint, or off. Off by default: nothing listens unasked."},
      {"daemon.shutdown_timeout",
       DurationField{&Config::shutdown_timeout, milliseconds(100), minutes(10)},
       "Ending is as safe as a crash, so this only bounds how long SIGTERM waits for a clean end."},
  };
}

std::vector<KeySpec> ArenaKeys() {
  return {
      {"arena.dir",
       PathField{&Config::arena_dir},
       "A folder of a tmpfs or hugetlbfs, best one of its own; images live in it."},
      {"arena.budget",
       BytesField{&Config::budget_bytes, 64 * kMiB, kPiB, true},
       "Memory for images and quarantine; 0: half of what tmpfs and memory have free. The "
       "trainer's "
       "own need is not known to the daemon."},
      {"arena.prefault_threads",
       CountField{&Config::prefault_threads, 1, 256},
       "Threads that touch the pages of a new slot; more of them start a job faster and disturb "
       "its neighbours more."},
      {"arena.quarantine_poll",
       DurationField{&Config::quarantine_poll, milliseconds(10), minutes(10)},
       "How often a file that a dead client may still write to is looked at."},
  };
}

std::vector<KeySpec> ClientKeys() {
  return {
      {"clients.socket",
       PathField{&Config::socket},
       "Where trainers and the CLI connect; at most 107 bytes, a limit of the kernel."},
      {"clients.allowed_uids",
       UidListField{&Config::allowed_uids},
       "Users who may connect. Empty: the daemon's own user, or everyone if the daemon is root "
       "(a job still belongs to the user that registered it first)."},
      {"clients.roots",
       PathListField{&Config::client_roots},
       "Folders below which other users may name persistent roots: the daemon writes there with "
       "its own rights. Empty: only its own user may name any."},
      {"clients.max_sessions",
       CountField{&Config::max_sessions, 1, 65'536},
       "Connections at one time: bounds memory and descriptors whatever clients do."},
      {"clients.max_requests",
       CountField{&Config::max_requests_per_session, 4, 4'096},
       "Requests of one session that may wait for their answers; the next is refused until one "
       "has. Those about slots (begin, seal and the like) do not count."},
      {"clients.queue_bytes",
       BytesField{&Config::session_queue_bytes, kMiB, kPiB, false},
       "Answers that wait for one client to read them; above it the client is cut off."},
      {"clients.request_memory",
       BytesField{&Config::request_memory_bytes, 64 * kMiB, kPiB, false},
       "Requests of all clients that are being received or checked; above it the client with the "
       "largest is cut off, and may connect again."},
      {"clients.hello_timeout",
       DurationField{&Config::hello_timeout, milliseconds(10), hours(1)},
       "A connection that has not said hello by then is closed."},
      {"clients.send_timeout",
       DurationField{&Config::send_timeout, milliseconds(10), hours(1)},
       "A client that takes nothing of a message for so long is cut off; its slots stay its own."},
      {"clients.open_wait",
       DurationField{&Config::open_wait, milliseconds(0), minutes(10)},
       "How long a start of a job waits for the trainers of its last start to end, before it is "
       "refused. Longer than a killed worker takes to die; only its site knows."},
  };
}

std::vector<KeySpec> SnapshotKeys() {
  return {
      {"snapshots.slots_per_rank",
       CountField{&Config::slots_per_rank, 2, 64},
       "Slots that a rank gets unless it asks for another number: one fills, one flushes, one is "
       "kept. Memory against skipped snapshots."},
      {"snapshots.max_ranks_per_job",
       CountField{&Config::max_ranks_per_job, 1, 4'096},
       "Ranks of a job on this node: bounds what one job can take."},
      {"snapshots.orphan_ttl",
       DurationField{&Config::orphan_ttl, seconds(1), hours(24 * 365)},
       "How long the memory of a job without a live trainer is kept."},
      {"restore.tries",
       CountField{&Config::restore_tries, 1, 100},
       "Attempts for one snapshot in one incarnation before the next older one is taken."},
      {"restore.wait",
       DurationField{&Config::restore_wait, milliseconds(100), hours(24)},
       "How long an attempt waits for ranks that do not ask and tiers that do not answer."},
      {"restore.resume_wait",
       DurationField{&Config::resume_wait, milliseconds(100), hours(24)},
       "How long a trainer has, after a restart of the daemon, to claim the slot it was filling."},
  };
}

std::vector<KeySpec> PeerKeys() {
  return {
      {"peer.listen",
       AddressField{&Config::peer_listen},
       "ADDRESS:PORT where the daemons of other nodes connect, or off: then jobs have one node. "
       "Which network is for that only its site knows."},
      {"peer.advertise",
       AddressListField{&Config::peer_advertise},
       "Where others reach peer.listen, if not there: behind a translation, or where it listens on "
       "every address."},
      {"peer.authority",
       PathField{&Config::peer_authority, true},
       "Certificate of the cluster's authority (`holdfast certs init`). With it, peer.certificate "
       "and peer.key: mutual TLS between all nodes."},
      {"peer.certificate",
       PathField{&Config::peer_certificate, true},
       "Certificate of this node (`holdfast certs issue`)."},
      {"peer.key",
       PathField{&Config::peer_key, true},
       "Private key of this node, which nobody else may read."},
      {"peer.allow_insecure",
       BoolField{&Config::peer_allow_insecure},
       "Listens without certificates on other addresses than loopback: whoever reaches the port "
       "can then read and change everything."},
      {"peer.dead_after",
       DurationField{&Config::peer_dead_after, milliseconds(500), minutes(10)},
       "A connection on which nothing came for so long is given up. Shorter notices a lost node "
       "sooner, and takes a slow network for one."},
      {"peer.data_plane",
       PlaneListField{&Config::peer_data_plane},
       "How the bytes of other nodes are read: the first that this machine has. tls: over the "
       "peers' connection; else a provider of libfabric, whose bytes are in clear: only on a "
       "network that is trusted. Without tls in the list, a start without a fabric fails."},
      {"peer.fabric_device",
       NameField{&Config::peer_fabric_device},
       "Network device of the fabric (mlx5_0, rdmap0s6-rdm), where its address does not tell it."},
  };
}

std::vector<KeySpec> CodingKeys() {
  return {
      {"coding.data",
       CountField{&Config::coding_data, 1, 32},
       "Nodes whose shards are coded together, beside those with parity: k of k+m. More of them "
       "cost less memory, and more nodes are read to rebuild one."},
      {"coding.parity",
       CountField{&Config::coding_parity, 0, 4},
       "Nodes of a group that may be lost at one time without a snapshot: m of k+m. Each costs a "
       "k-th of the shards in memory, twice. 0: nodes do not protect each other."},
      {"coding.spread_percent",
       CountField{&Config::coding_spread_percent, 0, 100},
       "Part of the time between two snapshots, of 30 s at the most, over which the bytes for "
       "parity are brought, so that training keeps the network; 0: at once."},
      {"coding.bytes_per_second",
       BytesField{&Config::coding_bytes_per_second, kMiB, kPiB, true},
       "The most that this node takes in for parity, where its network card is to keep room for "
       "training; restores and rebuilds know no limit; 0: none."},
      {"coding.failure_domain",
       NameField{&Config::failure_domain},
       "What this node fails together with others by (rack, switch, power): nodes of one domain "
       "are "
       "spread over groups. Only its site knows."},
  };
}

std::vector<KeySpec> FlushKeys() {
  return {
      {"flush.bytes_per_second",
       BytesField{&Config::flush_bytes_per_second, kMiB, kPiB, true},
       "Bandwidth for each root, so that flushes leave the file system to others; 0: no limit."},
      {"flush.concurrency",
       CountField{&Config::flush_concurrency, 1, 64},
       "Shards flushed to one root at one time."},
      {"flush.block",
       BytesField{&Config::flush_block_bytes, kMiB, 64 * kMiB, false},
       "Size of one write, in whole MiB; parallel file systems have favourites."},
      {"flush.blocks_in_flight",
       CountField{&Config::flush_blocks_in_flight, 1, 64},
       "Writes of one shard under way at one time."},
      {"flush.direct_io",
       BoolField{&Config::flush_direct_io},
       "Past the page cache; false for file systems that claim O_DIRECT and are slow with it."},
      {"flush.retry_min",
       DurationField{&Config::flush_retry_min, milliseconds(10), hours(1)},
       "Wait before a failed flush is tried again; doubled up to retry_max."},
      {"flush.retry_max",
       DurationField{&Config::flush_retry_max, milliseconds(10), hours(24)},
       "The longest wait between tries."},
      {"flush.gives_way",
       CountField{&Config::flush_gives_way, 0, 1'000},
       "How often in a row a flush lets training have its slot before it insists."},
      {"flush.tier_timeout",
       DurationField{&Config::tier_timeout, milliseconds(100), hours(1)},
       "A small operation on a root that takes longer counts as hung."},
      {"flush.progress_timeout",
       DurationField{&Config::tier_progress_timeout, milliseconds(100), hours(1)},
       "A transfer of which no block ends for so long counts as hung."},
      {"flush.max_roots",
       CountField{&Config::max_roots, 1, 256},
       "Persistent roots in use at one time: each has threads of its own."},
  };
}

std::vector<KeySpec> WorkerKeys() {
  return {
      {"workers.cpu_threads",
       CountField{&Config::cpu_threads, 0, 1'024},
       "Threads that digest and verify; 0: a quarter of the processors, 1 to 8. The trainer's need "
       "is not known to the daemon."},
      {"workers.disk_threads",
       CountField{&Config::disk_threads, 1, 64},
       "Threads for the catalog and other blocking calls on local disks."},
  };
}

// Edit distance with rows of one line; names are short.
std::size_t Distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

}  // namespace

const std::vector<KeySpec>& ConfigKeys() {
  static const std::vector<KeySpec> keys = [] {
    std::vector<KeySpec> all;
    for (auto part : {DaemonKeys(),
                      ArenaKeys(),
                      ClientKeys(),
                      PeerKeys(),
                      CodingKeys(),
                      SnapshotKeys(),
                      FlushKeys(),
                      WorkerKeys()}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }();
  return keys;
}

const KeySpec* FindKey(std::string_view name) {
  for (const KeySpec& key : ConfigKeys()) {
    if (key.name == name) {
      return &key;
    }
  }
  return nullptr;
}

std::string_view NearestKey(std::string_view name) {
  // A hostile name of megabytes must not cost its square.
  const std::string_view cut = name.substr(0, 64);
  std::string_view nearest;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (const KeySpec& key : ConfigKeys()) {
    const std::size_t distance = Distance(cut, key.name);
    if (distance < least) {
      least = distance;
      nearest = key.name;
    }
  }
  return nearest;
}

}  // namespace holdfast::daemon
