#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage_tiers/persistent_tier.h"
#include "tests/storage_tiers/persistent_tier_fixture.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/power_cut_file_system.h"

namespace holdfast::storage_tiers {
namespace {

using ::holdfast::testing::FaultFileSystem;
using ::holdfast::testing::FileSystemCall;
using ::holdfast::testing::PowerCutFileSystem;

// A file system on which somebody else acts at a chosen moment.
class PersistentTierDeleteTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(fs_.CreateFolder("/root"));
    ASSERT_TRUE(tier_.EnsureJob(kJob, kUid));
  }

  void Publish(std::initializer_list<proto::SnapshotId> ids) {
    for (const proto::SnapshotId& id : ids) {
      ASSERT_TRUE(FlushAndPublish(tier_, MakeWorld(id), id.incarnation()));
    }
  }

  void Claim(const proto::IncarnationFile& record) {
    ASSERT_TRUE(tier_.ClaimIncarnation(kJob, record));
  }

  // The ids that are published, as "incarnation.step".
  std::vector<std::string> Published() {
    std::vector<std::string> ids;
    const auto listing = tier_.ListSnapshots(kJob);
    for (const SnapshotEntry& entry : listing.value().snapshots) {
      if (entry.published) {
        ids.push_back(std::to_string(entry.id.incarnation()) + "." +
                      std::to_string(entry.id.step()));
      }
    }
    return ids;
  }

  bool AnyTrash() {
    const auto entries = fs_.List("/root/" + kJob);
    for (const FolderEntry& entry : entries.value()) {
      if (entry.name.starts_with(".trash-") || entry.name.starts_with(".tmp-")) {
        return true;
      }
    }
    return false;
  }

  // Runs "act" once, on the first call of this operation on a path that contains "part".
  void OnCall(const std::string& operation, const std::string& part, std::function<void()> act) {
    auto done = std::make_shared<bool>(false);
    faulty_.FailMatching(
        [=](const FileSystemCall& call) {
          if (!*done && call.operation == operation &&
              call.path.find(part) != std::string_view::npos) {
            *done = true;
            act();
          }
          return false;
        },
        0);
  }

  using Ids = std::vector<std::string>;

  PowerCutFileSystem fs_;
  FaultFileSystem faulty_{fs_};
  PersistentTier tier_{fs_, "/root", TierScope::kShared};
  PersistentTier slow_tier_{faulty_, "/root", TierScope::kShared};
};

TEST_F(PersistentTierDeleteTest, AnOldSnapshotIsRemovedWhole) {
  Publish({Id(1, 1), Id(1, 2)});

  ASSERT_TRUE(tier_.Delete(kJob, Id(1, 1), 1));

  EXPECT_EQ(Published(), Ids{"1.2"});
  EXPECT_FALSE(AnyTrash());
  EXPECT_EQ(tier_.Delete(kJob, Id(1, 1), 1).error().code, Errc::kNotFound);
}

TEST_F(PersistentTierDeleteTest, TheNewestDurableSnapshotStays) {
  // I3
  Publish({Id(1, 1), Id(2, 1)});
  const std::uint64_t steps = fs_.steps();

  EXPECT_EQ(tier_.Delete(kJob, Id(2, 1), 2).error().code, Errc::kUnavailable);

  EXPECT_EQ(fs_.steps(), steps) << "it was moved, if only for a moment";

  EXPECT_EQ(Published(), (Ids{"1.1", "2.1"}));
}

TEST_F(PersistentTierDeleteTest, AnUnpublishedSnapshotCanBeRemovedAlsoIfItIsTheNewest) {
  Publish({Id(1, 1)});
  const Shard shard = MakeShard(Id(1, 2), 0, 2);
  ASSERT_TRUE(tier_.FlushShard(shard.sidecar, shard.images(), {}));

  EXPECT_TRUE(tier_.Delete(kJob, Id(1, 2), 1));

  EXPECT_EQ(tier_.ListSnapshots(kJob).value().snapshots.size(), 1u);
}

TEST_F(PersistentTierDeleteTest, AnOlderIncarnationDeletesNothing) {
  // I8
  Publish({Id(1, 1), Id(1, 2)});
  Claim(CommittedRecord(2, 21));

  EXPECT_EQ(tier_.Delete(kJob, Id(1, 1), 1).error().code, Errc::kFenced);
  EXPECT_EQ(tier_.Delete(kJob, Id(3, 1), 2).error().code, Errc::kFenced);

  EXPECT_EQ(Published(), (Ids{"1.1", "1.2"}));
}

