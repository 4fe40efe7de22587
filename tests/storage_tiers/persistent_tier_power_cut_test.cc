// The power fails after every single step of every operation, and what a new start finds is judged:
// a published snapshot is whole and readable, an unpublished one can be finished or removed, and
// the next start needs no help (I3, I6).
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage_tiers/persistent_tier.h"
#include "tests/storage_tiers/persistent_tier_fixture.h"
#include "tests/support/power_cut_file_system.h"

namespace holdfast::storage_tiers {
namespace {

using ::holdfast::testing::PowerCutFileSystem;

// 0: nothing unsynced survives; 1: everything; the others choose for each change.
constexpr std::uint64_t kSeeds = 12;

struct World {
  World() {
    EXPECT_TRUE(fs.CreateFolder("/root"));
    EXPECT_TRUE(fs.SyncFolder("/"));
  }

  PowerCutFileSystem fs;
  PersistentTier tier{fs, "/root", TierScope::kShared};
};

// For every seed and every n: prepare, cut the power after step n of "act", start again, "judge".
// Ends when "act" gets through; "judge" hears whether it did.
void CutAfterEveryStep(const std::function<void(World&)>& prepare,
                       const std::function<bool(World&)>& act,
                       const std::function<void(World&, bool done)>& judge) {
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    bool done = false;
    for (std::uint64_t cut = 0; !done; ++cut) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", cut after step " + std::to_string(cut));
      World world;
      prepare(world);
      world.fs.CutAfter(cut);
      done = act(world);
      ASSERT_TRUE(done || world.fs.power_is_off()) << "failed without a power cut";
      world.fs.Restore(seed);
      judge(world, done);
      if (::testing::Test::HasFailure()) {
        return;
      }
    }
  }
}

void ExpectPublishedAndReadable(World& world, const std::vector<Shard>& shards) {
  const auto manifest = world.tier.ReadManifest(kJob, shards[0].sidecar.id());
  ASSERT_TRUE(manifest) << manifest.error().ToString();
  for (const Shard& shard : shards) {
    const Status read = ReadBack(world.tier, shard);
    ASSERT_TRUE(read) << read.error().ToString();
  }
}

bool HasManifest(World& world, const proto::SnapshotId& id) {
  const auto manifest = world.tier.ReadManifest(kJob, id);
  EXPECT_TRUE(manifest || manifest.error().code == Errc::kNotFound)
      << manifest.error().ToString() << ": visible and not readable";
  return manifest.has_value();
}

void MakeJob(World& world) {
  ASSERT_TRUE(world.tier.EnsureJob(kJob, kUid));
}

TEST(PersistentTierPowerCutTest, AJobIsMadeOrCanBeMadeAgain) {
  CutAfterEveryStep([](World&) {},
                    [](World& world) { return world.tier.EnsureJob(kJob, kUid).has_value(); },
                    [](World& world, bool done) {
                      const auto job = world.tier.ReadJob(kJob);
                      ASSERT_TRUE(job) << job.error().ToString();
                      ASSERT_TRUE(job.value().has_value() || !done);
                      const Status again = world.tier.EnsureJob(kJob, kUid);
                      ASSERT_TRUE(again) << again.error().ToString();
                      if (done) {
                        ASSERT_FALSE(world.tier.EnsureJob(kJob, std::string(16, 'v')));
                      }
                    });
}

TEST(PersistentTierPowerCutTest, AnIncarnationIsTakenForGoodOrNotAtAll) {
  CutAfterEveryStep(
      MakeJob,
      [](World& world) { return world.tier.ClaimIncarnation(kJob, MakeRecord(1, 11)).has_value(); },
      [](World& world, bool done) {
        const auto record = world.tier.ReadIncarnation(kJob, 1);
        ASSERT_TRUE(record) << record.error().ToString();
        ASSERT_TRUE(record.value().has_value() || !done);
        // Nobody else gets a number that we were told is ours.
        const Status rival = world.tier.ClaimIncarnation(kJob, MakeRecord(1, 12));
        ASSERT_EQ(rival.has_value(), !record.value().has_value());
      });
}

