// Every call fails once, with every errno that a full, broken or read-only disk gives; writes end
// early; the file system hangs; daemons race.
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "storage_tiers/persistent_tier.h"
#include "storage_tiers/posix_file_system.h"
#include "tests/storage_tiers/persistent_tier_fixture.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/power_cut_file_system.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

using ::holdfast::testing::FaultFileSystem;
using ::holdfast::testing::FileSystemCall;
using ::holdfast::testing::PowerCutFileSystem;

struct World {
  World() {
    EXPECT_TRUE(base.CreateFolder("/root"));
    EXPECT_TRUE(base.SyncFolder("/"));
    EXPECT_TRUE(tier.EnsureJob(kJob, kUid));
  }

  PowerCutFileSystem base;
  FaultFileSystem fs{base};
  PersistentTier tier{fs, "/root", TierScope::kShared};
};

// Each call of "act" fails once, with each errno; then "act" is repeated and must succeed.  "check"
// looks at the state after both.
void FailEveryCall(const std::function<void(World&)>& prepare,
                   const std::function<Status(World&)>& act,
                   const std::function<void(World&, bool done)>& check) {
  for (const int error : {EIO, ENOSPC, EROFS}) {
    for (std::uint64_t call = 1;; ++call) {
      SCOPED_TRACE("errno " + std::to_string(error) + " at call " + std::to_string(call));
      World world;
      prepare(world);
      world.fs.Clear();
      world.fs.FailCall(call, error);
      const Status first = act(world);
      if (world.fs.calls() < call) {
        break;
      }
      world.fs.Clear();
      check(world, first.has_value());
      const Status again = act(world);
      ASSERT_TRUE(again || (first && again.error().code == Errc::kAlreadyExists) ||
                  again.error().code == Errc::kNotFound)
          << again.error().ToString();
      check(world, true);
      if (::testing::Test::HasFailure()) {
        return;
      }
    }
  }
}

TEST(PersistentTierFaultTest, AFailureAtAnyCallOfFlushAndPublishCanBeRepeated) {
  // I6; and what Ok was said for survives a power cut although a call had failed.
  const auto shards = MakeWorld(Id(1, 2));
  proto::Manifest manifest = MakeManifest(Id(1, 2), 2);
  FailEveryCall([&](World&) { manifest.clear_files(); },
                [&](World& world) -> Status {
                  // As a daemon and a coordinator do it: what is flushed is not flushed again.
                  for (std::size_t i = static_cast<std::size_t>(manifest.files_size());
                       i < shards.size();
                       ++i) {
                    HF_TRY(const auto files,
                           world.tier.FlushShard(shards[i].sidecar, shards[i].images(), {}));
                    AddFiles(manifest, files);
                  }
                  return world.tier.PublishManifest(manifest, 1);
                },
                [&](World& world, bool done) {
                  if (done) {
                    world.base.Restore(PowerCutFileSystem::kNothingUnsyncedSurvives);
                  }
                  const auto there = world.tier.ReadManifest(kJob, Id(1, 2));
                  if (!there) {
                    ASSERT_EQ(there.error().code, Errc::kNotFound);
                    ASSERT_FALSE(done);
                    return;
                  }
                  for (const Shard& shard : shards) {
                    const Status read = ReadBack(world.tier, shard);
                    ASSERT_TRUE(read) << read.error().ToString();
                  }
                });
}

TEST(PersistentTierFaultTest, AFailureAtAnyCallOfADeletionLosesNothingElse) {
  // I3
  const auto newer = MakeWorld(Id(1, 2));
  FailEveryCall(
      [&](World& world) {
        ASSERT_TRUE(FlushAndPublish(world.tier, MakeWorld(Id(1, 1)), 1));
        ASSERT_TRUE(FlushAndPublish(world.tier, newer, 1));
      },
      [](World& world) { return world.tier.Delete(kJob, Id(1, 1), 1); },
      [&](World& world, bool) {
        for (const Shard& shard : newer) {
          ASSERT_TRUE(ReadBack(world.tier, shard));
        }
        ASSERT_TRUE(world.tier.ReadManifest(kJob, Id(1, 2)));
      });
}

