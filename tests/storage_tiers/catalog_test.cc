#include "storage_tiers/catalog.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/failpoint.h"
#include "storage_tiers/catalog_keys.h"
#include "storage_tiers/catalog_records.h"
#include "tests/storage_tiers/catalog_test_support.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class CatalogTest : public ::testing::Test {
 protected:
  [[nodiscard]] Result<std::unique_ptr<Catalog>> Open(CatalogOptions options = {}) const {
    return Catalog::Open(folder_, options);
  }

  [[nodiscard]] std::unique_ptr<Catalog> OpenBooted() const {
    std::unique_ptr<Catalog> catalog = Open().value();
    EXPECT_TRUE(catalog->StartBoot());
    return catalog;
  }

  // Puts bytes past the catalog's own checks.
  void PutRaw(const std::string& key, const std::string& value) const {
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(rocksdb::Options(), folder_ + "/db", &db).ok());
    const std::unique_ptr<rocksdb::DB> owned(db);
    rocksdb::WriteOptions synced;
    synced.sync = true;
    ASSERT_TRUE(db->Put(synced, key, value).ok());
  }

  TempFolder temp_{TempFolder::Where::kTestTmpdir};
  const std::string folder_ = temp_.path() + "/state";
};

CatalogBatch OneOfEach() {
  CatalogBatch batch;
  batch.PutJob(TestJob(1));
  batch.PutSlot(TestSlot(7, 2));
  batch.PutShard(TestShard(1200, 5));
  const proto::ShardRecord shard = TestShard(1200, 5);
  proto::LayoutRecord layout;
  *layout.mutable_layout() = TestLayout();
  batch.PutLayout(shard.sidecar().layout_hash(), layout);
  batch.PutIncarnation(TestIncarnation(3));
  batch.PutOutcome(TestOutcome(1100));
  batch.PutDurable(TestDurable(1200));
  return batch;
}

TEST_F(CatalogTest, ANewCatalogIsEmptyAndPrivate) {
  const auto catalog = Open().value();

  const CatalogContents contents = catalog->Load().value();

  EXPECT_FALSE(contents.header);
  EXPECT_THAT(contents.slots, IsEmpty());
  EXPECT_EQ(std::filesystem::status(folder_).permissions(), std::filesystem::perms(0700));
}

TEST_F(CatalogTest, BootNumbersRiseAndTheNodeKeepsItsUuid) {
  const proto::CatalogHeader first = Open().value()->StartBoot().value();
  const proto::CatalogHeader second = Open().value()->StartBoot().value();

  EXPECT_EQ(first.boot_number(), 1u);
  EXPECT_EQ(second.boot_number(), 2u);
  EXPECT_THAT(first.node_uuid(), SizeIs(16));
  EXPECT_EQ(first.node_uuid(), second.node_uuid());
}

TEST_F(CatalogTest, EveryKindOfRecordComesBackAsItWas) {
  ASSERT_TRUE(OpenBooted()->Apply(OneOfEach()));

  const CatalogContents contents = Open().value()->Load().value();

  EXPECT_THAT(contents.damaged, IsEmpty());
  ASSERT_THAT(contents.jobs, SizeIs(1));
  EXPECT_EQ(contents.jobs[0].SerializeAsString(), TestJob(1).SerializeAsString());
  ASSERT_THAT(contents.slots, SizeIs(1));
  EXPECT_EQ(contents.slots[0].SerializeAsString(), TestSlot(7, 2).SerializeAsString());
  ASSERT_THAT(contents.shards, SizeIs(1));
  EXPECT_EQ(contents.shards[0].SerializeAsString(), TestShard(1200, 5).SerializeAsString());
  ASSERT_THAT(contents.layouts, SizeIs(1));
  EXPECT_EQ(contents.layouts.begin()->second.SerializeAsString(), TestLayout().SerializeAsString());
  ASSERT_THAT(contents.incarnations, SizeIs(1));
  EXPECT_EQ(contents.incarnations[0].SerializeAsString(), TestIncarnation(3).SerializeAsString());
  ASSERT_THAT(contents.outcomes, SizeIs(1));
  EXPECT_EQ(contents.outcomes[0].SerializeAsString(), TestOutcome(1100).SerializeAsString());
  ASSERT_THAT(contents.durables, SizeIs(1));
  EXPECT_EQ(contents.durables[0].SerializeAsString(), TestDurable(1200).SerializeAsString());
}

