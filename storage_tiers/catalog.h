// The catalog: what the daemon must know again after it died, each transition whole or not at all.
//
// A RocksDB in "state_dir" that holds the records of catalog_keys.h.  RocksDB, because a write of a
// batch is atomic and synced, and because damage is found by checksums; nothing else of it is used.
//
//   <folder>/lock   held by the one daemon that writes
//   <folder>/db/    RocksDB's, and holdfast.log_mark (catalog_log_mark.h)
//
// Threads:   blocking, worker threads only; any number of them, the calls take turns.
// Ownership: owns the lock and the database.
// Errors:    of Open: kAlreadyExists (another daemon has it; the message names its pid), kNotFound
//            (not there and not to be created), kVersionMismatch (a newer Holdfast wrote it),
//            kCorruption (its files do not fit together, or one is gone; nothing was changed then,
//            so that it can be put back), kPermission, kNoSpace, kIoError.
//            Of Apply: kNoSpace or kIoError while the disk is full or fails; see there.
// Durability: an Apply that returned Ok is found by every later Open, whole, also after a power
// cut;
//            of one that did not, nothing is seen by this object (I3).
// Lifecycle: Open, then StartBoot and Load, then Apply.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "common/result.h"
#include "common/units.h"
#include "proto/catalog.pb.h"
#include "storage_tiers/arena_folder_lock.h"
#include "storage_tiers/catalog_batch.h"
#include "storage_tiers/catalog_contents.h"

namespace rocksdb {
class DB;
class Env;
class WriteBatch;
}  // namespace rocksdb

namespace holdfast::storage_tiers {

struct CatalogOptions {
  // For the CLI: nothing is written, no lock is taken; a running daemon's catalog can be read too
  // (as of the moment of Open), unless it changes its files at that moment (kUnavailable: try
  // again).
  bool read_only = false;
  // Makes the folder (in an existing parent) and the database if they are not there.
  bool create = true;
  // Tests only: an environment that fails or loses power.  Outlives the Catalog.
  rocksdb::Env* env = nullptr;
  // Tests only: how large a log grows, at least 64 KiB; 0: as always.
  ByteCount log_bytes = 0;
};

class Catalog {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Catalog>> Open(const std::string& folder,
                                                             const CatalogOptions& options);

  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;
  ~Catalog();

  // All records; damaged ones are listed in the result, not in it.  kCorruption where RocksDB
  // itself finds blocks that do not match: what is missing then is not known, so nothing is
  // returned.
  [[nodiscard]] Result<CatalogContents> Load();

  // Raises the boot number, synced, and returns the header with it; makes node_uuid at the first
  // boot.  To be called BEFORE anything is served: the number tells this daemon's messages from
  // those of its former lives.  kCorruption: the header is damaged or lost.  It is not made anew,
  // since the node would come back as a stranger to its own job.
  [[nodiscard]] Result<proto::CatalogHeader> StartBoot();

  // Adds the arena to the header's list, synced; the oldest of too many goes.  To be called BEFORE
  // any slot is made in that arena: a file of an arena that no catalog remembers is nobody's.
  [[nodiscard]] Status RememberArena(const std::string& uuid);

  // Writes all of the batch, synced, or nothing.
  //
  // After an error (disk full, I/O) the batch is not in the catalog: this object guarantees it by
  // restoring, with its next successful Apply and atomically with it, what the keys held before.
  // Only if the process dies first, the failed batch may be found, whole, by the next Open, as if
  // the crash had come just after it; so nothing that depends on it being absent may be done before
  // another Apply succeeded.  Each call tries to get the database going again, so the caller
  // repeats the batch, with a pause, until it is Ok.
  //
  // kInternal: a record that could not be read again (CatalogBatch::check), or no StartBoot before;
  // repeating cannot help.
  // kPermission: opened read-only.
  [[nodiscard]] Status Apply(const CatalogBatch& batch);

 private:
  // What a key held before a write that failed; absent: nothing.
  using Undo = std::map<std::string, std::optional<std::string>, std::less<>>;

  Catalog(std::string folder, const CatalogOptions& options, std::optional<FolderLock> lock);

  [[nodiscard]] rocksdb::Env* Env() const;
  [[nodiscard]] std::string DbPath() const;
  // kCorruption where records are known to have been there and are not.
  [[nodiscard]] Status RefuseLostLog() const;
  // Counts the log that RocksDB writes to, once.
  void MarkLog();
  [[nodiscard]] Status OpenDb();
  [[nodiscard]] Status RefuseNewerFormat() const;

  // The header as it is; absent if the database is empty.
  [[nodiscard]] Result<std::optional<proto::CatalogHeader>> ReadHeader() const {
    return ReadHeaderOf(db_.get());
  }

  [[nodiscard]] Result<std::optional<proto::CatalogHeader>> ReadHeaderOf(rocksdb::DB* db) const;
  [[nodiscard]] Status Write(const std::vector<CatalogBatch::Op>& ops);
  // Makes undo_ cover "ops", whose write failed.
  [[nodiscard]] Status RememberOldValues(const std::vector<CatalogBatch::Op>& ops);

  // Constant after construction.
  const std::string folder_;
  const CatalogOptions options_;
  const std::optional<FolderLock> lock_;  // absent: read-only

  // Guarded by mutex_.
  std::mutex mutex_;
  std::unique_ptr<rocksdb::DB> db_;  // null after a failed attempt to open it again
  bool booted_ = false;              // the header is there
  std::uint64_t marked_log_ = 0;     // number of the log that the header counts last
  bool failed_ = false;              // a write failed: open the database again before the next
  bool broken_ = false;              // the old values could not be read: no more writes
  Undo undo_;
};

}  // namespace holdfast::storage_tiers
