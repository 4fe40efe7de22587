// What a valid record of the catalog looks like.
//
// One grammar for both directions: the batch refuses to write what a later start would refuse to
// read (a daemon that wrote such a record would lose it at its next start, when it is needed), and
// the start refuses what a damaged disk or a foreign program put there.  Meaning across records (a
// shard whose slot is gone, two jobs of one name) is the core's to judge, not ours.
//
// Threads: any thread; pure functions.
// Errors:  kInvalidArgument, or kVersionMismatch where a newer Holdfast wrote the record; the
//          message names the field.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/result.h"
#include "proto/catalog.pb.h"

namespace holdfast::storage_tiers {

inline constexpr std::uint32_t kCatalogFormatVersion = 1;

[[nodiscard]] Status ValidateRecord(const proto::CatalogHeader& record);
[[nodiscard]] Status ValidateRecord(const proto::JobRecord& record);
[[nodiscard]] Status ValidateRecord(const proto::SlotRecord& record);
[[nodiscard]] Status ValidateRecord(const proto::ShardRecord& record);
[[nodiscard]] Status ValidateRecord(const proto::IncarnationRecord& record);
[[nodiscard]] Status ValidateRecord(const proto::OutcomeRecord& record);
[[nodiscard]] Status ValidateRecord(const proto::DurableRecord& record);
[[nodiscard]] Status ValidateRecord(const proto::RowRecord& record);
[[nodiscard]] Status ValidateRecord(const proto::SidecarRecord& record);

// A layout is named by its content: "hash" must be the hash of the record's layout.
[[nodiscard]] Status ValidateLayoutRecord(std::string_view hash, const proto::LayoutRecord& record);

}  // namespace holdfast::storage_tiers
