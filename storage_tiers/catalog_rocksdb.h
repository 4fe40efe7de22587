// RocksDB as the catalog uses it: options, opening, errors.  Internal to catalog.cc.
//
// Threads: any thread.
// Errors:  every rocksdb::Status becomes an Error here; the code says what the caller can do.
#pragma once

#include <memory>
#include <string>

#include <rocksdb/db.h>
#include <rocksdb/options.h>

#include "common/result.h"
#include "common/units.h"

namespace holdfast::storage_tiers {

// A log is written anew, and its records to a file of their own, when it has about so many bytes.
inline constexpr ByteCount kLogBytes = 4 * kMiB;

// The one way out of a catalog that cannot be read, for whoever starts the daemon.
inline constexpr const char* kWayOut =
    ": restore it, or move the folder away to start with an empty catalog (snapshots in memory are "
    "forgotten, durable ones are not)";

// "what" names the call and the catalog.  The status must not be Ok.
[[nodiscard]] Error CatalogError(const rocksdb::Status& status, const std::string& what);

// Opens the database in "path".
// Without "create": kNotFound if there is none.  With it: a new one, but never over the remains of
// an old one that lost its CURRENT file (kCorruption): RocksDB would delete those.
[[nodiscard]] Result<std::unique_ptr<rocksdb::DB>> OpenCatalogDb(const std::string& path,
                                                                 rocksdb::Env* env,
                                                                 ByteCount log_bytes,
                                                                 bool create);

// The database as of now, without a lock and without writing a byte.
[[nodiscard]] Result<std::unique_ptr<rocksdb::DB>> OpenCatalogDbReadOnly(const std::string& path,
                                                                         rocksdb::Env* env);

}  // namespace holdfast::storage_tiers