TEST(PersistentTierFaultTest, AFailureAtAnyCallOfAClaimCanBeRepeated) {
  FailEveryCall([](World&) {},
                [](World& world) { return world.tier.ClaimIncarnation(kJob, MakeRecord(1, 11)); },
                [](World& world, bool) {
                  const auto record = world.tier.ReadIncarnation(kJob, 1);
                  ASSERT_TRUE(record);
                  ASSERT_TRUE(!record.value() || record.value()->token() == 11u);
                });
}

TEST(PersistentTierFaultTest, ADiskThatFillsUpInTheMiddleLeavesNoPartOfAnImage) {
  World world;
  const Shard shard = MakeShard(Id(1, 1), 0, 1, {.tensor_bytes = 9 * kMiB});
  int writes = 0;
  world.fs.ShortenMatching(
      [&](const FileSystemCall& call) { return call.operation == "WriteAt" && ++writes == 2; },
      ENOSPC);

  const auto files = world.tier.FlushShard(shard.sidecar, shard.images(), {});

  EXPECT_EQ(files.error().code, Errc::kNoSpace);
  EXPECT_FALSE(Exists(world.base, "/root/" + kJob + "/step-00000001.i0001").value());
  EXPECT_TRUE(FlushAndPublish(world.tier, {shard}, 1));
}

TEST(PersistentTierFaultTest, AFileWhoseSyncFailedIsWrittenAgainFromTheStart) {
  // A second fsync of the same file may say Ok without having written: it must be another file.
  World world;
  const Shard shard = MakeShard(Id(1, 1), 0, 1);
  std::vector<std::string> synced;
  world.fs.FailMatching(
      [&](const FileSystemCall& call) {
        if (call.operation != "Sync" || call.path.find("safetensors") == std::string::npos) {
          return false;
        }
        synced.emplace_back(call.path);
        return synced.size() == 1;
      },
      EIO);

  EXPECT_EQ(world.tier.FlushShard(shard.sidecar, shard.images(), {}).error().code, Errc::kIoError);
  EXPECT_FALSE(Exists(world.base, synced[0]).value());
  ASSERT_TRUE(world.tier.FlushShard(shard.sidecar, shard.images(), {}));

  ASSERT_EQ(synced.size(), 2u);
  EXPECT_NE(synced[0], synced[1]);
}

TEST(PersistentTierFaultTest, ACancelledFlushOfAHungFileSystemLeavesNothingBehind) {
  // I12
  World world;
  const Shard shard = MakeShard(Id(1, 1), 0, 1, {.tensor_bytes = 9 * kMiB});
  world.fs.HangMatching([](const FileSystemCall& call) { return call.operation == "WriteAt"; });
  std::atomic<bool> cancel = false;
  ImageIoOptions options;
  options.cancel = &cancel;
  Errc code{};
  std::thread flusher(
      [&] { code = world.tier.FlushShard(shard.sidecar, shard.images(), options).error().code; });
  EXPECT_TRUE(world.fs.WaitUntilHanging(std::chrono::seconds(30)));

  cancel = true;
  world.fs.Release();
  flusher.join();

  EXPECT_EQ(code, Errc::kCancelled);
  EXPECT_FALSE(Exists(world.base, "/root/" + kJob + "/step-00000001.i0001").value());
}

TEST(PersistentTierFaultTest, LatestIsOnlyAHint) {
  World world;
  world.fs.FailMatching(
      [](const FileSystemCall& call) { return call.path.find("LATEST") != std::string::npos; },
      EIO);

  EXPECT_TRUE(FlushAndPublish(world.tier, MakeWorld(Id(1, 1)), 1));
}