TEST(PersistentTierPowerCutTest, ARecordIsTheOldOrTheNew) {
  CutAfterEveryStep(
      [](World& world) {
        MakeJob(world);
        ASSERT_TRUE(world.tier.ClaimIncarnation(kJob, MakeRecord(1, 11)));
      },
      [](World& world) {
        return world.tier.UpdateIncarnation(kJob, CommittedRecord(1, 11)).has_value();
      },
      [](World& world, bool done) {
        const auto record = world.tier.ReadIncarnation(kJob, 1);
        ASSERT_TRUE(record && record.value());
        ASSERT_TRUE(record.value()->decision().committed() || !done);
      });
}

TEST(PersistentTierPowerCutTest, APublishedSnapshotIsWholeAndAnUnpublishedOneCanBeFinished) {
  // I3, I6
  const auto older = MakeWorld(Id(1, 1));
  auto shards = MakeWorld(Id(1, 2));
  shards[0] = MakeShard(Id(1, 2), 0, 2, {.fill = 'x', .with_static = true});
  CutAfterEveryStep(
      [&](World& world) {
        MakeJob(world);
        ASSERT_TRUE(FlushAndPublish(world.tier, older, 1));
      },
      [&](World& world) { return FlushAndPublish(world.tier, shards, 1).has_value(); },
      [&](World& world, bool done) {
        ExpectPublishedAndReadable(world, older);
        const bool published = HasManifest(world, Id(1, 2));
        ASSERT_TRUE(published || !done);
        if (published) {
          ExpectPublishedAndReadable(world, shards);
        } else {
          const auto report = world.tier.CleanUp(kJob);
          ASSERT_TRUE(report && report.value().problems.empty());
          const Status finished = FlushAndPublish(world.tier, shards, 1);
          ASSERT_TRUE(finished) << finished.error().ToString();
          world.fs.Restore(PowerCutFileSystem::kNothingUnsyncedSurvives);
          ExpectPublishedAndReadable(world, shards);
        }
      });
}

TEST(PersistentTierPowerCutTest, PublishingDoesNotRelyOnOthersToHaveSyncedTheFolders) {
  // I6: an image's contents are synced, its name is not.
  const auto shards = MakeWorld(Id(1, 1));
  proto::Manifest manifest;
  CutAfterEveryStep(
      [&](World& world) {
        MakeJob(world);
        manifest = MakeManifest(Id(1, 1), 2);
        for (const Shard& shard : shards) {
          const auto files = world.tier.FlushShard(shard.sidecar, shard.images(), {});
          ASSERT_TRUE(files);
          AddFiles(manifest, files.value());
        }
        const std::string folder = "/root/" + kJob + "/step-00000001.i0001";
        const std::string image = folder + "/rank-00001.safetensors";
        ASSERT_TRUE(world.fs.Unlink(image));
        ASSERT_TRUE(world.fs.SyncFolder(folder));
        ASSERT_TRUE(world.fs.WriteImage(image, AsBytes(shards[1].dynamic_image), {}));
      },
      [&](World& world) { return world.tier.PublishManifest(manifest, 1).has_value(); },
      [&](World& world, bool done) {
        const bool published = HasManifest(world, Id(1, 1));
        ASSERT_TRUE(published || !done);
        if (published) {
          ExpectPublishedAndReadable(world, shards);
        }
      });
}

