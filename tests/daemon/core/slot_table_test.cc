#include "daemon/core/slot_table.h"

#include <gtest/gtest.h>

#include "storage_tiers/catalog_contents.h"

namespace holdfast::daemon {
namespace {

constexpr std::uint64_t kMib = 1 << 20;
const JobUid kJob = "uid-of-a-job----";

SlotTable Table(std::uint64_t boot = 1) {
  return SlotTable({"arena-0---------", "boot", boot}, 4 * kMib);
}

// The last record of each slot that the batch would leave.
std::vector<proto::SlotRecord> Records(const storage_tiers::CatalogBatch& batch) {
  EXPECT_TRUE(batch.check().has_value());
  std::map<std::string, std::string> map;
  for (const auto& op : batch.ops()) {
    if (op.value.has_value()) {
      map[op.key] = *op.value;
    } else {
      map.erase(op.key);
    }
  }
  storage_tiers::CatalogContents contents;
  for (const auto& [key, value] : map) {
    storage_tiers::AddRecord(key, value, &contents);
  }
  return contents.slots;
}

TEST(SlotTableTest, ANewSlotIsRecordedWithItsOwner) {
  storage_tiers::CatalogBatch batch;
  SlotTable table = Table();
  table.Create(kMib, kJob, 3, &batch);
  ASSERT_EQ(Records(batch).size(), 1u);
  EXPECT_EQ(Records(batch)[0].job_uid(), kJob);
  EXPECT_EQ(Records(batch)[0].rank(), 3u);
  EXPECT_EQ(Records(batch)[0].state(), proto::SLOT_FREE);
}

// I9: quarantined files count until they are gone.
TEST(SlotTableTest, TheBudgetCountsFilesWhateverTheirState) {
  storage_tiers::CatalogBatch batch;
  SlotTable table = Table();
  Slot* slot = table.Create(3 * kMib, kJob, 0, &batch);
  table.Apply(slot, SlotEvent::kPrepared, &batch);
  table.Apply(slot, SlotEvent::kGrant, &batch);
  table.Apply(slot, SlotEvent::kOwnerGone, &batch);
  EXPECT_EQ(table.used_bytes(), 3 * kMib);
  EXPECT_EQ(table.free_bytes(), kMib);
  table.Remove(slot->ref, &batch);
  EXPECT_EQ(table.used_bytes(), 0u);
  EXPECT_TRUE(Records(batch).empty());
}

// I7: whatever a client may write to is recorded as handed out, through every state of it.
TEST(SlotTableTest, AHandedOutSlotStaysRecordedSoUntilItIsIdle) {
  storage_tiers::CatalogBatch batch;
  SlotTable table = Table();
  Slot* slot = table.Create(kMib, kJob, 0, &batch);
  table.Apply(slot, SlotEvent::kPrepared, &batch);
  for (const SlotEvent event :
       {SlotEvent::kGrant, SlotEvent::kBegin, SlotEvent::kFinal, SlotEvent::kGivenUp}) {
    table.Apply(slot, event, &batch);
    EXPECT_EQ(Records(batch)[0].state(), proto::SLOT_HANDED_OUT) << Name(event);
  }
  table.Apply(slot, SlotEvent::kCopiesDone, &batch);
  EXPECT_EQ(Records(batch)[0].state(), proto::SLOT_FREE);
}

TEST(SlotTableTest, AStartFindsHandedOutSlotsInLimbo) {
  storage_tiers::CatalogBatch batch;
  SlotTable before = Table();
  Slot* slot = before.Create(kMib, kJob, 0, &batch);
  before.Apply(slot, SlotEvent::kPrepared, &batch);
  before.Apply(slot, SlotEvent::kGrant, &batch);
  SlotTable after = Table(2);
  const LayoutFacts layout{"", kMib, "", 0};
  const Slot* found = after.Recover(Records(batch)[0], &layout);
  EXPECT_EQ(found->phase, SlotPhase::kLimbo);
  EXPECT_EQ(after.used_bytes(), kMib);
}

// The header of a free slot may be half written: it is not believed.
TEST(SlotTableTest, AStartDoesNotTrustTheHeaderOfAFreeSlot) {
  proto::SlotRecord record;
  record.set_slot(7);
  record.set_capacity_bytes(kMib);
  record.set_state(proto::SLOT_FREE);
  record.set_layout_hash("layout");
  SlotTable table = Table(2);
  const LayoutFacts layout{"layout", kMib, "", 0};
  EXPECT_TRUE(table.Recover(record, &layout)->layout_hash.empty());
}

TEST(SlotTableTest, ANumberAndGenerationAreNeverUsedTwice) {
  storage_tiers::CatalogBatch batch;
  SlotTable table = Table();
  const SlotRef first = table.Create(kMib, kJob, 0, &batch)->ref;
  table.Remove(first, &batch);
  EXPECT_NE(table.Create(kMib, kJob, 0, &batch)->ref, first);
  SlotTable next_boot = Table(2);
  EXPECT_NE(next_boot.Create(kMib, kJob, 0, &batch)->ref, first);
}

TEST(SlotTableTest, AnEventThatTheTableDoesNotAllowEndsTheProcess) {
  storage_tiers::CatalogBatch batch;
  SlotTable table = Table();
  Slot* slot = table.Create(kMib, kJob, 0, &batch);
  EXPECT_FALSE(SlotTable::Allows(*slot, SlotEvent::kGrant));
  EXPECT_DEATH(table.Apply(slot, SlotEvent::kGrant, &batch), "");
}

}  // namespace
}  // namespace holdfast::daemon
