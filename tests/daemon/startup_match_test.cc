#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/units.h"
#include "daemon/startup.h"

namespace holdfast::daemon {
namespace {

using storage_tiers::ArenaFile;
using storage_tiers::CatalogContents;
using storage_tiers::SlotName;

const std::string kArena(16, 'a');
const std::string kBoot = "boot-1";

proto::SlotRecord SlotOf(std::uint32_t number, ByteCount capacity) {
  proto::SlotRecord record;
  record.set_slot(number);
  record.set_generation(1);
  record.set_capacity_bytes(capacity);
  record.set_state(proto::SLOT_SEALED);
  record.set_arena_uuid(kArena);
  record.set_boot_id(kBoot);
  return record;
}

proto::ShardRecord ShardOf(std::uint32_t slot) {
  proto::ShardRecord record;
  record.mutable_sidecar()->mutable_id()->set_job_uid(std::string(16, 'j'));
  record.mutable_sidecar()->mutable_id()->set_incarnation(1);
  record.mutable_sidecar()->mutable_id()->set_step(slot);
  record.set_slot(slot);
  record.set_generation(1);
  record.set_arena_uuid(kArena);
  record.set_boot_id(kBoot);
  return record;
}

ArenaFacts FactsOf(const std::vector<std::pair<std::uint32_t, ByteCount>>& files) {
  ArenaFacts facts;
  facts.uuid = kArena;
  facts.boot_id = kBoot;
  for (const auto& [number, size] : files) {
    ArenaFile file;
    file.name = SlotName{number, 1};
    file.size = size;
    facts.files.push_back(file);
  }
  return facts;
}

// I12: half a flush is given up when nothing of the snapshot is in memory.
TEST(StartupMatchTest, AFlushIsGivenUpOnceItsShardsAreGone) {
  RecoveredState recovered;
  recovered.shards = {ShardOf(3)};
  for (const int step : {2, 3, 4}) {
    proto::DurableRecord& durable = recovered.durables.emplace_back();
    *durable.mutable_id() = ShardOf(static_cast<std::uint32_t>(step)).sidecar().id();
    durable.set_root("/pfs");
    durable.set_published(step == 4);
  }
  EXPECT_EQ(GivenUpFlushes(recovered, std::string(16, 'j'), "/pfs"),
            (std::vector<SnapshotKey>{{1, 2}}));
  EXPECT_TRUE(GivenUpFlushes(recovered, std::string(16, 'j'), "/other").empty());
}

TEST(StartupMatchTest, ARecordWithItsFileCounts) {
  CatalogContents contents;
  contents.slots = {SlotOf(1, 5'000)};
  contents.shards = {ShardOf(1)};
  const MatchResult matched = MatchRecords(contents, FactsOf({{1, 8'192}}));
  EXPECT_EQ(matched.slots.size(), 1U);
  EXPECT_EQ(matched.shards.size(), 1U);
  EXPECT_TRUE(matched.forget.empty());
  EXPECT_TRUE(matched.orphans.empty());
}

// I1, I5: a record whose bytes are gone must not be believed, not even by a later start.
TEST(StartupMatchTest, ARecordWithoutItsFileIsForgottenWithItsShard) {
  CatalogContents contents;
  contents.slots = {SlotOf(1, 4'096)};
  contents.shards = {ShardOf(1)};
  const MatchResult matched = MatchRecords(contents, FactsOf({}));
  EXPECT_TRUE(matched.slots.empty());
  EXPECT_TRUE(matched.shards.empty());
  EXPECT_EQ(matched.lost_slots, std::vector<SlotNumber>({1}));
  EXPECT_EQ(matched.lost_shards, 1U);
  EXPECT_EQ(matched.forget.size(), 2U);
  EXPECT_TRUE(matched.cut_files.empty());
}

TEST(StartupMatchTest, RecordsOfAnotherArenaOrBootDoNotCountAndTheirFilesAreOrphans) {
  for (const bool other_arena : {true, false}) {
    CatalogContents contents;
    contents.slots = {SlotOf(1, 4'096)};
    contents.shards = {ShardOf(1)};
    ArenaFacts facts = FactsOf({{1, 4'096}});
    (other_arena ? facts.uuid : facts.boot_id) = "another";
    const MatchResult matched = MatchRecords(contents, facts);
    EXPECT_TRUE(matched.slots.empty());
    EXPECT_TRUE(matched.shards.empty());
    EXPECT_EQ(matched.orphans.size(), 1U);
  }
}

// I7: a client cut its file; somebody may still have it mapped.
TEST(StartupMatchTest, AFileOfAnotherSizeIsLostAndWatchedButNoOrphan) {
  for (const ByteCount size : {ByteCount{0}, ByteCount{4'095}, 4'096 + 4 * kMiB}) {
    CatalogContents contents;
    contents.slots = {SlotOf(1, 4'096)};
    const MatchResult matched = MatchRecords(contents, FactsOf({{1, size}}));
    EXPECT_TRUE(matched.slots.empty()) << size;
    ASSERT_EQ(matched.cut_files.size(), 1U) << size;
    EXPECT_TRUE(matched.orphans.empty()) << size;
  }
}

TEST(StartupMatchTest, AFileWithoutRecordIsAnOrphan) {
  CatalogContents contents;
  contents.slots = {SlotOf(1, 4'096)};
  const MatchResult matched = MatchRecords(contents, FactsOf({{1, 4'096}, {2, 4'096}}));
  ASSERT_EQ(matched.orphans.size(), 1U);
  EXPECT_EQ(matched.orphans[0].slot, 2U);
}

}  // namespace
}  // namespace holdfast::daemon
