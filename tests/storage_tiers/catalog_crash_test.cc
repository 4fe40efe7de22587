// Power cuts and failing disks under the catalog (I3: what was answered is there, whole).

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_tiers/catalog.h"
#include "tests/storage_tiers/catalog_test_support.h"
#include "tests/support/rocksdb_power_cut.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

// A batch whose records can be told to belong together: slot 0, slot "number" and the job.
CatalogBatch NumberedBatch(std::uint64_t number, std::size_t extra_bytes = 0) {
  CatalogBatch batch;
  if (extra_bytes > 0) {
    proto::OutcomeRecord outcome = TestOutcome(1);
    outcome.set_reason(std::string(extra_bytes, 'r'));
    batch.PutOutcome(outcome);
  }
  batch.PutSlot(TestSlot(0, number));
  batch.PutSlot(TestSlot(static_cast<std::uint32_t>(number), 1));
  batch.PutShard(TestShard(static_cast<std::int64_t>(number), 5));
  batch.PutJob(TestJob(number));
  return batch;
}

class CatalogCrashTest : public ::testing::Test {
 protected:
  // A disk of its own with an Env on it.
  struct Disk {
    Disk()
        : file_system(std::make_shared<PowerCutFileSystem>()),
          env(rocksdb::NewCompositeEnv(file_system)) {}

    [[nodiscard]] CatalogOptions Options() const {
      return {.env = env.get(), .log_bytes = extra_bytes > 0 ? 64 * kKiB : 0};
    }

    std::shared_ptr<PowerCutFileSystem> file_system;
    std::unique_ptr<rocksdb::Env> env;
    std::size_t extra_bytes = 0;  // in each batch; if any, logs are short
  };

  struct Progress {
    std::uint64_t boots = 0;
    std::uint64_t acknowledged = 0;  // batches
    std::uint64_t attempted = 0;
  };

  // Two lives of a daemon; ends at the first error.
  [[nodiscard]] Progress Live(const Disk& disk, const std::string& folder) const {
    constexpr std::uint64_t kBatchesOfALife = 4;
    Progress progress;
    for (int life = 0; life < 2; ++life) {
      const auto catalog = Catalog::Open(folder, disk.Options());
      if (!catalog || !catalog.value()->StartBoot()) {
        return progress;
      }
      ++progress.boots;
      for (std::uint64_t i = 0; i < kBatchesOfALife; ++i) {
        ++progress.attempted;
        if (!catalog.value()->Apply(NumberedBatch(progress.attempted, disk.extra_bytes))) {
          return progress;
        }
        ++progress.acknowledged;
      }
    }
    return progress;
  }

  // Opens what the power cut left of "folder" and holds it against what was answered.
  void CheckDisk(const Disk& disk,
                 const std::string& folder,
                 const Progress& progress,
                 std::uint64_t seed) const {
    const std::string after = root_ + "/after";
    std::filesystem::create_directories(after);
    std::filesystem::permissions(after, std::filesystem::perms(0700));
    disk.file_system->WriteDisk(folder + "/db", after + "/db", seed);
    std::filesystem::permissions(after + "/db", std::filesystem::perms(0700));
    {
      const auto catalog = Catalog::Open(after, {});
      ASSERT_TRUE(catalog) << catalog.error().ToString();
      const CatalogContents contents = catalog.value()->Load().value();
      EXPECT_THAT(contents.damaged, IsEmpty());
      const std::uint64_t found =
          contents.jobs.empty() ? 0 : contents.jobs[0].last_active_unix_ms();
      EXPECT_GE(found, progress.acknowledged) << "an answered batch is gone";
      EXPECT_LE(found, progress.attempted);
      EXPECT_EQ(contents.shards.size(), found) << "half a batch";
      EXPECT_EQ(contents.slots.size(), found == 0 ? 0 : found + 1) << "half a batch";
      if (found != 0) {
        EXPECT_EQ(contents.slots[0].generation(), found) << "half a batch";
      }
      const auto header = catalog.value()->StartBoot();
      ASSERT_TRUE(header) << header.error().ToString();
      EXPECT_GT(header.value().boot_number(), progress.boots) << "a boot number was used twice";
    }
    std::filesystem::remove_all(after);
  }

  void CutAfterEveryStep(std::size_t extra_bytes) const {
    std::uint64_t steps = 0;
    {
      Disk disk;
      disk.extra_bytes = extra_bytes;
      EXPECT_EQ(Live(disk, root_ + "/whole").acknowledged, 8u);
      steps = disk.file_system->steps();
      const auto header = Catalog::Open(root_ + "/whole", {}).value()->Load().value().header;
      ASSERT_TRUE(header.has_value());
      EXPECT_EQ(header->log_mark() > 2, extra_bytes > 0) << "two lives begin a log each";
    }
    ASSERT_GT(steps, 30u);
    for (std::uint64_t step = 1; step <= steps && !HasFailure(); ++step) {
      const std::string folder = root_ + "/cut";
      Disk disk;
      disk.extra_bytes = extra_bytes;
      disk.file_system->CutAfter(step);
      const Progress progress = Live(disk, folder);
      for (const std::uint64_t seed : {std::uint64_t{0}, 2 * step + 1, 2 * step + 2}) {
        if (extra_bytes > 0 && seed % 3 != step % 3) {
          continue;  // many steps: one seed for each
        }
        SCOPED_TRACE("cut after step " + std::to_string(step) + ", seed " + std::to_string(seed));
        CheckDisk(disk, folder, progress, seed);
      }
      std::filesystem::remove_all(folder);
    }
  }

