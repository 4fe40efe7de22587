#include "cli/source_state.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "cli/snapshot_state.h"
#include "cli/text.h"
#include "layout/names.h"
#include "layout/sidecar.h"
#include "storage_tiers/file_system.h"
#include "storage_tiers/retention.h"
#include "storage_tiers/slot_file.h"

namespace holdfast::cli {
namespace {

using storage_tiers::JoinPath;

constexpr std::string_view kSlotsFolder = "slots";

// One key for each snapshot, whatever the order of the records.
std::string KeyOf(const proto::SnapshotId& id) {
  return id.job_uid() + ":" + std::to_string(id.incarnation()) + ":" + std::to_string(id.step());
}

ByteCount ImageBytesOf(const proto::Sidecar& sidecar, proto::ImageKind kind) {
  ByteCount bytes = 0;
  for (const proto::ImageDigest& digest : sidecar.images()) {
    bytes += digest.kind() == kind ? digest.length_bytes() : 0;
  }
  return bytes;
}

}  // namespace

StateSource::StateSource(storage_tiers::CatalogContents contents, ArenaIdentity arena)
    : contents_(std::move(contents)), arena_(std::move(arena)) {}

std::string_view StateSource::StateOf(const proto::ShardRecord& shard) const {
  if (shard.poisoned()) {
    return kStatePoisoned;
  }
  for (const proto::ImageDigest& image : shard.sidecar().images()) {
    std::error_code error;
    const auto size = std::filesystem::file_size(PathOf(shard, image.kind()), error);
    if (error || size < image.length_bytes()) {
      return kStateLost;
    }
  }
  return kStateSealed;
}

std::string StateSource::PathOf(const proto::ShardRecord& shard, proto::ImageKind image) const {
  const bool is_static = image == proto::STATIC;
  const storage_tiers::SlotName name{is_static ? shard.static_slot() : shard.slot(),
                                     is_static ? shard.static_generation() : shard.generation()};
  return JoinPath(JoinPath(arena_.folder, kSlotsFolder), name.ToString());
}

std::string StateSource::JobName(const std::string& job_uid) const {
  for (const proto::JobRecord& job : contents_.jobs) {
    if (job.job_uid() == job_uid) {
      return job.name();
    }
  }
  return "";
}

void StateSource::AddOutcomes(std::map<std::string, proto::SnapshotInfo>* snapshots) const {
  for (const proto::OutcomeRecord& outcome : contents_.outcomes) {
    proto::SnapshotInfo& snapshot = (*snapshots)[KeyOf(outcome.id())];
    *snapshot.mutable_id() = outcome.id();
    snapshot.set_state(
        std::string(outcome.outcome() == proto::COMPLETE ? kStateComplete : kStateAbandoned));
    snapshot.set_reason(outcome.reason());
    snapshot.set_discarded(outcome.discarded());
    if (snapshot.world_size() == 0) {
      snapshot.set_world_size(outcome.world_size());
    }
  }
}

void StateSource::AddDurables(std::map<std::string, proto::SnapshotInfo>* snapshots) const {
  for (const proto::DurableRecord& durable : contents_.durables) {
    if (!durable.published()) {
      continue;
    }
    proto::SnapshotInfo& snapshot = (*snapshots)[KeyOf(durable.id())];
    if (!snapshot.has_id()) {
      // Its memory was given back long ago.
      *snapshot.mutable_id() = durable.id();
      snapshot.set_state(std::string(kStateComplete));
    }
    if (!durable.bad()) {
      snapshot.set_state(std::string(kStateDurable));
    }
    *(durable.bad() ? snapshot.add_damaged_on() : snapshot.add_durable_on()) = durable.root();
  }
}

Status StateSource::CheckKnown(const std::string& job) const {
  HF_TRYV(layout::ValidateJobName(job));
  std::vector<std::string> names;
  for (const proto::JobRecord& record : contents_.jobs) {
    if (record.name() == job) {
      return Ok();
    }
    names.push_back(record.name());
  }
  return Error(Errc::kNotFound, "the catalog knows no job " + job + InsteadText(names));
}

void StateSource::AddShards(std::map<std::string, proto::SnapshotInfo>* snapshots,
                            std::vector<Problem>* problems) const {
  std::size_t lost = 0;
  for (const proto::ShardRecord& shard : contents_.shards) {
    if (!Counts(shard)) {
      ++lost;
      continue;
    }
    const proto::Sidecar& sidecar = shard.sidecar();
    proto::SnapshotInfo& snapshot = (*snapshots)[KeyOf(sidecar.id())];
    *snapshot.mutable_id() = sidecar.id();
    snapshot.set_world_size(sidecar.world_size());
    snapshot.set_state(std::string(kStateSealed));
    proto::ShardInfo* info = snapshot.add_shards();
    info->set_rank(sidecar.rank());
    info->set_state(std::string(StateOf(shard)));
    info->set_image_bytes(ImageBytesOf(sidecar, proto::DYNAMIC));
    info->set_static_image_bytes(ImageBytesOf(sidecar, proto::STATIC));
    if (info->state() == kStateLost) {
      problems->push_back({PathOf(shard),
                           Error(Errc::kNotFound,
                                 "rank " + std::to_string(sidecar.rank()) + " of " +
                                     JobName(sidecar.id().job_uid()) + " " + IdText(sidecar.id()) +
                                     " was here; the file is gone or cut short")});
    }
  }
  if (lost > 0) {
    problems->push_back(
        {arena_.folder,
         Error(Errc::kInvalidArgument,
               std::to_string(lost) +
                   " shards were in another arena, or before the machine started anew: that memory "
                   "is gone")});
  }
}

Result<Listing> StateSource::List(const std::string& job) {
  if (!job.empty()) {
    HF_TRYV(CheckKnown(job));
  }
  Listing listing;
  std::map<std::string, proto::SnapshotInfo> snapshots;
  AddShards(&snapshots, &listing.problems);
  AddOutcomes(&snapshots);
  AddDurables(&snapshots);
  for (auto& [key, snapshot] : snapshots) {
    snapshot.set_job_name(JobName(snapshot.id().job_uid()));
    if (job.empty() || snapshot.job_name() == job) {
      *listing.reply.add_snapshots() = std::move(snapshot);
    }
  }
  SortNewestFirst(&listing.reply);
  for (const storage_tiers::DamagedRecord& record : contents_.damaged) {
    listing.problems.push_back({"a catalog record", record.why});
  }
  return listing;
}

Result<OpenedShard> StateSource::OpenShard(const proto::SnapshotInfo& snapshot,
                                           std::uint32_t rank) {
  for (const proto::ShardRecord& record : contents_.shards) {
    const proto::Sidecar& sidecar = record.sidecar();
    if (!Counts(record) || sidecar.rank() != rank ||
        !storage_tiers::SameSnapshot(sidecar.id(), snapshot.id())) {
      continue;
    }
    if (record.poisoned()) {
      return Error(Errc::kCorruption, PathOf(record) + ": poisoned, its digests did not match");
    }
    const auto layout = contents_.layouts.find(sidecar.layout_hash());
    if (layout == contents_.layouts.end()) {
      return Error(Errc::kCorruption,
                   PathOf(record) + ": the catalog has lost the layout of this shard");
    }
    OpenedShard shard;
    shard.sidecar = sidecar;
    *shard.sidecar.mutable_layout() = layout->second;
    HF_TRYV(layout::ValidateSidecar(shard.sidecar));
    for (const proto::ImageDigest& image : sidecar.images()) {
      // Memory, not a disk: nothing would be gained by O_DIRECT.
      HF_TRY(ImageReader reader, ImageReader::OpenFile(PathOf(record, image.kind()), false));
      shard.images.push_back({image, std::move(reader)});
    }
    return shard;
  }
  return Error(Errc::kNotFound,
               "rank " + std::to_string(rank) + " of it is not in " + arena_.folder);
}

}  // namespace holdfast::cli