TEST_F(CatalogTest, EveryKindOfRecordCanBeDeleted) {
  const auto catalog = OpenBooted();
  ASSERT_TRUE(catalog->Apply(OneOfEach()));
  CatalogBatch batch;
  batch.DeleteJob(TestUid('j'));
  batch.DeleteSlot(7);
  batch.DeleteShard(TestId(3, 1200), 5);
  batch.DeleteLayout(TestShard(1200, 5).sidecar().layout_hash());
  batch.DeleteIncarnation(TestUid('j'), 3);
  batch.DeleteOutcome(TestId(3, 1100));
  batch.DeleteDurable(TestId(3, 1200), "/mnt/fs");

  ASSERT_TRUE(catalog->Apply(batch));

  const CatalogContents contents = catalog->Load().value();
  EXPECT_EQ(contents.jobs.size() + contents.slots.size() + contents.shards.size() +
                contents.layouts.size() + contents.incarnations.size() + contents.outcomes.size() +
                contents.durables.size(),
            0u);
}

TEST_F(CatalogTest, LaterOperationsOfABatchWin) {
  const auto catalog = OpenBooted();
  CatalogBatch batch;
  batch.PutSlot(TestSlot(1, 1));
  batch.DeleteSlot(1);
  batch.PutSlot(TestSlot(2, 1));
  batch.PutSlot(TestSlot(2, 5));

  ASSERT_TRUE(catalog->Apply(batch));

  const CatalogContents contents = catalog->Load().value();
  ASSERT_THAT(contents.slots, SizeIs(1));
  EXPECT_EQ(contents.slots[0].generation(), 5u);
}

TEST_F(CatalogTest, ASecondDaemonIsRefusedWithThePidOfTheFirst) {
  const auto first = Open().value();

  const auto second = Open();

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::kAlreadyExists);
  EXPECT_THAT(second.error().message, HasSubstr("process " + std::to_string(::getpid())));
}

TEST_F(CatalogTest, NothingIsMadeUnlessAskedFor) {
  EXPECT_EQ(Open({.create = false}).error().code, Errc::kNotFound);
  EXPECT_EQ(Open({.read_only = true}).error().code, Errc::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(folder_));
  EXPECT_EQ(Catalog::Open("relative", {}).error().code, Errc::kInvalidArgument);
}

TEST_F(CatalogTest, ADeadDaemonsCatalogIsReadWithoutChangingAByte) {
  ASSERT_TRUE(OpenBooted()->Apply(OneOfEach()));
  const auto files = [&] {
    std::map<std::string, std::filesystem::file_time_type> times;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_)) {
      times[entry.path()] = entry.last_write_time();
    }
    return times;
  };
  const auto before = files();

  const auto reader = Open({.read_only = true}).value();

  EXPECT_THAT(reader->Load().value().slots, SizeIs(1));
  EXPECT_EQ(reader->StartBoot().error().code, Errc::kPermission);
  EXPECT_EQ(reader->Apply(OneOfEach()).error().code, Errc::kPermission);
  EXPECT_EQ(files(), before);
}

TEST_F(CatalogTest, ARunningDaemonsCatalogCanBeRead) {
  const auto daemon = OpenBooted();
  ASSERT_TRUE(daemon->Apply(OneOfEach()));

  EXPECT_THAT(Open({.read_only = true}).value()->Load().value().slots, SizeIs(1));

  EXPECT_TRUE(daemon->Apply(OneOfEach()));
}

TEST_F(CatalogTest, ACatalogOfANewerFormatIsNotOpened) {
  ASSERT_TRUE(OpenBooted());
  proto::CatalogHeader header;
  header.set_format_version(kCatalogFormatVersion + 1);
  header.set_node_uuid(TestUid('n'));
  header.set_boot_number(9);
  PutRaw(HeaderKey(), header.SerializeAsString());

  for (const bool read_only : {false, true}) {
    const auto opened = Open({.read_only = read_only});
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, Errc::kVersionMismatch);
  }
}

TEST_F(CatalogTest, ADamagedHeaderIsNotMadeAnewButTheRestCanBeRead) {
  ASSERT_TRUE(OpenBooted()->Apply(OneOfEach()));
  PutRaw(HeaderKey(), "\xff\xff");

  const auto catalog = Open().value();

  EXPECT_EQ(catalog->StartBoot().error().code, Errc::kCorruption);
  EXPECT_THAT(catalog->Load().value().slots, SizeIs(1));
  EXPECT_EQ(catalog->Load().value().damaged_count, 1u);
}

