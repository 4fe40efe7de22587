// Small files that appear whole or not at all.
//
// Both ways write a temporary file beside the target, sync it, and then give it its name: by link
// where the name must never be taken from somebody else (manifest.json, job.json, incarnation
// records), by rename where the newest writer wins (LATEST, an incarnation's own record).
//
// Threads:   any worker thread; any number of processes on any number of nodes.
// Errors:    kAlreadyExists from PublishExclusive where the name holds other bytes; else the failed
//            call's.  A temporary file may stay behind after an error or a crash: its name starts
//            with kTemporaryPrefix, and the tier's clean-up removes it.
// Durability: after Ok contents and name survive a power cut.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"
#include "storage_tiers/file_system.h"

namespace holdfast::storage_tiers {

inline constexpr std::string_view kTemporaryPrefix = ".tmp-";

// Creates "<folder>/<name>" with exactly "contents", or leaves what is there alone.  Ok also if the
// same bytes are there already (a repeated call after a lost answer, also an NFS server's), and
// then they are made durable too: their writer may not have come that far.
[[nodiscard]] Status PublishExclusive(FileSystem& fs,
                                      const std::string& folder,
                                      std::string_view name,
                                      std::string_view contents);

// Replaces "<folder>/<name>", or creates it.  Readers see the old or the new bytes, never a
// mixture.
[[nodiscard]] Status ReplaceAtomically(FileSystem& fs,
                                       const std::string& folder,
                                       std::string_view name,
                                       std::string_view contents);

}  // namespace holdfast::storage_tiers
