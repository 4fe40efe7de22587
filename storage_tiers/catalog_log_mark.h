// The log mark: how a catalog that has lost a file of its log is told from a whole one.
//
// RocksDB opens without a word when a file of its log is gone, as an older state.  So the header
// counts the logs (CatalogHeader.log_mark): it is raised, synced, in the first moments of each new
// log, and only then is the same number put into a small file beside RocksDB's.  The header is thus
// never behind the file, whatever was cut in between; if it is, records that were synced are gone.
// docs/format/catalog.md says what this does not find.
//
// Internal to catalog.cc.
//
// Threads:    blocking, worker threads only.
// Durability: after WriteLogMark the number is on the disk; after an error there is the old one or
//             the new one.
#pragma once

#include <cstdint>
#include <string>

#include <rocksdb/env.h>

#include "common/result.h"

namespace holdfast::storage_tiers {

inline constexpr char kLogMarkFileName[] = "holdfast.log_mark";

// Of the database in "path".  0: there is none, or it is damaged or cannot be read; the mark is a
// check, and a spoilt one is no reason to refuse a catalog.
[[nodiscard]] std::uint64_t ReadLogMark(rocksdb::Env* env, const std::string& path);

[[nodiscard]] Status WriteLogMark(rocksdb::Env* env, const std::string& path, std::uint64_t mark);

}  // namespace holdfast::storage_tiers
