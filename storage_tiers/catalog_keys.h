// The key schema of the catalog.
//
// A key is one byte for the family of the record, then the fields that name it; numbers are
// big-endian, so that records lie in the order of the numbers and a prefix selects all of a family,
// job or snapshot.  Every field but the last has a fixed width, so no two names give one key.  The
// schema is a format (docs/format/catalog.md): old catalogs are read by it for ever.
//
//   family        key                                            value
//   H header      "H"                                            CatalogHeader
//   C sidecar     "C" job_uid[16] incarnation[8] step[8] rank[4] SidecarRecord
//   E row         "E" job_uid[16] incarnation[8] step[8] epoch[8]
//                     version[4] local_rank[4] row[4]            RowRecord, of a dynamic image;
//                     ... row[4] "S"                             of a static one
//   I incarnation "I" job_uid[16] number[8]                      IncarnationRecord
//   J job         "J" job_uid[16]                                JobRecord
//   L layout      "L" hash[16]                                   LayoutRecord
//   O outcome     "O" job_uid[16] incarnation[8] step[8]         OutcomeRecord
//   P durable     "P" job_uid[16] incarnation[8] step[8] root    DurableRecord
//   R shard       "R" job_uid[16] incarnation[8] step[8] rank[4] ShardRecord
//   S slot        "S" slot[4]                                    SlotRecord
//
// A key is never parsed for its fields: the record repeats them, and a record under another key
// than its own is damaged (ParseRecord).
//
// Threads: any thread; pure functions.
// Errors:  none; who hands in a uid of a wrong length gets a key that no valid record has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "proto/catalog.pb.h"

namespace holdfast::storage_tiers {

enum class CatalogFamily : char {
  kSidecar = 'C',
  kRow = 'E',
  kHeader = 'H',
  kIncarnation = 'I',
  kJob = 'J',
  kLayout = 'L',
  kOutcome = 'O',
  kDurable = 'P',
  kShard = 'R',
  kSlot = 'S',
};

[[nodiscard]] std::string HeaderKey();
[[nodiscard]] std::string JobKey(std::string_view job_uid);
[[nodiscard]] std::string SlotKey(std::uint32_t slot);
[[nodiscard]] std::string ShardKey(const proto::SnapshotId& id, std::uint32_t rank);
[[nodiscard]] std::string LayoutKey(std::string_view hash);
[[nodiscard]] std::string IncarnationKey(std::string_view job_uid, std::uint64_t number);
[[nodiscard]] std::string SidecarKey(const proto::SnapshotId& id, std::uint32_t rank);
[[nodiscard]] std::string RowKey(const proto::RowRecord& record);
[[nodiscard]] std::string OutcomeKey(const proto::SnapshotId& id);
[[nodiscard]] std::string DurableKey(const proto::SnapshotId& id, std::string_view root);

// "catalog key S00000003", hexadecimal after the family: for messages.  Takes any bytes; a long key
// is shortened.
[[nodiscard]] std::string DescribeKey(std::string_view key);

}  // namespace holdfast::storage_tiers
