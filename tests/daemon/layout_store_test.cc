#include "daemon/layout_store.h"

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "layout/image.h"
#include "storage_tiers/catalog_batch.h"

namespace holdfast::daemon {
namespace {

using storage_tiers::CatalogBatch;

SharedLayout LayoutOf(std::uint64_t elements) {
  std::vector<layout::TensorSpec> specs(1);
  specs[0].name = "weights";
  specs[0].dtype = proto::F32;
  specs[0].global_shape = {elements};
  specs[0].local_shape = {elements};
  specs[0].tensor_class = proto::STABLE;
  return std::make_shared<const proto::Layout>(layout::PlanImage(specs).value());
}

proto::ShardRecord ShardOf(const SharedLayout& layout, std::int64_t step) {
  proto::ShardRecord record;
  proto::Sidecar* sidecar = record.mutable_sidecar();
  sidecar->set_format_version(1);
  sidecar->mutable_id()->set_job_uid(std::string(16, 'j'));
  sidecar->mutable_id()->set_incarnation(1);
  sidecar->mutable_id()->set_step(step);
  sidecar->set_world_size(1);
  sidecar->set_job_name("job");
  sidecar->set_layout_hash(layout::LayoutHash(*layout));
  proto::ImageDigest* image = sidecar->add_images();
  image->set_length_bytes(layout->dynamic_image_bytes());
  image->set_chunk_bytes(kChunkBytes);
  for (std::uint64_t i = 0; i < ChunkCount(image->length_bytes()); ++i) {
    image->add_chunk_crc32c(7);
  }
  record.set_slot(3);
  record.set_generation(1);
  record.set_arena_uuid(std::string(16, 'a'));
  record.set_boot_id("boot");
  return record;
}

class LayoutStoreTest : public testing::Test {
 protected:
  // What the next batch holds beside "records".
  std::size_t Added(CatalogBatch batch = {}) {
    EXPECT_TRUE(batch.check().has_value());
    const std::size_t before = batch.size();
    store_.AddRecords(&batch);
    return batch.size() - before;
  }

  const SharedLayout layout_ = LayoutOf(1'000);
  const std::string hash_ = layout::LayoutHash(*layout_);
  LayoutStore store_;
};

// A shard must never be on disk without its layout.
TEST_F(LayoutStoreTest, AStagedLayoutIsInTheNextBatchAndOnlyOnce) {
  store_.Stage(1, hash_, layout_);
  store_.Stage(2, hash_, layout_);
  CatalogBatch batch;
  store_.AddRecords(&batch);
  EXPECT_EQ(batch.size(), 1U);
  EXPECT_TRUE(batch.check().has_value());
  EXPECT_EQ(Added(), 0U);
  EXPECT_NE(store_.Find(hash_), nullptr);
}

TEST_F(LayoutStoreTest, ALayoutStaysWhileASessionASlotOrAShardUsesIt) {
  store_.Stage(1, hash_, layout_);
  store_.OnSlotPrepared({3, 1}, hash_);
  CatalogBatch sealed;
  sealed.PutShard(ShardOf(layout_, 5));
  EXPECT_EQ(Added(sealed), 1U);
  store_.OnSessionEnded(1);
  store_.CollectUnused();
  EXPECT_EQ(Added(), 0U);
  store_.OnSlotRemoved({3, 1});
  store_.CollectUnused();
  EXPECT_EQ(Added(), 0U);
  EXPECT_NE(store_.Find(hash_), nullptr);
  CatalogBatch freed;
  freed.DeleteShard(ShardOf(layout_, 5).sidecar().id(), 0);
  store_.CollectUnused();
  EXPECT_EQ(Added(freed), 1U);
  EXPECT_EQ(store_.Find(hash_), nullptr);
}

// The batch that frees the last shard and seals another of the same layout must keep it.
TEST_F(LayoutStoreTest, AShardInTheVeryBatchOfACollectionKeepsItsLayout) {
  store_.Recover(hash_, *layout_);
  CatalogBatch sealed;
  sealed.PutShard(ShardOf(layout_, 6));
  store_.CollectUnused();
  EXPECT_EQ(Added(sealed), 0U);
  EXPECT_NE(store_.Find(hash_), nullptr);
}

TEST_F(LayoutStoreTest, RecoveredRecordsKeepTheirLayouts) {
  store_.Recover(hash_, *layout_);
  store_.RecoverShard(ShardOf(layout_, 5));
  store_.CollectUnused();
  EXPECT_EQ(Added(), 0U);
  const SharedLayout other = LayoutOf(2'000);
  const std::string other_hash = layout::LayoutHash(*other);
  store_.Recover(other_hash, *other);
  proto::SlotRecord slot;
  slot.set_slot(9);
  slot.set_generation(2);
  slot.set_layout_hash(other_hash);
  store_.RecoverSlot(slot);
  store_.CollectUnused();
  EXPECT_EQ(Added(), 0U);
  store_.OnSlotRemoved({9, 2});
  store_.CollectUnused();
  EXPECT_EQ(Added(), 1U);
}

}  // namespace
}  // namespace holdfast::daemon