TEST_F(PersistentTierDeleteTest, WhatTheNewestIncarnationRestoredStays) {
  // I3: the parent outlives retention while it is the base of the running incarnation.
  Publish({Id(1, 1), Id(1, 2), Id(1, 3)});
  proto::IncarnationFile record = CommittedRecord(2, 21);
  *record.mutable_decision()->mutable_choice() = Id(1, 1);
  *record.mutable_decision()->mutable_fallback() = Id(1, 2);
  Claim(record);
  Publish({Id(2, 4)});

  EXPECT_EQ(tier_.Delete(kJob, Id(1, 1), 2).error().code, Errc::kUnavailable);
  EXPECT_EQ(tier_.Delete(kJob, Id(1, 2), 2).error().code, Errc::kUnavailable);
  EXPECT_TRUE(tier_.Delete(kJob, Id(1, 3), 2));
}

TEST_F(PersistentTierDeleteTest, AHalfFlushOfWhatWasRestoredFromMemoryGoes) {
  // I12: a crash left it; the snapshot itself came back from memory and is this incarnation's base.
  Publish({Id(1, 1)});
  const Shard shard = MakeShard(Id(1, 2), 0, 2);
  ASSERT_TRUE(tier_.FlushShard(shard.sidecar, shard.images(), {}));
  proto::IncarnationFile record = CommittedRecord(2, 21);
  *record.mutable_decision()->mutable_choice() = Id(1, 2);
  Claim(record);
  Publish({Id(2, 3)});

  EXPECT_TRUE(tier_.Delete(kJob, Id(1, 2), 2));

  EXPECT_EQ(Published(), (Ids{"1.1", "2.3"}));
  EXPECT_FALSE(AnyTrash());
  EXPECT_EQ(tier_.ListSnapshots(kJob).value().snapshots.size(), 2u);
}

TEST_F(PersistentTierDeleteTest, UntilTheRestoreIsCommittedNothingOlderGoes) {
  Publish({Id(1, 1), Id(1, 2)});
  Claim(MakeRecord(2, 21));
  EXPECT_EQ(tier_.Delete(kJob, Id(1, 1), 2).error().code, Errc::kUnavailable);

  ASSERT_TRUE(tier_.UpdateIncarnation(kJob, CommittedRecord(2, 21)));

  EXPECT_TRUE(tier_.Delete(kJob, Id(1, 1), 2));
}

TEST_F(PersistentTierDeleteTest, TheOwnerOfASharedStaticImageStays) {
  const Shard owner = MakeShard(Id(1, 1), 0, 1, {.with_static = true});
  ASSERT_TRUE(FlushAndPublish(tier_, {owner}, 1));
  Shard user = MakeShard(Id(1, 2), 0, 1, {.fill = 'b', .with_static = true});
  BorrowStatic(user, Id(1, 1));
  ASSERT_TRUE(FlushAndPublish(tier_, {user}, 1));

  EXPECT_EQ(tier_.Delete(kJob, Id(1, 1), 1).error().code, Errc::kUnavailable);

  EXPECT_TRUE(ReadBack(tier_, user));
}

TEST_F(PersistentTierDeleteTest, AnIncarnationThatStartsDuringTheDeletionGetsTheSnapshotBack) {
  // I3: it listed the snapshot before the rename and may choose it.
  Publish({Id(1, 1), Id(1, 2)});
  OnCall("Rename", "step-00000001", [&] { Claim(MakeRecord(2, 21)); });

  EXPECT_EQ(slow_tier_.Delete(kJob, Id(1, 1), 1).error().code, Errc::kFenced);

  EXPECT_EQ(Published(), (Ids{"1.1", "1.2"}));
  EXPECT_FALSE(AnyTrash());
}

TEST_F(PersistentTierDeleteTest, ASnapshotPublishedDuringItsDeletionComesBack) {
  Publish({Id(1, 1), Id(1, 3)});
  proto::Manifest manifest = MakeManifest(Id(1, 2), 2);
  for (const Shard& shard : MakeWorld(Id(1, 2))) {
    AddFiles(manifest, tier_.FlushShard(shard.sidecar, shard.images(), {}).value());
  }
  OnCall("Rename", "step-00000002", [&] { ASSERT_TRUE(tier_.PublishManifest(manifest, 1)); });

  EXPECT_EQ(slow_tier_.Delete(kJob, Id(1, 2), 1).error().code, Errc::kUnavailable);

  EXPECT_EQ(Published(), (Ids{"1.1", "1.2", "1.3"}));
}

