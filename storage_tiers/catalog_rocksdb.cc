#include "storage_tiers/catalog_rocksdb.h"

#include <string_view>
#include <vector>

#include <rocksdb/cache.h>
#include <rocksdb/env.h>
#include <rocksdb/table.h>

#include "storage_tiers/catalog_log_mark.h"

namespace holdfast::storage_tiers {
namespace {

// Everything small: the daemon's memory outside the arena competes with the training.
rocksdb::Options MakeOptions(rocksdb::Env* env, ByteCount log_bytes) {
  rocksdb::Options options;
  options.env = env;
  options.write_buffer_size = log_bytes;
  options.max_write_buffer_number = 2;
  options.max_open_files = 64;
  options.max_background_jobs = 2;
  options.max_manifest_file_size = kMiB;
  // Digests and layouts do not compress; records are few.
  options.compression = rocksdb::kNoCompression;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(2 * kMiB);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));

  options.paranoid_checks = true;
  // A batch cut short by a crash was never answered and is dropped; damage before it is an error.
  // RocksDB's default (point in time) would start with what lies before the damage and silently
  // forget transitions that were answered.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;

  options.info_log_level = rocksdb::WARN_LEVEL;
  options.max_log_file_size = kMiB;
  options.keep_log_file_num = 4;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

Status CheckBeforeCreating(rocksdb::Env* env, const std::string& path) {
  std::vector<std::string> names;
  const rocksdb::Status listed = env->GetChildren(path, &names);
  if (!listed.ok()) {
    return listed.IsNotFound() ? Status(Ok()) : CatalogError(listed, "list " + path);
  }
  for (const std::string_view name : names) {
    if (name.ends_with(".sst") || name.ends_with(".log") || name == kLogMarkFileName) {
      return Error(Errc::kCorruption,
                   "the catalog in " + path + " has data (" + std::string(name) +
                       ") but no CURRENT file" + kWayOut);
    }
  }
  return Ok();
}

}  // namespace

Error CatalogError(const rocksdb::Status& status, const std::string& what) {
  Errc code = Errc::kIoError;
  if (status.IsNoSpace()) {
    code = Errc::kNoSpace;
  } else if (status.IsCorruption()) {
    code = Errc::kCorruption;
  } else if (status.IsPathNotFound() || status.IsNotFound()) {
    code = Errc::kNotFound;
  } else if (status.IsBusy() || status.IsTryAgain() || status.IsShutdownInProgress()) {
    code = Errc::kUnavailable;
  } else if (status.IsTimedOut()) {
    code = Errc::kTimeout;
  } else if (status.IsNotSupported()) {
    code = Errc::kVersionMismatch;
  } else if (status.IsInvalidArgument()) {
    code = Errc::kInternal;
  }
  return Error(code, what + ": " + status.ToString());
}

Result<std::unique_ptr<rocksdb::DB>> OpenCatalogDb(const std::string& path,
                                                   rocksdb::Env* env,
                                                   ByteCount log_bytes,
                                                   bool create) {
  rocksdb::Options options = MakeOptions(env, log_bytes);
  options.create_if_missing = create;
  const rocksdb::Status exists = options.env->FileExists(path + "/CURRENT");
  if (exists.IsNotFound()) {
    if (!create) {
      return Error(Errc::kNotFound, "there is no catalog in " + path);
    }
    HF_TRYV(CheckBeforeCreating(options.env, path));
  } else if (!exists.ok()) {
    return CatalogError(exists, "look for " + path + "/CURRENT");
  }
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open(options, path, &db);
  std::unique_ptr<rocksdb::DB> owned(db);
  if (!opened.ok()) {
    Error error = CatalogError(opened, "open catalog " + path);
    if (error.code == Errc::kCorruption) {
      error.message += kWayOut;
    }
    return error;
  }
  return owned;
}

Result<std::unique_ptr<rocksdb::DB>> OpenCatalogDbReadOnly(const std::string& path,
                                                           rocksdb::Env* env) {
  const rocksdb::Options options = MakeOptions(env, kLogBytes);
  if (options.env->FileExists(path + "/CURRENT").IsNotFound()) {
    return Error(Errc::kNotFound, "there is no catalog in " + path);
  }
  // A running daemon may remove a file between our listing and our opening it.
  constexpr int kTries = 3;
  rocksdb::Status opened;
  for (int i = 0; i < kTries; ++i) {
    rocksdb::DB* db = nullptr;
    opened = rocksdb::DB::OpenForReadOnly(options, path, &db);
    std::unique_ptr<rocksdb::DB> owned(db);
    if (opened.ok()) {
      return owned;
    }
    if (!opened.IsPathNotFound() && !opened.IsNotFound()) {
      break;
    }
  }
  Error error = CatalogError(opened, "read catalog " + path);
  if (error.code == Errc::kNotFound) {
    error.code = Errc::kUnavailable;
    error.message += ": its files change; try again";
  }
  return error;
}

}  // namespace holdfast::storage_tiers