TEST(PersistentTierPowerCutTest, ASidecarVouchesForAWholeImageAndAnUnpublishedShardCanBeGivenUp) {
  const auto shards = MakeWorld(Id(1, 2));
  CutAfterEveryStep(
      MakeJob,
      [&](World& world) {
        return world.tier.FlushShard(shards[0].sidecar, shards[0].images(), {}).has_value();
      },
      [&](World& world, bool done) {
        const bool vouched = world.tier.ReadSidecar(kJob, Id(1, 2), 0, 2).has_value();
        ASSERT_TRUE(vouched || !done);
        if (vouched) {
          const Status read = ReadBack(world.tier, shards[0]);
          ASSERT_TRUE(read) << read.error().ToString();
        }
        const std::vector<proto::SnapshotId> given_up = {Id(1, 2)};
        const auto report = world.tier.CleanUp(kJob, given_up);
        ASSERT_TRUE(report && report.value().problems.empty());
        ASSERT_TRUE(world.tier.ListSnapshots(kJob).value().snapshots.empty());
      });
}

TEST(PersistentTierPowerCutTest, ADeletionLeavesTheSnapshotWholeOrGone) {
  const auto older = MakeWorld(Id(1, 1));
  const auto newer = MakeWorld(Id(1, 2));
  CutAfterEveryStep(
      [&](World& world) {
        MakeJob(world);
        ASSERT_TRUE(FlushAndPublish(world.tier, older, 1));
        ASSERT_TRUE(FlushAndPublish(world.tier, newer, 1));
      },
      [](World& world) { return world.tier.Delete(kJob, Id(1, 1), 1).has_value(); },
      [&](World& world, bool done) {
        ExpectPublishedAndReadable(world, newer);
        const bool there = HasManifest(world, Id(1, 1));
        ASSERT_FALSE(there && done) << "a deleted snapshot came back";
        if (there) {
          ExpectPublishedAndReadable(world, older);
        }
        const auto report = world.tier.CleanUp(kJob);
        ASSERT_TRUE(report && report.value().problems.empty());
        const auto entries = world.fs.List("/root/" + kJob);
        for (const FolderEntry& entry : entries.value()) {
          ASSERT_FALSE(entry.name.starts_with(".")) << entry.name;
        }
        const auto listing = world.tier.ListSnapshots(kJob);
        for (const SnapshotEntry& entry : listing.value().snapshots) {
          ASSERT_TRUE(entry.published) << "a rest that nobody would ever remove";
        }
        if (HasManifest(world, Id(1, 1))) {
          ExpectPublishedAndReadable(world, older);
          ASSERT_TRUE(world.tier.Delete(kJob, Id(1, 1), 1));
        }
        ExpectPublishedAndReadable(world, newer);
      });
}

TEST(PersistentTierPowerCutTest, ADeletionCutShortIsNeverTakenBackInPart) {
  // I3, I6: a new incarnation, not yet committed, keeps all that is older; what is left of (1,1)
  // must not pass for a snapshot.
  const auto older = MakeWorld(Id(1, 1));
  CutAfterEveryStep(
      [&](World& world) {
        MakeJob(world);
        ASSERT_TRUE(FlushAndPublish(world.tier, older, 1));
        ASSERT_TRUE(FlushAndPublish(world.tier, MakeWorld(Id(1, 2)), 1));
      },
      [](World& world) { return world.tier.Delete(kJob, Id(1, 1), 1).has_value(); },
      [&](World& world, bool) {
        ASSERT_TRUE(world.tier.ClaimIncarnation(kJob, MakeRecord(2, 21)));
        ASSERT_TRUE(world.tier.CleanUp(kJob));
        if (HasManifest(world, Id(1, 1))) {
          ExpectPublishedAndReadable(world, older);
        }
      });
}

