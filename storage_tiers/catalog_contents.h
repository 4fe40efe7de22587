// All that the catalog holds, as checked records; and the parser of one record.
//
// Pure, without RocksDB, so that a fuzzer can feed it any bytes and the CLI can use it on copies.
//
// Threads:   value types; any thread.
// Ownership: owns everything.
// Errors:    ParseRecord: kCorruption (bytes, grammar, or a record under another key than its own)
//            or kVersionMismatch; the message names the key.  Nothing is added then.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "proto/catalog.pb.h"

namespace holdfast::storage_tiers {

// A record that was left out: it is never trusted, and it is never a reason not to start.
struct DamagedRecord {
  std::string key;
  Error why;
};

struct CatalogContents {
  std::optional<proto::CatalogHeader> header;  // absent before the first boot
  std::vector<proto::JobRecord> jobs;
  std::vector<proto::SlotRecord> slots;
  std::vector<proto::ShardRecord> shards;        // sidecars without layout
  std::map<std::string, proto::Layout> layouts;  // by hash, which is that of the layout
  std::vector<proto::IncarnationRecord> incarnations;
  std::vector<proto::OutcomeRecord> outcomes;
  std::vector<proto::DurableRecord> durables;
  std::vector<proto::RowRecord> rows;
  std::vector<proto::SidecarRecord> sidecars;  // without layout

  // The first kMaxDamagedKept; damaged_count has them all.
  std::vector<DamagedRecord> damaged;
  std::uint64_t damaged_count = 0;
};

// Bounds memory when a whole catalog is damaged.
inline constexpr std::size_t kMaxDamagedKept = 256;

// Adds the record under "key" to "contents".  Takes any bytes.
[[nodiscard]] Status ParseRecord(std::string_view key,
                                 std::string_view value,
                                 CatalogContents* contents);

// ParseRecord, with a record that cannot be taken noted in contents->damaged.
void AddRecord(std::string_view key, std::string_view value, CatalogContents* contents);

}  // namespace holdfast::storage_tiers
