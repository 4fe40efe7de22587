// Records written by version 1 must be read for ever, under the keys that they had. An old file is
// never written anew. A file is the key's length (u32, little-endian), the key, the value.
#include <string>

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "common/bytes.h"
#include "storage_tiers/catalog_batch.h"
#include "storage_tiers/catalog_contents.h"
#include "storage_tiers/catalog_keys.h"
#include "tests/storage_tiers/catalog_test_support.h"
#include "tests/support/golden_file.h"

namespace holdfast::storage_tiers {
namespace {

using ::google::protobuf::util::MessageDifferencer;

struct KeyValue {
  std::string key;
  std::string value;
};

KeyValue Golden(const std::string& name, const KeyValue& today) {
  const std::string file_name = name + "_v1.record";
  std::string framed(4, '\0');
  StoreLe32(framed.data(), static_cast<std::uint32_t>(today.key.size()));
  framed.append(today.key).append(today.value);
  const std::string bytes = GoldenFile("catalog/" + file_name, framed);
  if (bytes.size() < 4 || LoadLe32(bytes.data()) > bytes.size() - 4) {
    ADD_FAILURE() << file_name << " cannot be read";
    return {};
  }
  const std::size_t key_size = LoadLe32(bytes.data());
  return {bytes.substr(4, key_size), bytes.substr(4 + key_size)};
}

// What a batch of one record holds.
KeyValue Only(const CatalogBatch& batch) {
  EXPECT_TRUE(batch.check());
  EXPECT_EQ(batch.size(), 1u);
  return batch.size() == 1 ? KeyValue{batch.ops()[0].key, batch.ops()[0].value.value_or("")}
                           : KeyValue{};
}

// The old bytes give "sample", and it still goes under the old key.
template <class Record>
void ExpectGolden(const std::string& name,
                  const CatalogBatch& batch,
                  const Record& sample,
                  std::vector<Record> CatalogContents::*records) {
  const KeyValue today = Only(batch);
  const KeyValue golden = Golden(name, today);
  CatalogContents contents;
  const Status parsed = ParseRecord(golden.key, golden.value, &contents);
  ASSERT_TRUE(parsed) << parsed.error().ToString();
  ASSERT_EQ((contents.*records).size(), 1u);
  EXPECT_TRUE(MessageDifferencer::Equals((contents.*records)[0], sample))
      << (contents.*records)[0].DebugString();
  EXPECT_EQ(ToHex(AsBytes(today.key)), ToHex(AsBytes(golden.key)));
}

TEST(CatalogGoldenTest, AJobIsRead) {
  CatalogBatch batch;
  batch.PutJob(TestJob(1700000000000));
  ExpectGolden("job", batch, TestJob(1700000000000), &CatalogContents::jobs);
}

TEST(CatalogGoldenTest, ASlotIsRead) {
  CatalogBatch batch;
  batch.PutSlot(TestSlot(7, 2));
  ExpectGolden("slot", batch, TestSlot(7, 2), &CatalogContents::slots);
}

TEST(CatalogGoldenTest, AShardIsRead) {
  CatalogBatch batch;
  batch.PutShard(TestShard(1200, 5));
  ExpectGolden("shard", batch, TestShard(1200, 5), &CatalogContents::shards);
}

TEST(CatalogGoldenTest, AnIncarnationIsRead) {
  CatalogBatch batch;
  batch.PutIncarnation(TestIncarnation(3));
  ExpectGolden("incarnation", batch, TestIncarnation(3), &CatalogContents::incarnations);
}

TEST(CatalogGoldenTest, AnOutcomeIsRead) {
  CatalogBatch batch;
  batch.PutOutcome(TestOutcome(1100));
  ExpectGolden("outcome", batch, TestOutcome(1100), &CatalogContents::outcomes);
}

TEST(CatalogGoldenTest, ADurableIsRead) {
  CatalogBatch batch;
  batch.PutDurable(TestDurable(1200));
  ExpectGolden("durable", batch, TestDurable(1200), &CatalogContents::durables);
}

TEST(CatalogGoldenTest, ARowIsRead) {
  CatalogBatch batch;
  batch.PutRow(TestRow(1200, 1));
  ExpectGolden("row", batch, TestRow(1200, 1), &CatalogContents::rows);
}

TEST(CatalogGoldenTest, ARowOfStaticImagesIsRead) {
  proto::RowRecord row = TestRow(1200, 1);
  row.mutable_set()->set_kind(proto::STATIC);
  CatalogBatch batch;
  batch.PutRow(row);
  ExpectGolden("row_static", batch, row, &CatalogContents::rows);
}

TEST(CatalogGoldenTest, ASidecarIsRead) {
  CatalogBatch batch;
  batch.PutSidecar(TestSidecar(1200, 5));
  ExpectGolden("sidecar", batch, TestSidecar(1200, 5), &CatalogContents::sidecars);
}

TEST(CatalogGoldenTest, ALayoutIsRead) {
  proto::LayoutRecord record;
  *record.mutable_layout() = TestLayout();
  const std::string hash = layout::LayoutHash(TestLayout());
  CatalogBatch batch;
  batch.PutLayout(hash, record);
  const KeyValue golden = Golden("layout", Only(batch));
  CatalogContents contents;

  ASSERT_TRUE(ParseRecord(golden.key, golden.value, &contents));

  ASSERT_TRUE(contents.layouts.contains(hash));
  EXPECT_TRUE(MessageDifferencer::Equals(contents.layouts.at(hash), TestLayout()));
}

TEST(CatalogGoldenTest, TheHeaderIsRead) {
  proto::CatalogHeader header;
  header.set_format_version(1);
  header.set_node_uuid(TestUid('n'));
  header.set_boot_number(12);
  const KeyValue golden = Golden("header", {HeaderKey(), header.SerializeAsString()});
  CatalogContents contents;

  ASSERT_TRUE(ParseRecord(golden.key, golden.value, &contents));

  ASSERT_TRUE(contents.header);
  EXPECT_TRUE(MessageDifferencer::Equals(*contents.header, header));
}

}  // namespace
}  // namespace holdfast::storage_tiers
