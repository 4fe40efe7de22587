// The power fails after every single step of a daemon's life: claim, seal, flush, publish, retire,
// and the next start's restore, with core, catalog and tier together, each on a disk that loses
// what was not synced.  What a new daemon finds is judged (I1, I3, I5, I6), and it goes on (L).
#include <filesystem>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "tests/daemon/power_cut_daemon.h"
#include "tests/storage_tiers/persistent_tier_fixture.h"
#include "tests/support/sanitized.h"
#include "tests/support/temp_folder.h"

namespace holdfast::daemon {
namespace {

enum class Disk { kTier, kCatalog };

// 0: nothing unsynced survives; 1: everything on the tier.
constexpr std::uint64_t kSeeds = 2;
constexpr std::uint64_t kEach = UnlessSanitized(1, 4);

class NodePowerCutTest : public ::testing::TestWithParam<Disk> {
 protected:
  struct Life {
    bool to_the_end = false;
    int static_images = 0;
    std::optional<SnapshotKey> durable;
  };

  // Two incarnations of a job, two steps each; ends when the power does.
  static Life Live(PowerCutDisks* disks) {
    Life life;
    PowerCutDaemon daemon(disks, &disks->tier_fs);
    bool on = daemon.Start();
    for (int incarnation = 0; on && incarnation < 2; ++incarnation) {
      on = daemon.StartJob();
      const std::int64_t base = daemon.restored().has_value() ? daemon.restored()->step : 0;
      for (std::int64_t step = base + 1; on && step <= base + 2; ++step) {
        on = daemon.Step(step);
      }
    }
    life.to_the_end = on;
    life.durable = daemon.durable();
    life.static_images = daemon.static_images_written();
    return life;
  }

  // I6, I5: every manifest names whole files with the right bytes.
  static void ExpectManifestsWhole(storage_tiers::PersistentTier* tier) {
    const auto listing = tier->ListSnapshots(storage_tiers::kJob);
    if (!listing.has_value()) {
      return;  // the job was not made yet
    }
    for (const storage_tiers::SnapshotEntry& entry : listing.value().snapshots) {
      EXPECT_FALSE(entry.problem.has_value()) << entry.problem->ToString();
      const auto manifest = tier->ReadManifest(storage_tiers::kJob, entry.id);
      for (std::uint32_t rank = 0; manifest.has_value() && rank < 2; ++rank) {
        const auto sidecar = tier->ReadSidecar(storage_tiers::kJob, entry.id, rank, 2);
        ASSERT_TRUE(sidecar.has_value()) << sidecar.error().ToString();
        for (const proto::ImageDigest& digest : sidecar.value().images()) {
          std::string image(digest.length_bytes(), '\0');
          std::vector<std::uint64_t> bad;
          const Status read = tier->ReadImage(
              sidecar.value(), digest.kind(), std::as_writable_bytes(std::span(image)), {}, &bad);
          EXPECT_TRUE(read.has_value()) << read.error().ToString();
        }
      }
    }
  }

  void Judge(PowerCutDisks* disks, const Life& before, std::uint64_t seed) {
    const std::string after = root_ + "/after";
    std::filesystem::create_directories(after);
    std::filesystem::permissions(after, std::filesystem::perms(0700));
    disks->catalog_fs->WriteDisk(disks->folder + "/db", after + "/db", seed == 1 ? 0 : seed);
    std::filesystem::permissions(after + "/db", std::filesystem::perms(0700));
    disks->tier_fs.Restore(seed);
    PowerCutDisks next(after);
    PowerCutDaemon daemon(&next, &disks->tier_fs);
    ExpectManifestsWhole(&daemon.tier());
    ASSERT_TRUE(daemon.Start());
    ASSERT_TRUE(daemon.StartJob());
    if (before.durable.has_value()) {
      // I3: what was called durable, or a newer one, comes back; Load has compared the bytes.
      ASSERT_TRUE(daemon.restored().has_value()) << daemon.restore_error();
      EXPECT_GE(*daemon.restored(), *before.durable);
    }
    EXPECT_EQ(daemon.restore_error(), "");
    const std::int64_t base = daemon.restored().has_value() ? daemon.restored()->step : 0;
    ASSERT_TRUE(daemon.Step(base + 1));
    EXPECT_TRUE(daemon.durable().has_value()) << "L: nothing becomes durable any more";
    ExpectManifestsWhole(&daemon.tier());
    std::filesystem::remove_all(after);
  }

  TempFolder temp_;  // thousands of databases: no real disk
  const std::string root_ = temp_.path();
};

TEST_P(NodePowerCutTest, WhatWasDurableComesBackAndTrainingGoesOn) {
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    bool done = false;
    for (std::uint64_t cut = 1; !done; cut += kEach) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", cut after step " + std::to_string(cut));
      const std::string folder = root_ + "/state";
      std::filesystem::create_directories(folder);
      std::filesystem::permissions(folder, std::filesystem::perms(0700));
      Life life;
      {
        PowerCutDisks disks(folder);
        if (GetParam() == Disk::kTier) {
          disks.tier_fs.CutAfter(cut);
        } else {
          disks.catalog_fs->CutAfter(cut);
        }
        life = Live(&disks);
        ASSERT_TRUE(life.to_the_end || disks.off());
        Judge(&disks, life, seed);
      }
      done = life.to_the_end;
      if (done && seed == 0) {
        // Both incarnations were played, and the last snapshot of each became durable.
        EXPECT_EQ(life.durable, (SnapshotKey{2, 4}));
        EXPECT_GT(cut, 30u);
        // All four snapshots of rank 1 share what the first of them brought.
        EXPECT_EQ(life.static_images, 1);
      }
      std::filesystem::remove_all(folder);
      if (HasFailure()) {
        return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Of,
                         NodePowerCutTest,
                         ::testing::Values(Disk::kTier, Disk::kCatalog),
                         [](const auto& disk) {
                           return disk.param == Disk::kTier ? "TheTier" : "TheCatalog";
                         });

}  // namespace
}  // namespace holdfast::daemon
