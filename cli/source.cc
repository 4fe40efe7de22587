#include "cli/source.h"

#include <algorithm>
#include <set>

#include "cli/image_check.h"
#include "cli/snapshot_state.h"
#include "cli/touched_tensors.h"

namespace holdfast::cli {

ShardVerdict Source::NewVerdict(const proto::SnapshotInfo& snapshot, std::uint32_t rank) const {
  ShardVerdict verdict;
  verdict.job = snapshot.job_name();
  verdict.id = snapshot.id();
  verdict.rank = rank;
  verdict.place = place();
  return verdict;
}

Result<ShardVerdict> Source::VerifyShard(const proto::SnapshotInfo& snapshot,
                                         std::uint32_t rank,
                                         Progress* progress) {
  ShardVerdict verdict = NewVerdict(snapshot, rank);
  Result<OpenedShard> shard = OpenShard(snapshot, rank);
  if (!shard) {
    verdict.error = shard.error();
    return verdict;
  }
  for (const OpenedImage& image : shard.value().images) {
    const auto bad = CheckImage(image.reader, image.digest, progress);
    if (!bad) {
      if (bad.error().code == Errc::kCancelled) {
        return bad.error();
      }
      verdict.error = bad.error();
      continue;
    }
    verdict.bytes += image.digest.length_bytes();
    if (!bad.value().empty()) {
      verdict.bad.push_back({image.digest.kind(), bad.value()});
      const auto names =
          TouchedTensors(shard.value().sidecar.layout(), image.digest.kind(), bad.value());
      verdict.tensors.insert(verdict.tensors.end(), names.begin(), names.end());
    }
  }
  return verdict;
}

bool Source::Retired(const proto::SnapshotInfo& /*snapshot*/, const Error& /*error*/) {
  return false;
}

void SortNewestFirst(proto::ListReply* reply) {
  auto* snapshots = reply->mutable_snapshots();
  std::stable_sort(snapshots->pointer_begin(),
                   snapshots->pointer_end(),
                   [](const proto::SnapshotInfo* a, const proto::SnapshotInfo* b) {
                     if (a->job_name() != b->job_name()) {
                       return a->job_name() < b->job_name();
                     }
                     if (a->id().incarnation() != b->id().incarnation()) {
                       return a->id().incarnation() > b->id().incarnation();
                     }
                     return a->id().step() > b->id().step();
                   });
}

bool Readable(const proto::ShardInfo& shard) {
  return shard.state() == kStateSealed || shard.state() == kStateDurable;
}

std::vector<std::uint32_t> MissingRanks(const proto::SnapshotInfo& snapshot) {
  std::set<std::uint32_t> here;
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    if (Readable(shard)) {
      here.insert(shard.rank());
    }
  }
  std::vector<std::uint32_t> missing;
  for (std::uint32_t rank = 0; rank < snapshot.world_size(); ++rank) {
    if (!here.contains(rank)) {
      missing.push_back(rank);
    }
  }
  return missing;
}

ByteCount BytesOf(const proto::SnapshotInfo& snapshot) {
  ByteCount bytes = 0;
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    bytes += shard.image_bytes();
  }
  return bytes;
}

ByteCount StaticBytesOf(const proto::SnapshotInfo& snapshot) {
  ByteCount bytes = 0;
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    bytes += shard.static_image_bytes();
  }
  return bytes;
}

}  // namespace holdfast::cli
