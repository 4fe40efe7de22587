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
  const std::string job(16, 'j');
  const auto tier = [](const char* root, proto::TierScope scope) {
    proto::TierPolicy policy;
    policy.set_root(root);
    policy.set_scope(scope);
    return policy;
  };
  const std::vector<SnapshotKey> given_up = {{1, 2}};
  EXPECT_EQ(GivenUpFlushes(recovered, job, tier("/pfs", proto::SHARED)), given_up);
  EXPECT_TRUE(GivenUpFlushes(recovered, job, tier("/other", proto::SHARED)).empty());

  // I4: on a root that several nodes share, others may be writing it just now.
  proto::IncarnationRecord& incarnation = recovered.incarnations.emplace_back();
  incarnation.set_job_uid(std::string(16, 'k'));
  incarnation.add_members();
  EXPECT_EQ(GivenUpFlushes(recovered, job, tier("/pfs", proto::SHARED)), given_up);
  incarnation.set_job_uid(job);
  EXPECT_TRUE(GivenUpFlushes(recovered, job, tier("/pfs", proto::SHARED)).empty());
  EXPECT_EQ(GivenUpFlushes(recovered, job, tier("/pfs", proto::NODE)), given_up);
}

TEST(StartupMatchTest, ARecordWithItsFileCounts) {
  CatalogContents contents;
  contents.slots = {SlotOf(1, 8'192)};
  contents.shards = {ShardOf(1)};
  const MatchResult matched = MatchRecords(contents, FactsOf({{1, 8'192}}));
  EXPECT_EQ(matched.slots.size(), 1U);
  EXPECT_EQ(matched.shards.size(), 1U);
  EXPECT_TRUE(matched.changes.empty());
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
  EXPECT_EQ(matched.changes.size(), 2U);
  EXPECT_EQ(matched.distrusted_slots, 0U);
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

// I7, I9: a client cut its file, or made it larger by as little as a byte; somebody may still have
// it mapped.
TEST(StartupMatchTest, AFileOfAnotherSizeIsQuarantinedAndItsShardLost) {
  for (const ByteCount size :
       {ByteCount{0}, ByteCount{4'095}, ByteCount{4'097}, ByteCount{8'192}, 4'096 + 4 * kMiB}) {
    CatalogContents contents;
    contents.slots = {SlotOf(1, 4'096)};
    contents.shards = {ShardOf(1)};
    const MatchResult matched = MatchRecords(contents, FactsOf({{1, size}}));
    ASSERT_EQ(matched.slots.size(), 1U) << size;
    EXPECT_EQ(matched.slots[0].state(), proto::SLOT_QUARANTINED) << size;
    EXPECT_TRUE(matched.shards.empty()) << size;
    EXPECT_EQ(matched.lost_shards, 1U) << size;
    EXPECT_TRUE(matched.orphans.empty()) << size;
    EXPECT_TRUE(matched.changes.check().has_value()) << size;
    EXPECT_EQ(matched.changes.size(), 2U) << size;
  }
}

// I9: what the client has allocated beyond its slot is memory too.
TEST(StartupMatchTest, ADistrustedFileCountsWithTheMemoryThatItTakes) {
  CatalogContents contents;
  contents.slots = {SlotOf(1, 4'096)};
  ArenaFacts facts = FactsOf({{1, 3 * kMiB + 1}});
  facts.files[0].allocated_bytes = 3 * kMiB + 512;
  const MatchResult matched = MatchRecords(contents, facts);
  EXPECT_EQ(matched.slots.at(0).capacity_bytes(), 3 * kMiB + 4 * kKiB);
}

TEST(StartupMatchTest, AQuarantinedFileStaysQuarantinedWhateverItsSize) {
  CatalogContents contents;
  contents.slots = {SlotOf(1, 4'096)};
  contents.slots[0].set_state(proto::SLOT_QUARANTINED);
  const MatchResult matched = MatchRecords(contents, FactsOf({{1, 0}}));
  ASSERT_EQ(matched.slots.size(), 1U);
  EXPECT_TRUE(matched.changes.empty());
}

// I9: on hugetlbfs a file is of whole pages, and the budget counts the file.
TEST(StartupMatchTest, ASlotOfHugePagesCountsWithItsFile) {
  CatalogContents contents;
  contents.slots = {SlotOf(1, 5 * kMiB)};
  contents.shards = {ShardOf(1)};
  ArenaFacts facts = FactsOf({{1, kGiB}});
  facts.page_bytes = kGiB;
  const MatchResult matched = MatchRecords(contents, facts);
  ASSERT_EQ(matched.slots.size(), 1U);
  EXPECT_EQ(matched.slots[0].capacity_bytes(), kGiB);
  EXPECT_EQ(matched.shards.size(), 1U);
}

TEST(StartupMatchTest, AFileWithoutRecordIsAnOrphan) {
  CatalogContents contents;
  contents.slots = {SlotOf(1, 4'096)};
  const MatchResult matched = MatchRecords(contents, FactsOf({{1, 4'096}, {2, 4'096}}));
  ASSERT_EQ(matched.orphans.size(), 1U);
  EXPECT_EQ(matched.orphans[0].name.slot, 2U);
}

// I9: its memory counts until its last user is gone.
TEST(StartupMatchTest, AnOrphanThatIsUsedBecomesAQuarantinedSlot) {
  ArenaFacts facts = FactsOf({{2, 8'192}});
  facts.files[0].allocated_bytes = 8'192;
  MatchResult matched = MatchRecords(CatalogContents(), facts);
  QuarantineOrphan(matched.orphans.at(0), facts, &matched);
  ASSERT_EQ(matched.slots.size(), 1U);
  EXPECT_EQ(matched.slots[0].state(), proto::SLOT_QUARANTINED);
  EXPECT_EQ(matched.slots[0].capacity_bytes(), 8'192U);
  EXPECT_TRUE(matched.changes.empty());
}

TEST(StartupMatchTest, AnArenaIsKnownByTheHeaderOrByAnyRecord) {
  CatalogContents contents;
  contents.header.emplace();
  EXPECT_FALSE(KnowsArena(contents, kArena));
  contents.header->add_arena_uuids(kArena);
  EXPECT_TRUE(KnowsArena(contents, kArena));
  CatalogContents older;  // written before the header had the list
  older.slots = {SlotOf(1, 4'096)};
  EXPECT_TRUE(KnowsArena(older, kArena));
  EXPECT_FALSE(KnowsArena(older, std::string(16, 'b')));
}

}  // namespace
}  // namespace holdfast::daemon
