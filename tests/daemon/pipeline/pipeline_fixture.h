// One sealed shard in a real arena, and a root whose file system fails on command.
#pragma once

#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "daemon/pipeline/context.h"
#include "daemon/pipeline/flush.h"
#include "daemon/pipeline/publish.h"
#include "layout/image.h"
#include "layout/names.h"
#include "layout/sidecar.h"
#include "tests/common/run_coroutine.h"
#include "tests/daemon/pipeline/pipeline_node.h"

namespace holdfast::daemon {

class PipelineTest : public PipelineNodeTest {
 protected:
  static constexpr SlotRef kSlot{1, 1};
  static constexpr SnapshotKey kId{1, 5};

  PipelineTest() : PipelineNodeTest(Options()) { MakeShard(); }

  std::string SnapshotFolder(const SnapshotKey& id = kId) const {
    return Root() + "/job/" + layout::SnapshotFolderName(ToProto(uid_, id));
  }

  std::string ImagePath() const { return SnapshotFolder() + "/" + layout::RankFileName(0, 1); }

  static TierOptions Options() {
    TierOptions options;
    options.call_limit = std::chrono::milliseconds(300);
    options.image.sync_timeout = std::chrono::milliseconds(300);
    return options;
  }

  void MakeShard() {
    std::vector<layout::TensorSpec> specs(1);
    specs[0].name = "weights";
    specs[0].dtype = proto::U8;
    specs[0].global_shape = {2 * kMiB + 17};
    specs[0].local_shape = specs[0].global_shape;
    specs[0].tensor_class = proto::STABLE;
    const auto layout = std::make_shared<const proto::Layout>(layout::PlanImage(specs).value());
    const std::string hash = layout::LayoutHash(*layout);
    layouts_.Stage(1, hash, layout);
    const ByteCount length = layout->dynamic_image_bytes();
    ASSERT_TRUE(tests::RunCoroutine(io_, slots_->Prepare(kSlot, length, true, layout)).has_value());
    const SharedSlot slot = slots_->Find(kSlot).value();
    for (std::size_t i = kMiB; i < length; i += 11) {
      slot->mutable_view()[i] = static_cast<std::byte>(i);
    }
    sidecar_.set_format_version(layout::kSidecarFormatVersion);
    *sidecar_.mutable_id() = ToProto(uid_, kId);
    sidecar_.set_job_name("job");
    sidecar_.set_world_size(1);
    sidecar_.set_layout_hash(hash);
    proto::ImageDigest* image = sidecar_.add_images();
    image->set_kind(proto::DYNAMIC);
    image->set_length_bytes(length);
    image->set_chunk_bytes(kChunkBytes);
    for (const std::uint32_t crc : ChunkDigests(slot->view().first(length))) {
      image->add_chunk_crc32c(crc);
    }
  }

  FlushShard FlushAction() const {
    FlushShard action;
    action.job_name = "job";
    action.job_uid = uid_;
    action.tier.set_root(Root());
    action.tier.set_scope(proto::SHARED);
    action.id = kId;
    action.slot = kSlot;
    action.sidecar = sidecar_;
    return action;
  }

  Status FlushIt(const FlushShard& action) {
    return tests::RunCoroutine(
        io_, Flush(*context_, action, std::make_shared<std::atomic<bool>>(false), &bad_image_));
  }

  PublishManifest PublishAction(const SnapshotKey& id = kId) const {
    PublishManifest action;
    action.job_name = "job";
    action.job_uid = uid_;
    action.root = Root();
    action.id = id;
    action.world_size = 1;
    action.epoch = {1, 7};
    return action;
  }

  Status PublishIt(const PublishManifest& action) {
    return tests::RunCoroutine(io_, Publish(*context_, action));
  }

  std::shared_ptr<Tier> TheTier() { return tiers_.Open(Root(), proto::SHARED).value(); }

  bool Published(const SnapshotKey& id = kId) const {
    return std::filesystem::exists(SnapshotFolder(id) + "/manifest.json");
  }

  const JobUid uid_ = JobUid(16, 'u');
  proto::Sidecar sidecar_;
  proto::ImageKind bad_image_ = proto::DYNAMIC;
};

}  // namespace holdfast::daemon
