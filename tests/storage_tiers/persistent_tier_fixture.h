// Shards of a small job, and a tier to put them on.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "layout/image.h"
#include "layout/manifest.h"
#include "layout/sidecar.h"
#include "storage_tiers/persistent_tier.h"

namespace holdfast::storage_tiers {

inline const std::string kJob = "train-7b";
inline const std::string kUid(16, 'u');

inline proto::SnapshotId Id(std::uint64_t incarnation, std::int64_t step) {
  proto::SnapshotId id;
  id.set_job_uid(kUid);
  id.set_incarnation(incarnation);
  id.set_step(step);
  return id;
}

struct Shard {
  proto::Sidecar sidecar;
  std::string dynamic_image;
  std::string static_image;  // empty: none, or another snapshot's

  std::vector<ShardImage> images() const {
    std::vector<ShardImage> all = {{proto::DYNAMIC, AsBytes(dynamic_image)}};
    if (!static_image.empty()) {
      all.push_back({proto::STATIC, AsBytes(static_image)});
    }
    return all;
  }
};

inline std::string BuildImage(const proto::Layout& layout, proto::ImageKind kind, char fill) {
  std::string image = layout::BuildImageHeader(layout, kind).value();
  std::uint32_t x = static_cast<unsigned char>(fill) * 7919u + 1;
  while (image.size() < layout::ImageBytes(layout, kind)) {
    x = x * 1664525 + 1013904223;
    image.push_back(static_cast<char>(x >> 24));
  }
  return image;
}

inline void AddDigest(Shard& shard, proto::ImageKind kind, const std::string& image) {
  proto::ImageDigest& digest = *shard.sidecar.add_images();
  digest.set_kind(kind);
  digest.set_length_bytes(image.size());
  digest.set_chunk_bytes(kChunkBytes);
  for (const std::uint32_t crc : ChunkDigests(AsBytes(image))) {
    digest.add_chunk_crc32c(crc);
  }
}

struct ShardOptions {
  std::uint64_t tensor_bytes = 1000;
  char fill = 'a';
  bool with_static = false;
};

inline Shard MakeShard(const proto::SnapshotId& id,
                       std::uint32_t rank,
                       std::uint32_t world,
                       const ShardOptions& options = {}) {
  std::vector<layout::TensorSpec> specs(options.with_static ? 2 : 1);
  specs[0].name = "weight";
  specs[0].tensor_class = proto::STABLE;
  for (layout::TensorSpec& spec : specs) {
    spec.dtype = proto::U8;
    spec.global_shape = {options.tensor_bytes};
    spec.local_shape = {options.tensor_bytes};
  }
  if (options.with_static) {
    specs[1].name = "frozen";
    specs[1].tensor_class = proto::CONSTANT;
    specs[1].image = proto::STATIC;
  }
  const auto layout = layout::PlanImage(specs);
  EXPECT_TRUE(layout) << layout.error().ToString();
  Shard shard;
  shard.sidecar.set_format_version(layout::kSidecarFormatVersion);
  *shard.sidecar.mutable_id() = id;
  shard.sidecar.set_job_name(kJob);
  shard.sidecar.set_rank(rank);
  shard.sidecar.set_world_size(world);
  shard.sidecar.set_layout_hash(layout::LayoutHash(layout.value()));
  *shard.sidecar.mutable_layout() = layout.value();
  shard.dynamic_image = BuildImage(layout.value(), proto::DYNAMIC, options.fill);
  AddDigest(shard, proto::DYNAMIC, shard.dynamic_image);
  if (options.with_static) {
    shard.static_image = BuildImage(layout.value(), proto::STATIC, 'S');
    AddDigest(shard, proto::STATIC, shard.static_image);
  }
  return shard;
}

// The same static image, owned by an older snapshot.
inline void BorrowStatic(Shard& shard, const proto::SnapshotId& owner) {
  shard.static_image.clear();
  *shard.sidecar.mutable_images(1)->mutable_owner() = owner;
}

inline proto::Manifest MakeManifest(const proto::SnapshotId& id, std::uint32_t world) {
  proto::Manifest manifest;
  manifest.set_format_version(layout::kManifestFormatVersion);
  *manifest.mutable_id() = id;
  manifest.set_job_name(kJob);
  manifest.set_world_size(world);
  manifest.set_created_unix_ms(1);
  return manifest;
}

inline void AddFiles(proto::Manifest& manifest, const std::vector<proto::ManifestFile>& files) {
  for (const proto::ManifestFile& file : files) {
    *manifest.add_files() = file;
  }
}

// Flushes all shards and publishes.
inline Status FlushAndPublish(PersistentTier& tier,
                              const std::vector<Shard>& shards,
                              std::uint64_t epoch) {
  proto::Manifest manifest =
      MakeManifest(shards.front().sidecar.id(), static_cast<std::uint32_t>(shards.size()));
  for (const Shard& shard : shards) {
    HF_TRY(const auto files, tier.FlushShard(shard.sidecar, shard.images(), {}));
    AddFiles(manifest, files);
  }
  return tier.PublishManifest(manifest, epoch);
}

inline std::vector<Shard> MakeWorld(const proto::SnapshotId& id, std::uint32_t world = 2) {
  std::vector<Shard> shards;
  for (std::uint32_t rank = 0; rank < world; ++rank) {
    shards.push_back(MakeShard(id, rank, world, {.fill = static_cast<char>('a' + rank)}));
  }
  return shards;
}

inline Status ReadBack(PersistentTier& tier, const Shard& shard) {
  const proto::Sidecar& s = shard.sidecar;
  HF_TRY(const auto sidecar, tier.ReadSidecar(kJob, s.id(), s.rank(), s.world_size()));
  for (const proto::ImageDigest& digest : sidecar.images()) {
    std::string out(digest.length_bytes(), '\0');
    std::vector<std::uint64_t> bad;
    HF_TRYV(
        tier.ReadImage(sidecar, digest.kind(), std::as_writable_bytes(std::span(out)), {}, &bad));
    const bool is_static = digest.kind() == proto::STATIC;
    const bool known = !is_static || !shard.static_image.empty();
    if (known && out != (is_static ? shard.static_image : shard.dynamic_image)) {
      return Error(Errc::kInternal, "other bytes than were written");
    }
  }
  return Ok();
}

inline proto::IncarnationFile MakeRecord(std::uint64_t number, std::uint64_t token) {
  proto::IncarnationFile record;
  record.set_format_version(layout::kManifestFormatVersion);
  record.set_job_uid(kUid);
  record.set_number(number);
  record.set_token(token);
  record.set_world_size(2);
  return record;
}

// A record whose restore is over.
inline proto::IncarnationFile CommittedRecord(std::uint64_t number, std::uint64_t token) {
  proto::IncarnationFile record = MakeRecord(number, token);
  record.mutable_decision()->set_attempt(1);
  record.mutable_decision()->set_decided(true);
  record.mutable_decision()->set_committed(true);
  return record;
}

}  // namespace holdfast::storage_tiers
