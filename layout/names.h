// Names on the persistent tier: which job names, folders and files exist, and nothing else does.
//
//   <root>/<job>/step-00001200.i0007/rank-00000.safetensors            worlds of up to 256 ranks
//   <root>/<job>/step-00001200.i0007/r0256/rank-00300.safetensors      larger worlds
//
// A name is a pure function of (id, rank, world size, kind), so a reader can refuse any other: a
// manifest cannot lead it out of the job's folder, and two ranks cannot name one file.  Numbers are
// padded so that a sorted listing is in order for the usual sizes; larger numbers take more digits.
//
// Threads: any thread; pure functions.
// Errors:  kInvalidArgument names what is wrong.  Functions that only format do not check ranges:
//          callers pass ids and ranks that were validated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"
#include "proto/manifest.pb.h"

namespace holdfast::layout {

inline constexpr std::size_t kUidBytes = 16;  // job_uid, node_uuid
inline constexpr std::uint32_t kMaxWorldSize = 1u << 20;
// Ranks of one subfolder in large worlds: metadata servers slow down on folders of many thousands.
inline constexpr std::uint32_t kRanksPerFolder = 256;

// [A-Za-z0-9_.-]{1,128}, neither "." nor "..": safe as one component of a path.
[[nodiscard]] Status ValidateJobName(std::string_view name);

// That "id" is complete: a job_uid of 16 bytes, an incarnation from 1, a step from 0.
[[nodiscard]] Status ValidateSnapshotId(const proto::SnapshotId& id);

// That world_size is 1 to kMaxWorldSize and rank is below it.
[[nodiscard]] Status ValidateRank(std::uint32_t rank, std::uint32_t world_size);

// "step-00001200.i0007": step in at least 8 digits, incarnation in at least 4.
[[nodiscard]] std::string SnapshotFolderName(const proto::SnapshotId& id);

// The id, with the given job_uid, of a folder name.  Only what SnapshotFolderName writes is read
// ("step-1200.i7" is refused): each id has one name.  A job's folder also holds other entries, so
// kInvalidArgument is no alarm to who lists it.
[[nodiscard]] Result<proto::SnapshotId> ParseSnapshotFolderName(std::string_view name,
                                                                std::string_view job_uid);

// "" in worlds of up to kRanksPerFolder, else "r0256/": the first rank of the subfolder in at least
// 4 digits.
[[nodiscard]] std::string RankSubfolder(std::uint32_t rank, std::uint32_t world_size);

// Subfolder and "rank-00000.safetensors", or "rank-00000.static.safetensors" for the static image;
// rank in at least 5 digits.  Relative to the snapshot's folder.
[[nodiscard]] std::string RankFileName(std::uint32_t rank,
                                       std::uint32_t world_size,
                                       proto::ImageKind kind = proto::DYNAMIC);

// Subfolder and "rank-00000.meta".
[[nodiscard]] std::string SidecarFileName(std::uint32_t rank, std::uint32_t world_size);

}  // namespace holdfast::layout
