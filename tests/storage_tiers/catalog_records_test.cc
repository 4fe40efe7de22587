// The grammar of records, keys and batches, against hostile values.

#include "storage_tiers/catalog_records.h"

#include <functional>
#include <limits>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_tiers/catalog_batch.h"
#include "storage_tiers/catalog_contents.h"
#include "storage_tiers/catalog_keys.h"
#include "tests/storage_tiers/catalog_test_support.h"

namespace holdfast::storage_tiers {
namespace {

using ::testing::HasSubstr;

template <class Record>
void ExpectRefused(const Record& good, const std::function<void(Record*)>& spoil) {
  Record bad = good;
  spoil(&bad);
  EXPECT_TRUE(ValidateRecord(good));
  EXPECT_FALSE(ValidateRecord(bad)) << bad.DebugString();
}

TEST(CatalogRecordsTest, SlotsWithHostileFieldsAreRefused) {
  using R = proto::SlotRecord;
  const R good = TestSlot(1, 1);
  ExpectRefused<R>(good, [](R* r) { r->set_arena_uuid("short"); });
  ExpectRefused<R>(good, [](R* r) { r->clear_arena_uuid(); });
  ExpectRefused<R>(good, [](R* r) { r->clear_boot_id(); });
  ExpectRefused<R>(good, [](R* r) { r->set_boot_id(std::string(65, 'x')); });
  ExpectRefused<R>(good, [](R* r) { r->set_state(proto::SLOT_STATE_UNSPECIFIED); });
  ExpectRefused<R>(good, [](R* r) { r->set_state(static_cast<proto::SlotState>(99)); });
  ExpectRefused<R>(good, [](R* r) { r->set_capacity_bytes(0); });
  ExpectRefused<R>(good, [](R* r) { r->set_capacity_bytes(4097); });
  ExpectRefused<R>(good, [](R* r) { r->set_capacity_bytes(~std::uint64_t{4095}); });
  ExpectRefused<R>(good, [](R* r) { r->set_job_uid("x"); });
}

// I2: a start believes a sealed static image by its slot's record alone.
TEST(CatalogRecordsTest, SlotsOfStaticImagesWithHostileFieldsAreRefused) {
  using R = proto::SlotRecord;
  R good = TestSlot(1, 1);
  good.set_kind(proto::STATIC);
  good.set_state(proto::SLOT_SEALED);
  good.set_static_hash(std::string(16, 's'));
  good.mutable_static_image()->set_length_bytes(4096);
  good.mutable_static_image()->add_chunk_crc32c(7);
  good.mutable_static_image()->mutable_owner()->set_job_uid(good.job_uid());
  good.mutable_static_image()->mutable_owner()->set_incarnation(1);
  ASSERT_TRUE(ValidateRecord(good)) << ValidateRecord(good).error().message;
  ExpectRefused<R>(good, [](R* r) { r->set_kind(static_cast<proto::ImageKind>(9)); });
  ExpectRefused<R>(good, [](R* r) { r->set_static_hash("short"); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_static_image()->add_chunk_crc32c(7); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_static_image()->clear_chunk_crc32c(); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_static_image()->set_length_bytes(1ULL << 60); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_static_image()->clear_owner(); });
  ExpectRefused<R>(good, [](R* r) {
    r->mutable_static_image()->mutable_owner()->set_job_uid(std::string(16, 'z'));
  });
}

TEST(CatalogRecordsTest, JobsWithHostileFieldsAreRefused) {
  using R = proto::JobRecord;
  const R good = TestJob(1);
  ExpectRefused<R>(good, [](R* r) { r->set_job_uid(std::string(17, 'x')); });
  ExpectRefused<R>(good, [](R* r) { r->set_name("../etc"); });
  ExpectRefused<R>(good,
                   [](R* r) { r->set_world_size(std::numeric_limits<std::uint32_t>::max()); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_tiers(0)->set_root("relative"); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_tiers(0)->set_root(std::string("/a\0b", 4)); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_tiers(0)->set_root("/" + std::string(5000, 'x')); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_tiers(0)->clear_scope(); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_tiers(0)->set_keep_last(0); });
}

TEST(CatalogRecordsTest, ShardsWithHostileFieldsAreRefused) {
  using R = proto::ShardRecord;
  const R good = TestShard(1, 5);
  ExpectRefused<R>(good, [](R* r) { r->clear_sidecar(); });
  ExpectRefused<R>(good, [](R* r) { *r->mutable_sidecar()->mutable_layout() = TestLayout(); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_sidecar()->set_rank(16); });
  ExpectRefused<R>(good,
                   [](R* r) { r->mutable_sidecar()->mutable_images(0)->add_chunk_crc32c(1); });
  ExpectRefused<R>(good, [](R* r) {
    r->mutable_sidecar()->mutable_images(0)->set_length_bytes(~std::uint64_t{0});
  });
  ExpectRefused<R>(good, [](R* r) { r->mutable_sidecar()->mutable_id()->set_step(-1); });
  ExpectRefused<R>(good, [](R* r) { r->clear_arena_uuid(); });
  R newer = good;
  newer.mutable_sidecar()->set_format_version(2);
  EXPECT_EQ(ValidateRecord(newer).error().code, Errc::kVersionMismatch);
}

TEST(CatalogRecordsTest, IncarnationsWithHostileFieldsAreRefused) {
  using R = proto::IncarnationRecord;
  const R good = TestIncarnation(3);
  ExpectRefused<R>(good, [](R* r) { r->set_job_uid(""); });
  ExpectRefused<R>(good, [](R* r) { r->set_number(0); });
  ExpectRefused<R>(good, [](R* r) { r->add_member_node_uuids("x"); });
  ExpectRefused<R>(good, [](R* r) { r->set_last_begun_step(-2); });
  // I8: another job's snapshot is no choice.
  ExpectRefused<R>(
      good, [](R* r) { r->mutable_decision()->mutable_choice()->set_job_uid(TestUid('x')); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_decision()->mutable_fallback()->set_step(1); });
  ExpectRefused<R>(good, [](R* r) { r->mutable_decision()->mutable_boundary(); });
  ExpectRefused<R>(good, [](R* r) {
    r->mutable_decision()->set_has_named_step(true);
    r->mutable_decision()->set_named_step(-1);
  });
}

TEST(CatalogRecordsTest, OutcomesAndDurablesWithHostileFieldsAreRefused) {
  using O = proto::OutcomeRecord;
  ExpectRefused<O>(TestOutcome(1), [](O* r) { r->clear_id(); });
  ExpectRefused<O>(TestOutcome(1), [](O* r) { r->set_outcome(static_cast<proto::Outcome>(7)); });
  ExpectRefused<O>(TestOutcome(1), [](O* r) { r->set_reason(std::string(70000, 'x')); });
  using D = proto::DurableRecord;
  ExpectRefused<D>(TestDurable(1), [](D* r) { r->mutable_id()->set_incarnation(0); });
  ExpectRefused<D>(TestDurable(1), [](D* r) { r->clear_root(); });
  ExpectRefused<D>(TestDurable(1), [](D* r) { r->add_flushed_ranks(1u << 20); });
}

TEST(CatalogRecordsTest, RowsWithHostileFieldsAreRefused) {
  ASSERT_TRUE(ValidateRecord(TestRow(1, 1)));
  std::vector<proto::RowRecord> hostile(9, TestRow(1, 1));
  hostile[0].set_row(2);
  hostile[1].set_slot(0);
  hostile[2].add_chunk_crc32c(1);
  hostile[3].set_length_bytes(hostile[3].set().segment_bytes() + 1);
  hostile[4].mutable_set()->set_data_shards(0);
  hostile[5].mutable_set()->set_parity_shards(0xFFFFFFFF);
  hostile[6].mutable_set()->add_node_uuids("short");
  hostile[7].mutable_set()->set_version(0);
  hostile[8].clear_arena_uuid();
  for (std::size_t i = 0; i < hostile.size(); ++i) {
    EXPECT_FALSE(ValidateRecord(hostile[i])) << i;
  }
  proto::RowRecord empty = TestRow(1, 1);
  empty.set_slot(0);
  empty.set_length_bytes(0);
  empty.clear_chunk_crc32c();
  EXPECT_TRUE(ValidateRecord(empty));
}

TEST(CatalogRecordsTest, ALayoutUnderAnotherHashIsRefused) {
  proto::LayoutRecord record;
  *record.mutable_layout() = TestLayout();
  const std::string hash = layout::LayoutHash(TestLayout());

  EXPECT_TRUE(ValidateLayoutRecord(hash, record));
  EXPECT_FALSE(ValidateLayoutRecord(TestUid('h'), record));
  EXPECT_FALSE(ValidateLayoutRecord("short", record));
  record.mutable_layout()->mutable_tensors(0)->set_length_bytes(1);
  EXPECT_FALSE(ValidateLayoutRecord(layout::LayoutHash(record.layout()), record));
}

TEST(CatalogRecordsTest, KeysSortAsTheirNumbersDo) {
  EXPECT_LT(SlotKey(255), SlotKey(256));
  EXPECT_LT(OutcomeKey(TestId(1, 300)), OutcomeKey(TestId(2, 1)));
  EXPECT_LT(ShardKey(TestId(1, 255), 9), ShardKey(TestId(1, 256), 0));
  EXPECT_LT(IncarnationKey(TestUid('j'), 9), IncarnationKey(TestUid('j'), 10));
}

TEST(CatalogRecordsTest, EveryRecordHasAKeyOfItsOwn) {
  const std::set<std::string> keys = {HeaderKey(),
                                      JobKey(TestUid('j')),
                                      LayoutKey(TestUid('j')),
                                      SlotKey(1),
                                      SlotKey(2),
                                      ShardKey(TestId(1, 1), 0),
                                      ShardKey(TestId(1, 1), 1),
                                      OutcomeKey(TestId(1, 1)),
                                      DurableKey(TestId(1, 1), "/a"),
                                      DurableKey(TestId(1, 1), "/ab"),
                                      IncarnationKey(TestUid('j'), 1)};

  EXPECT_EQ(keys.size(), 11u);
}

TEST(CatalogRecordsTest, AnyBytesAreAKeyThatCanBeDescribed) {
  EXPECT_THAT(DescribeKey(""), HasSubstr("empty"));
  EXPECT_THAT(DescribeKey(SlotKey(3)), HasSubstr("S00000003"));
  EXPECT_THAT(DescribeKey(std::string("\0\n\xff", 3)), HasSubstr("000aff"));
  EXPECT_LT(DescribeKey(std::string(1 << 20, 'x')).size(), 200u);
}

TEST(CatalogRecordsTest, AFlippedBitInAKeyIsNeverAnotherRecord) {
  CatalogBatch batch;
  batch.PutSlot(TestSlot(7, 2));
  batch.PutShard(TestShard(1200, 5));
  batch.PutDurable(TestDurable(1200));
  for (const CatalogBatch::Op& op : batch.ops()) {
    for (std::size_t bit = 0; bit < op.key.size() * 8; ++bit) {
      std::string key = op.key;
      key[bit / 8] = static_cast<char>(key[bit / 8] ^ (1 << (bit % 8)));
      CatalogContents contents;
      EXPECT_FALSE(ParseRecord(key, *op.value, &contents)) << bit;
    }
  }
}

TEST(CatalogRecordsTest, ACutValueIsNoRecord) {
  CatalogBatch batch;
  batch.PutShard(TestShard(1200, 5));
  const CatalogBatch::Op op = batch.ops()[0];
  for (std::size_t size = 0; size < op.value->size(); ++size) {
    CatalogContents contents;
    const Status parsed = ParseRecord(op.key, op.value->substr(0, size), &contents);
    // Fields that may be absent can be cut off cleanly: then what is left must still be sound.
    EXPECT_TRUE(!parsed || contents.shards.size() == 1) << size;
  }
}

TEST(CatalogRecordsTest, ManyDamagedRecordsAreCountedAndSomeKept) {
  CatalogContents contents;
  for (std::size_t i = 0; i < kMaxDamagedKept + 10; ++i) {
    AddRecord(SlotKey(static_cast<std::uint32_t>(i)), "x", &contents);
  }

  EXPECT_EQ(contents.damaged_count, kMaxDamagedKept + 10);
  EXPECT_EQ(contents.damaged.size(), kMaxDamagedKept);
}

TEST(CatalogBatchTest, AnInvalidRecordSpoilsTheBatchForGood) {
  proto::SlotRecord bad = TestSlot(1, 1);
  bad.clear_state();
  CatalogBatch later;
  later.PutSlot(bad);
  CatalogBatch batch;
  batch.PutSlot(TestSlot(2, 1));
  EXPECT_TRUE(batch.check());

  batch.Append(std::move(later));

  EXPECT_FALSE(batch.empty());
  EXPECT_EQ(batch.check().error().code, Errc::kInternal);
  EXPECT_THAT(batch.check().error().message, HasSubstr("S00000001"));
}

TEST(CatalogBatchTest, DeletionsOfWhatCannotExistAreRefused) {
  for (const auto& act : std::vector<std::function<void(CatalogBatch*)>>{
           [](CatalogBatch* b) { b->DeleteJob("x"); },
           [](CatalogBatch* b) { b->DeleteLayout(""); },
           [](CatalogBatch* b) { b->DeleteIncarnation("x", 1); },
           [](CatalogBatch* b) { b->DeleteShard({}, 1); },
           [](CatalogBatch* b) { b->DeleteOutcome({}); },
           [](CatalogBatch* b) { b->DeleteDurable({}, "/a"); }}) {
    CatalogBatch batch;
    act(&batch);
    EXPECT_FALSE(batch.check());
    EXPECT_FALSE(batch.empty());
  }
}

TEST(CatalogBatchTest, AppendKeepsTheOrder) {
  CatalogBatch batch;
  EXPECT_TRUE(batch.empty());
  batch.PutSlot(TestSlot(1, 1));
  CatalogBatch later;
  later.DeleteSlot(1);

  batch.Append(std::move(later));

  ASSERT_EQ(batch.size(), 2u);
  EXPECT_TRUE(batch.ops()[0].value.has_value());
  EXPECT_FALSE(batch.ops()[1].value.has_value());
}

}  // namespace
}  // namespace holdfast::storage_tiers
