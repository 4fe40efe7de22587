// Where a command looks: the daemon of this node, a folder of a persistent tier, or what a dead
// daemon left behind.
//
// One abstraction, so that ls, show, verify and export are written once and work when nothing runs:
// the day on which an operator needs them is the day on which the daemon does not start.
//
// Threads:   one thread; reading images uses more inside.
// Ownership: an OpenedShard owns its descriptors.  One of the daemon's memory is pinned there, with
//            all its images, until the next OpenShard of the same source.
// Errors:    kNotFound for what is not there; kCorruption for what cannot be believed; a listing
//            never fails for one damaged thing: that is a Problem beside the rest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/image_reader.h"
#include "cli/progress.h"
#include "common/result.h"
#include "proto/client.pb.h"

namespace holdfast::cli {

// Something that is not as it should be, found beside what was asked for.
struct Problem {
  std::string what;  // a path, or the name of a record
  Error error;
};

struct Listing {
  // Newest first: by incarnation, then step, both falling; jobs in order of their names.
  proto::ListReply reply;
  std::vector<Problem> problems;
};

struct OpenedImage {
  proto::ImageDigest digest;
  ImageReader reader;
};

struct OpenedShard {
  proto::Sidecar sidecar;  // validated, with layout
  std::vector<OpenedImage> images;
};

// What a look at every byte of a shard found.
struct ShardVerdict {
  struct BadImage {
    proto::ImageKind kind = proto::DYNAMIC;
    std::vector<std::uint64_t> chunks;  // ascending
  };

  std::string job;
  proto::SnapshotId id;
  std::uint32_t rank = 0;
  std::string place;
  ByteCount bytes = 0;  // read and digested
  std::vector<BadImage> bad;
  std::vector<std::string> tensors;  // that lie in bad chunks
  std::optional<Error> error;        // why it could not be looked at

  [[nodiscard]] bool ok() const { return bad.empty() && !error; }
};

class Source {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  // "memory", or the root: stands in tables and JSON.
  [[nodiscard]] virtual std::string place() const = 0;

  // All snapshots of "job"; empty: of all jobs.  kNotFound where a named job is not here.
  [[nodiscard]] virtual Result<Listing> List(const std::string& job) = 0;

  // The place and its jobs.  "listing": of all jobs, as List gave it; a daemon knows without.
  [[nodiscard]] virtual Result<proto::StatusReply> Overview(const Listing& listing) = 0;

  // A shard that "snapshot" lists.
  [[nodiscard]] virtual Result<OpenedShard> OpenShard(const proto::SnapshotInfo& snapshot,
                                                      std::uint32_t rank) = 0;

  // Reads and digests all of it.  What is wrong with the shard is in the verdict; an error is only
  // what ends the whole verification (interrupted, the daemon gone).
  [[nodiscard]] virtual Result<ShardVerdict> VerifyShard(const proto::SnapshotInfo& snapshot,
                                                         std::uint32_t rank,
                                                         Progress* progress);

  // Whether "snapshot", of which a shard could not be read for "error", was removed since it was
  // listed: retention goes on while somebody reads.  What it took is neither good nor bad.
  [[nodiscard]] virtual bool Retired(const proto::SnapshotInfo& snapshot, const Error& error);

 protected:
  // The verdict before anything was read.
  [[nodiscard]] ShardVerdict NewVerdict(const proto::SnapshotInfo& snapshot,
                                        std::uint32_t rank) const;
};

// Orders as Listing says and drops nothing.
void SortNewestFirst(proto::ListReply* reply);

// Whether a restore could take it: not poisoned, not still being filled.
[[nodiscard]] bool Readable(const proto::ShardInfo& shard);

// Ranks of the world that have no readable shard in it, ascending.
[[nodiscard]] std::vector<std::uint32_t> MissingRanks(const proto::SnapshotInfo& snapshot);

// The bytes of the shards' dynamic images in all: what this snapshot has for itself.
[[nodiscard]] ByteCount BytesOf(const proto::SnapshotInfo& snapshot);

// Of their static images: frozen tensors, which other snapshots share.
[[nodiscard]] ByteCount StaticBytesOf(const proto::SnapshotInfo& snapshot);

}  // namespace holdfast::cli