TEST_F(PersistentTierDeleteTest, TwoDeletionsAtOnceLeaveTheNewestOfTheRest) {
  // I3: (1,2) is deleted as older than (1,3); meanwhile (1,3) goes because (1,4) came and went.
  Publish({Id(1, 1), Id(1, 2)});
  OnCall("Rename", "step-00000001", [&] {
    ASSERT_TRUE(RemoveTree(fs_, "/root/" + kJob + "/step-00000002.i0001"));
  });

  EXPECT_EQ(slow_tier_.Delete(kJob, Id(1, 1), 1).error().code, Errc::kUnavailable);

  EXPECT_EQ(Published(), Ids{"1.1"});
}

TEST_F(PersistentTierDeleteTest, CleanUpFinishesADeletionThatWasCutShort) {
  Publish({Id(1, 1), Id(1, 2)});
  ASSERT_TRUE(fs_.Rename("/root/" + kJob + "/step-00000001.i0001",
                         "/root/" + kJob + "/.trash-step-00000001.i0001"));
  ASSERT_TRUE(fs_.CreateFolder("/root/" + kJob + "/.trash-whatever"));
  ASSERT_TRUE(fs_.OpenForWrite("/root/" + kJob + "/.tmp-job.json-00"));

  const auto report = tier_.CleanUp(kJob);

  ASSERT_TRUE(report);
  EXPECT_EQ(report.value().removed.size(), 3u);
  EXPECT_TRUE(report.value().problems.empty());
  EXPECT_EQ(Published(), Ids{"1.2"});
  EXPECT_FALSE(AnyTrash());
}

TEST_F(PersistentTierDeleteTest, CleanUpTakesBackWhatANewRecordNeeds) {
  // I3
  Publish({Id(1, 1), Id(1, 2)});
  ASSERT_TRUE(fs_.Rename("/root/" + kJob + "/step-00000001.i0001",
                         "/root/" + kJob + "/.trash-step-00000001.i0001"));
  Claim(MakeRecord(2, 21));

  const auto report = tier_.CleanUp(kJob);

  ASSERT_TRUE(report);
  EXPECT_EQ(report.value().restored.size(), 1u);
  EXPECT_EQ(Published(), (Ids{"1.1", "1.2"}));
}

TEST_F(PersistentTierDeleteTest, CleanUpLeavesAloneWhatItCannotDecide) {
  Publish({Id(1, 1), Id(1, 2)});
  ASSERT_TRUE(fs_.Rename("/root/" + kJob + "/step-00000001.i0001",
                         "/root/" + kJob + "/.trash-step-00000001.i0001"));
  ASSERT_TRUE(fs_.OpenForWrite("/root/" + kJob + "/incarnations/2.json"));  // empty: damaged

  const auto report = tier_.CleanUp(kJob);

  ASSERT_TRUE(report);
  EXPECT_EQ(report.value().problems.size(), 1u);
  EXPECT_TRUE(AnyTrash());
}

TEST_F(PersistentTierDeleteTest, CleanUpRemovesGivenUpSnapshotsAndNoPublishedOnes) {
  Publish({Id(1, 1)});
  const Shard shard = MakeShard(Id(1, 2), 0, 2);
  ASSERT_TRUE(tier_.FlushShard(shard.sidecar, shard.images(), {}));
  const std::vector<proto::SnapshotId> given_up = {Id(1, 1), Id(1, 2), Id(1, 3)};

  const auto report = tier_.CleanUp(kJob, given_up);

  ASSERT_TRUE(report);
  EXPECT_EQ(report.value().removed.size(), 1u);
  EXPECT_EQ(report.value().problems.size(), 1u);
  EXPECT_EQ(Published(), Ids{"1.1"});
  EXPECT_EQ(tier_.ListSnapshots(kJob).value().snapshots.size(), 1u);
}

TEST_F(PersistentTierDeleteTest, CleanUpDoesNotTouchImagesThatGrow) {
  const Shard shard = MakeShard(Id(1, 2), 0, 2);
  OnCall("Sync", ".tmp-rank-00000.safetensors", [&] { ASSERT_TRUE(tier_.CleanUp(kJob)); });

  EXPECT_TRUE(slow_tier_.FlushShard(shard.sidecar, shard.images(), {}));
}

}  // namespace
}  // namespace holdfast::storage_tiers