  TempFolder temp_{TempFolder::Where::kTestTmpdir};
  const std::string root_ = temp_.path();
};

// I3
TEST_F(CatalogCrashTest, APowerCutAfterAnyStepLeavesWhatWasAnsweredAndNoHalfBatch) {
  CutAfterEveryStep(0);
}

// I3: with logs that end within a life, each is marked while the daemon runs.
TEST_F(CatalogCrashTest, NoPowerCutAroundANewLogLooksLikeALostOne) {
  CutAfterEveryStep(40'000);
}

TEST_F(CatalogCrashTest, AFullDiskIsNoSpaceAndHealsWhenThereIsSpaceAgain) {
  const Disk disk;
  const auto catalog = Catalog::Open(root_ + "/state", disk.Options()).value();
  ASSERT_TRUE(catalog->StartBoot());
  ASSERT_TRUE(catalog->Apply(NumberedBatch(1)));

  disk.file_system->SetFull(true);
  for (int i = 0; i < 3; ++i) {
    const Status refused = catalog->Apply(NumberedBatch(2));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kNoSpace) << refused.error().ToString();
  }
  disk.file_system->SetFull(false);

  ASSERT_TRUE(catalog->Apply(NumberedBatch(2)));
  EXPECT_THAT(catalog->Load().value().shards, SizeIs(2));
  ASSERT_TRUE(catalog->Apply(NumberedBatch(3)));
}

TEST_F(CatalogCrashTest, WhatWasAnsweredBeforeAndAfterAFullDiskSurvivesAPowerCut) {
  const Disk disk;
  const std::string folder = root_ + "/state";
  {
    const auto catalog = Catalog::Open(folder, disk.Options()).value();
    ASSERT_TRUE(catalog->StartBoot());
    ASSERT_TRUE(catalog->Apply(NumberedBatch(1)));
    disk.file_system->SetFull(true);
    ASSERT_FALSE(catalog->Apply(NumberedBatch(2)));
    disk.file_system->SetFull(false);
    ASSERT_TRUE(catalog->Apply(NumberedBatch(2)));
    disk.file_system->CutAfter(1);
    (void)!catalog->Apply(NumberedBatch(3));
  }
  for (const std::uint64_t seed : {0, 1, 2, 3}) {
    CheckDisk(disk, folder, {1, 2, 3}, seed);
  }
}

// What a caller was told to have failed must not come back beside what was done instead.
TEST_F(CatalogCrashTest, ABatchThatFailedIsNotFoundAfterALaterOneSucceeded) {
  const Disk disk;
  const std::string folder = root_ + "/state";
  {
    const auto catalog = Catalog::Open(folder, disk.Options()).value();
    ASSERT_TRUE(catalog->StartBoot());
    CatalogBatch before;
    before.PutSlot(TestSlot(1, 10));
    before.PutSlot(TestSlot(2, 20));
    ASSERT_TRUE(catalog->Apply(before));
    CatalogBatch failing;
    failing.PutSlot(TestSlot(1, 11));
    failing.DeleteSlot(2);
    failing.PutSlot(TestSlot(3, 31));
    disk.file_system->SetSyncsFail(true);
    ASSERT_FALSE(catalog->Apply(failing));
    ASSERT_FALSE(catalog->Apply(failing));
    EXPECT_FALSE(catalog->Load()) << "not before the old values are back";
    disk.file_system->SetSyncsFail(false);
    CatalogBatch other;
    other.PutSlot(TestSlot(4, 40));
    ASSERT_TRUE(catalog->Apply(other));
  }

  const CatalogContents contents = Catalog::Open(folder, disk.Options()).value()->Load().value();

  ASSERT_THAT(contents.slots, SizeIs(3));
  EXPECT_EQ(contents.slots[0].generation(), 10u);
  EXPECT_EQ(contents.slots[1].generation(), 20u);
  EXPECT_EQ(contents.slots[2].generation(), 40u);
}

TEST_F(CatalogCrashTest, AFailedFirstBootCanBeRepeated) {
  const Disk disk;
  const auto catalog = Catalog::Open(root_ + "/state", disk.Options()).value();
  disk.file_system->SetSyncsFail(true);
  ASSERT_FALSE(catalog->StartBoot());
  disk.file_system->SetSyncsFail(false);

  const auto header = catalog->StartBoot();

  ASSERT_TRUE(header) << header.error().ToString();
  EXPECT_TRUE(catalog->Apply(NumberedBatch(1)));
}

}  // namespace
}  // namespace holdfast::storage_tiers