TEST(PersistentTierFaultTest, AnImageLinkedWithoutItsSidecarIsUsedOnlyIfItIsGood) {
  // The power failed between the two links.
  const Shard shard = MakeShard(Id(1, 1), 0, 1);
  for (const bool damaged : {false, true}) {
    World world;
    const std::string folder = "/root/" + kJob + "/step-00000001.i0001/";
    ASSERT_TRUE(world.tier.FlushShard(shard.sidecar, shard.images(), {}));
    ASSERT_TRUE(world.base.Unlink(folder + "rank-00000.meta"));
    if (damaged) {
      ASSERT_TRUE(world.base.FlipBit(folder + "rank-00000.safetensors", 5000, 1));
    }
    world.fs.Clear();
    bool wrote = false;
    world.fs.FailMatching(
        [&](const FileSystemCall& call) {
          wrote |= call.operation == "WriteAt" &&
                   call.path.find("safetensors") != std::string_view::npos;
          return false;
        },
        0);

    ASSERT_TRUE(world.tier.FlushShard(shard.sidecar, shard.images(), {}));

    EXPECT_EQ(wrote, damaged);
    EXPECT_TRUE(ReadBack(world.tier, shard));
  }
}

TEST(PersistentTierFaultTest, ADamagedSidecarIsWrittenAgain) {
  const Shard shard = MakeShard(Id(1, 1), 0, 1);
  World world;
  ASSERT_TRUE(world.tier.FlushShard(shard.sidecar, shard.images(), {}));
  ASSERT_TRUE(world.base.FlipBit("/root/" + kJob + "/step-00000001.i0001/rank-00000.meta", 30, 2));

  EXPECT_TRUE(FlushAndPublish(world.tier, {shard}, 1));

  EXPECT_TRUE(ReadBack(world.tier, shard));
}

// --- Races, on real files ---

class PersistentTierRaceTest : public ::testing::Test {
 protected:
  // Runs act(i) in 8 threads, each with a tier of its own, as on 8 nodes.
  void Race(const std::function<void(PersistentTier&, int)>& act) {
    std::vector<std::thread> threads;
    threads.reserve(8);
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&, i] {
        PersistentTier tier(fs_, root_, TierScope::kShared);
        act(tier, i);
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }

  PosixFileSystem fs_;
  TempFolder temp_{TempFolder::Where::kTestTmpdir};
  const std::string root_ = temp_.path();
};

TEST_F(PersistentTierRaceTest, OfManyJobsOfOneNameOneIsMade) {
  std::atomic<int> made = 0;
  std::atomic<int> refused = 0;

  Race([&](PersistentTier& tier, int i) {
    const Status status = tier.EnsureJob(kJob, std::string(16, static_cast<char>('a' + i)));
    made += status ? 1 : 0;
    refused += !status && status.error().code == Errc::kAlreadyExists ? 1 : 0;
  });

  EXPECT_EQ(made, 1);
  EXPECT_EQ(refused, 7);
}

TEST_F(PersistentTierRaceTest, AnIncarnationHasOneHolder) {
  PersistentTier tier(fs_, root_, TierScope::kShared);
  ASSERT_TRUE(tier.EnsureJob(kJob, kUid));
  std::atomic<std::uint64_t> winner = 0;
  std::atomic<int> refused = 0;

  Race([&](PersistentTier& mine, int i) {
    const std::uint64_t token = static_cast<std::uint64_t>(i) + 1;
    const Status status = mine.ClaimIncarnation(kJob, MakeRecord(1, token));
    if (status) {
      winner = token;
    } else if (status.error().code == Errc::kAlreadyExists) {
      ++refused;
    }
  });

  EXPECT_EQ(refused, 7);
  EXPECT_EQ(tier.ReadIncarnation(kJob, 1).value()->token(), winner);
}

TEST_F(PersistentTierRaceTest, ManyDaemonsFlushTheSameShardAndAllPublish) {
  // A rank that moved: the old daemon is half dead and still writes.  I6: no file is written over.
  PersistentTier tier(fs_, root_, TierScope::kShared);
  ASSERT_TRUE(tier.EnsureJob(kJob, kUid));
  const std::vector<Shard> shards = MakeWorld(Id(1, 1));
  std::atomic<int> published = 0;

  Race([&](PersistentTier& mine, int) {
    for (int tries = 0; tries < 100; ++tries) {
      const Status status = FlushAndPublish(mine, shards, 1);
      if (status || status.error().code == Errc::kAlreadyExists) {
        ++published;
        return;
      }
    }
  });

  EXPECT_EQ(published, 8);
  for (const Shard& shard : shards) {
    EXPECT_TRUE(ReadBack(tier, shard));
  }
}

}  // namespace
}  // namespace holdfast::storage_tiers