TEST_F(CatalogTest, RecordsWithoutAHeaderAreNobodys) {
  ASSERT_TRUE(Open());
  PutRaw(SlotKey(1), TestSlot(1, 1).SerializeAsString());

  EXPECT_EQ(Open().value()->StartBoot().error().code, Errc::kCorruption);
}

TEST_F(CatalogTest, DamagedRecordsAreReportedAndLeftOut) {
  ASSERT_TRUE(OpenBooted()->Apply(OneOfEach()));
  PutRaw(SlotKey(8), "not a record");
  PutRaw(SlotKey(9), TestSlot(10, 1).SerializeAsString());
  PutRaw("?", "");
  PutRaw("", "");

  const CatalogContents contents = Open().value()->Load().value();

  EXPECT_THAT(contents.slots, SizeIs(1));
  ASSERT_EQ(contents.damaged_count, 4u);
  EXPECT_EQ(contents.damaged.back().key, SlotKey(9));
  EXPECT_THAT(contents.damaged.back().why.message,
              AllOf(HasSubstr("S00000009"), HasSubstr("S0000000a")));
}

TEST_F(CatalogTest, ABatchWithAnInvalidRecordIsNotWrittenAtAll) {
  const auto catalog = OpenBooted();
  proto::SlotRecord bad = TestSlot(2, 1);
  bad.set_arena_uuid("short");
  CatalogBatch batch;
  batch.PutSlot(TestSlot(1, 1));
  batch.PutSlot(bad);

  EXPECT_EQ(catalog->Apply(batch).error().code, Errc::kInternal);

  EXPECT_THAT(catalog->Load().value().slots, IsEmpty());
}

TEST_F(CatalogTest, NoBatchIsTakenBeforeTheBoot) {
  EXPECT_EQ(Open().value()->Apply(OneOfEach()).error().code, Errc::kInternal);
}

TEST_F(CatalogTest, ACatalogThatLostItsCurrentFileIsNotReplacedByAnEmptyOne) {
  ASSERT_TRUE(OpenBooted()->Apply(OneOfEach()));
  const std::string current = folder_ + "/db/CURRENT";
  std::filesystem::rename(current, folder_ + "/CURRENT");

  const auto opened = Open();

  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::kCorruption);
  EXPECT_FALSE(std::filesystem::exists(current));
  std::filesystem::rename(folder_ + "/CURRENT", current);
  EXPECT_THAT(Open().value()->Load().value().slots, SizeIs(1)) << "nothing was touched";
}

// I3: a log that is damaged in its middle is no reason to forget what was answered.
TEST_F(CatalogTest, AFlippedByteInTheMiddleOfTheLogIsAnErrorAndNotAnOlderState) {
  {
    const auto catalog = OpenBooted();
    for (std::uint64_t i = 1; i <= 50; ++i) {
      CatalogBatch batch;
      batch.PutSlot(TestSlot(1, i));
      ASSERT_TRUE(catalog->Apply(batch));
    }
  }
  std::filesystem::path log;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/db")) {
    if (entry.path().extension() == ".log" && entry.file_size() > 0) {
      log = entry.path();
    }
  }
  ASSERT_FALSE(log.empty());
  std::fstream file(log, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(std::filesystem::file_size(log) / 2));
  file.put('\x5a');
  file.close();

  const auto opened = Open();

  ASSERT_FALSE(opened) << opened.value()->Load().value().slots[0].generation();
  EXPECT_EQ(opened.error().code, Errc::kCorruption);
  EXPECT_THAT(opened.error().message, HasSubstr("move the folder away"));
}

// I3
TEST_F(CatalogTest, AKillAroundAnApplyLeavesAllOrNothing) {
  for (const char* const step : {"catalog.apply.before", "catalog.apply.after"}) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      const auto catalog = OpenBooted();
      (void)!ArmFailpoints(std::string(step) + "=kill");
      (void)!catalog->Apply(OneOfEach());
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status)) << step;

    const CatalogContents contents = Open().value()->Load().value();
    const std::size_t expected = std::string_view(step) == "catalog.apply.after" ? 1 : 0;
    EXPECT_EQ(contents.slots.size(), expected);
    EXPECT_EQ(contents.shards.size(), expected);
  }
}

}  // namespace
}  // namespace holdfast::storage_tiers