TEST(PersistentTierPowerCutTest, ADeletionTakenBackLeavesTheSnapshotWhole) {
  // I3: the records of incarnation 2 need (1,1), whose deletion had begun.
  const auto older = MakeWorld(Id(1, 1));
  CutAfterEveryStep(
      [&](World& world) {
        MakeJob(world);
        ASSERT_TRUE(FlushAndPublish(world.tier, older, 1));
        ASSERT_TRUE(FlushAndPublish(world.tier, MakeWorld(Id(1, 2)), 1));
        const std::string folder = "/root/" + kJob + "/";
        ASSERT_TRUE(
            world.fs.Rename(folder + "step-00000001.i0001", folder + ".trash-step-00000001.i0001"));
        ASSERT_TRUE(world.fs.SyncFolder(folder));
        ASSERT_TRUE(world.tier.ClaimIncarnation(kJob, MakeRecord(2, 21)));
      },
      [](World& world) {
        const auto report = world.tier.CleanUp(kJob);
        return report && report.value().problems.empty();
      },
      [&](World& world, bool) {
        ASSERT_TRUE(world.tier.CleanUp(kJob));
        ExpectPublishedAndReadable(world, older);
      });
}

TEST(PersistentTierPowerCutTest, AGivenUpSnapshotIsThereOrGoneAndTheRestStays) {
  // I3, I6: also what is left half-way must not pass for a snapshot, and the next start removes it.
  const auto kept = MakeWorld(Id(1, 1));
  const std::vector<proto::SnapshotId> given_up = {Id(1, 2)};
  CutAfterEveryStep(
      [&](World& world) {
        MakeJob(world);
        ASSERT_TRUE(FlushAndPublish(world.tier, kept, 1));
        for (const Shard& shard : MakeWorld(Id(1, 2))) {
          ASSERT_TRUE(world.tier.FlushShard(shard.sidecar, shard.images(), {}));
        }
      },
      [&](World& world) {
        const auto report = world.tier.CleanUp(kJob, given_up);
        return report && report.value().problems.empty();
      },
      [&](World& world, bool) {
        ASSERT_FALSE(HasManifest(world, Id(1, 2)));
        ExpectPublishedAndReadable(world, kept);
        const auto report = world.tier.CleanUp(kJob, given_up);
        ASSERT_TRUE(report && report.value().problems.empty());
        ASSERT_EQ(world.tier.ListSnapshots(kJob).value().snapshots.size(), 1u);
        ASSERT_TRUE(world.tier.ListSnapshots(kJob).value().unknown_names.empty());
        ExpectPublishedAndReadable(world, kept);
      });
}

TEST(PersistentTierPowerCutTest, ARemovalCutShortIsFinishedByTheNextStart) {
  // I3, I6: the trash without its manifest is the rest of a deletion; finishing it is cut, too.
  const auto newer = MakeWorld(Id(1, 2));
  const std::string folder = "/root/" + kJob;
  CutAfterEveryStep(
      [&](World& world) {
        MakeJob(world);
        ASSERT_TRUE(FlushAndPublish(world.tier, MakeWorld(Id(1, 1)), 1));
        ASSERT_TRUE(FlushAndPublish(world.tier, newer, 1));
        const std::string trash = folder + "/.trash-step-00000001.i0001";
        ASSERT_TRUE(world.fs.Rename(folder + "/step-00000001.i0001", trash));
        ASSERT_TRUE(world.fs.SyncFolder(folder));
        ASSERT_TRUE(world.fs.Unlink(trash + "/manifest.json"));
        ASSERT_TRUE(world.fs.SyncFolder(trash));
      },
      [](World& world) {
        const auto report = world.tier.CleanUp(kJob);
        return report && report.value().problems.empty();
      },
      [&](World& world, bool) {
        ASSERT_FALSE(HasManifest(world, Id(1, 1)));
        ASSERT_TRUE(world.tier.CleanUp(kJob));
        const auto entries = world.fs.List(folder).value();
        for (const FolderEntry& entry : entries) {
          ASSERT_FALSE(entry.name.starts_with(".trash")) << entry.name;
        }
        ASSERT_FALSE(HasManifest(world, Id(1, 1)));
        ExpectPublishedAndReadable(world, newer);
      });
}

}  // namespace
}  // namespace holdfast::storage_tiers
