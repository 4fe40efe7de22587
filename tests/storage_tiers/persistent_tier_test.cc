#include "storage_tiers/persistent_tier.h"

#include <cstdlib>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage_tiers/posix_file_system.h"
#include "tests/storage_tiers/persistent_tier_fixture.h"
#include "tests/support/power_cut_file_system.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

using ::holdfast::testing::PowerCutFileSystem;

class PersistentTierTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(fs_.CreateFolder("/root"));
    ASSERT_TRUE(tier_.EnsureJob(kJob, kUid));
  }

  std::string Read(const std::string& path) {
    const auto text = ReadSmallFile(fs_, path, kMiB);
    return text ? text.value() : text.error().ToString();
  }

  void Replace(const std::string& path, std::string_view text) {
    ASSERT_TRUE(UnlinkIfPresent(fs_, path));
    auto file = fs_.OpenForWrite(path);
    ASSERT_TRUE(file);
    ASSERT_TRUE(file.value()->WriteAt(0, AsBytes(text)));
  }

  proto::Manifest Flush(const std::vector<Shard>& shards) {
    proto::Manifest manifest =
        MakeManifest(shards.front().sidecar.id(), static_cast<std::uint32_t>(shards.size()));
    for (const Shard& shard : shards) {
      const auto files = tier_.FlushShard(shard.sidecar, shard.images(), {});
      EXPECT_TRUE(files) << files.error().ToString();
      if (files) {
        AddFiles(manifest, files.value());
      }
    }
    return manifest;
  }

  PowerCutFileSystem fs_;
  PersistentTier tier_{fs_, "/root", TierScope::kShared};
};

// --- Jobs and incarnations ---

TEST_F(PersistentTierTest, AJobIsMadeOnceAndFoundAgain) {
  EXPECT_TRUE(tier_.EnsureJob(kJob, kUid));
  EXPECT_EQ(tier_.ReadJob(kJob).value()->job_uid(), kUid);
  EXPECT_FALSE(tier_.ReadJob("other").value().has_value());
  EXPECT_EQ(tier_.ListJobs().value().names, std::vector<std::string>{kJob});
}

TEST_F(PersistentTierTest, AnotherJobOfTheNameIsRefusedWithBothUids) {
  const Status made = tier_.EnsureJob(kJob, std::string(16, 'v'));

  EXPECT_EQ(made.error().code, Errc::kAlreadyExists);
  EXPECT_NE(made.error().message.find(std::string("7575757575757575")), std::string::npos);
  EXPECT_NE(made.error().message.find(std::string("7676767676767676")), std::string::npos);
}

TEST_F(PersistentTierTest, AMissingRootIsNotCreated) {
  // An unmounted file system must not become a folder on the local disk.
  PersistentTier tier(fs_, "/not-mounted", TierScope::kShared);

  const Status made = tier.EnsureJob(kJob, kUid);

  EXPECT_EQ(made.error().code, Errc::kUnavailable);
  EXPECT_NE(made.error().message.find("mounted"), std::string::npos);
  EXPECT_EQ(tier.ReadJob(kJob).error().code, Errc::kUnavailable);
  EXPECT_FALSE(Exists(fs_, "/not-mounted").value());
}

TEST_F(PersistentTierTest, HostileJobNamesDoNotReachTheFileSystem) {
  for (const std::string name : {"..", "a/b", "", "a\nb"}) {
    EXPECT_FALSE(tier_.EnsureJob(name, kUid)) << name;
    EXPECT_FALSE(tier_.ReadJob(name)) << name;
    EXPECT_FALSE(tier_.HighestIncarnation(name)) << name;
    EXPECT_FALSE(tier_.ReadManifest(name, Id(1, 1))) << name;
  }
}

TEST_F(PersistentTierTest, AnIncarnationIsTakenOnce) {
  EXPECT_EQ(tier_.HighestIncarnation(kJob).value(), 0u);
  ASSERT_TRUE(tier_.ClaimIncarnation(kJob, MakeRecord(1, 11)));

  EXPECT_TRUE(tier_.ClaimIncarnation(kJob, MakeRecord(1, 11))) << "a repeated call is no rival";
  EXPECT_EQ(tier_.ClaimIncarnation(kJob, MakeRecord(1, 12)).error().code, Errc::kAlreadyExists);
  ASSERT_TRUE(tier_.ClaimIncarnation(kJob, MakeRecord(10, 13)));
  EXPECT_EQ(tier_.ClaimIncarnation(kJob, MakeRecord(9, 14)).error().code, Errc::kAlreadyExists);
  EXPECT_EQ(tier_.HighestIncarnation(kJob).value(), 10u);
  EXPECT_EQ(tier_.ReadIncarnation(kJob, 1).value()->token(), 11u);
  EXPECT_FALSE(tier_.ReadIncarnation(kJob, 2).value().has_value());
}

TEST_F(PersistentTierTest, OnlyTheHolderOfTheTokenUpdatesTheNewestRecord) {
  ASSERT_TRUE(tier_.ClaimIncarnation(kJob, MakeRecord(1, 11)));
  ASSERT_TRUE(tier_.UpdateIncarnation(kJob, CommittedRecord(1, 11)));
  EXPECT_TRUE(tier_.ReadIncarnation(kJob, 1).value()->decision().committed());

  EXPECT_EQ(tier_.UpdateIncarnation(kJob, MakeRecord(1, 12)).error().code, Errc::kFenced);
  EXPECT_EQ(tier_.UpdateIncarnation(kJob, MakeRecord(2, 11)).error().code, Errc::kNotFound);
  ASSERT_TRUE(tier_.ClaimIncarnation(kJob, MakeRecord(2, 21)));
  EXPECT_EQ(tier_.UpdateIncarnation(kJob, MakeRecord(1, 11)).error().code, Errc::kFenced);
  EXPECT_TRUE(tier_.ReadIncarnation(kJob, 1).value()->decision().committed());
}

TEST_F(PersistentTierTest, StrangeNamesAmongTheRecordsAreIgnored) {
  const std::string incarnations = "/root/" + kJob + "/incarnations";
  for (const std::string name : {"007.json",
                                 "0.json",
                                 "-1.json",
                                 "99999999999999999999.json",
                                 "5.json.bak",
                                 ".tmp-9.json-00",
                                 "x.json",
                                 ".json"}) {
    Replace(JoinPath(incarnations, name), "{}");
  }

  EXPECT_EQ(tier_.HighestIncarnation(kJob).value(), 0u);
}

TEST_F(PersistentTierTest, ADamagedRecordOrJobFileIsCorruption) {
  Replace("/root/" + kJob + "/incarnations/3.json", "{]");
  EXPECT_EQ(tier_.ReadIncarnation(kJob, 3).error().code, Errc::kCorruption);
  Replace("/root/" + kJob + "/job.json", "{}");
  EXPECT_EQ(tier_.ReadJob(kJob).error().code, Errc::kCorruption);
  EXPECT_EQ(tier_.EnsureJob(kJob, kUid).error().code, Errc::kCorruption);
}

// --- Flush, publish, read ---

TEST_F(PersistentTierTest, APublishedSnapshotIsListedAndReadBack) {
  const auto shards = MakeWorld(Id(1, 1200), 3);

  ASSERT_TRUE(FlushAndPublish(tier_, shards, 1));

  for (const Shard& shard : shards) {
    EXPECT_TRUE(ReadBack(tier_, shard));
  }
  const auto listing = tier_.ListSnapshots(kJob);
  ASSERT_TRUE(listing);
  ASSERT_EQ(listing.value().snapshots.size(), 1u);
  EXPECT_TRUE(listing.value().snapshots[0].published);
  EXPECT_EQ(listing.value().snapshots[0].bytes, 3 * shards[0].dynamic_image.size());
  EXPECT_TRUE(listing.value().unknown_names.empty());
  EXPECT_EQ(Read("/root/" + kJob + "/LATEST"), "step-00001200.i0001\n");
}

TEST_F(PersistentTierTest, RealFilesOfALargeWorldAreReadBack) {
  const TempFolder temp(TempFolder::Where::kTestTmpdir);
  const std::string& root = temp.path();
  PosixFileSystem posix;
  PersistentTier tier(posix, root, TierScope::kNode);
  ASSERT_TRUE(tier.EnsureJob(kJob, kUid));
  // Of 300 ranks these two, in two subfolders; large enough for several blocks.
  for (const std::uint32_t rank : {3u, 299u}) {
    const Shard shard = MakeShard(Id(1, 7), rank, 300, {.tensor_bytes = 9 * kMiB + 5});
    const auto files = tier.FlushShard(shard.sidecar, shard.images(), {});
    ASSERT_TRUE(files) << files.error().ToString();
    EXPECT_TRUE(ReadBack(tier, shard));
    EXPECT_TRUE(Exists(posix, JoinPath(JoinPath(root, kJob), files.value()[0].path())).value());
  }
}

TEST_F(PersistentTierTest, NothingChangesOnceASnapshotIsPublished) {
  // I6
  const auto shards = MakeWorld(Id(1, 1));
  ASSERT_TRUE(FlushAndPublish(tier_, shards, 1));
  Shard other = MakeShard(Id(1, 1), 0, 2, {.fill = 'z'});

  EXPECT_EQ(tier_.FlushShard(other.sidecar, other.images(), {}).error().code, Errc::kAlreadyExists);

  EXPECT_TRUE(ReadBack(tier_, shards[0]));
}

TEST_F(PersistentTierTest, AShardFlushedTwiceIsWrittenOnce) {
  const auto shards = MakeWorld(Id(1, 1));
  const proto::Manifest first = Flush(shards);
  const std::uint64_t before = fs_.steps();
  const proto::Manifest second = Flush({shards[0]});

  EXPECT_LT(fs_.steps() - before, 12u) << "the image was written again";
  EXPECT_EQ(first.files(0).SerializeAsString(), second.files(0).SerializeAsString());
}

TEST_F(PersistentTierTest, ASourceWithAWrongDigestIsNeitherWrittenNorPublished) {
  // I5
  Shard shard = MakeShard(Id(1, 1), 0, 1);
  shard.dynamic_image[4500] = static_cast<char>(shard.dynamic_image[4500] ^ 4);

  const auto files = tier_.FlushShard(shard.sidecar, shard.images(), {});

  EXPECT_EQ(files.error().code, Errc::kCorruption);
  EXPECT_FALSE(Exists(fs_, "/root/" + kJob + "/step-00000001.i0001").value());
}

TEST_F(PersistentTierTest, ImagesMustBeThoseOfTheSidecar) {
  const Shard shard = MakeShard(Id(1, 1), 0, 1, {.with_static = true});
  const std::vector<ShardImage> only_static = {{proto::STATIC, AsBytes(shard.static_image)}};
  std::vector<ShardImage> shorter = shard.images();
  shorter[0].bytes = shorter[0].bytes.first(100);
  std::vector<ShardImage> doubled = shard.images();
  doubled.push_back(doubled[0]);

  for (const auto& images : {only_static, shorter, doubled, std::vector<ShardImage>{}}) {
    EXPECT_EQ(tier_.FlushShard(shard.sidecar, images, {}).error().code, Errc::kInvalidArgument);
  }
}

TEST_F(PersistentTierTest, ShardsOfAnotherJobAreRefused) {
  // I8
  Shard shard = MakeShard(Id(1, 1), 0, 1);
  shard.sidecar.mutable_id()->set_job_uid(std::string(16, 'v'));

  EXPECT_EQ(tier_.FlushShard(shard.sidecar, shard.images(), {}).error().code, Errc::kAlreadyExists);
  shard.sidecar.set_job_name("unknown");
  EXPECT_EQ(tier_.FlushShard(shard.sidecar, shard.images(), {}).error().code, Errc::kNotFound);
}

TEST_F(PersistentTierTest, AnOlderCoordinatorPublishesNothing) {
  // I8: coordinator_of_old_incarnation_wakes_up
  const proto::Manifest manifest = Flush(MakeWorld(Id(1, 1)));
  ASSERT_TRUE(tier_.ClaimIncarnation(kJob, MakeRecord(2, 21)));

  EXPECT_EQ(tier_.PublishManifest(manifest, 1).error().code, Errc::kFenced);

  EXPECT_FALSE(tier_.ListSnapshots(kJob).value().snapshots[0].published);
  EXPECT_TRUE(tier_.PublishManifest(manifest, 2)) << "the newer one adopts and finishes it";
  EXPECT_EQ(tier_.PublishManifest(Flush(MakeWorld(Id(3, 1))), 2).error().code, Errc::kFenced);
}

TEST_F(PersistentTierTest, PublishingTheSameAgainIsSuccessAndAnotherIsNot) {
  proto::Manifest manifest = Flush(MakeWorld(Id(1, 1)));
  ASSERT_TRUE(tier_.PublishManifest(manifest, 1));

  EXPECT_TRUE(tier_.PublishManifest(manifest, 1));
  manifest.set_created_unix_ms(99);
  EXPECT_TRUE(tier_.PublishManifest(manifest, 1)) << "its time of making does not matter";
  *manifest.mutable_parent() = Id(1, 0);
  EXPECT_TRUE(tier_.PublishManifest(manifest, 1)) << "nor what the new coordinator knows of it";
  EXPECT_EQ(tier_.ReadManifest(kJob, Id(1, 1)).value().created_unix_ms(), 1u);

  proto::Manifest another = manifest;
  another.mutable_files(0)->set_sidecar_crc32c(~manifest.files(0).sidecar_crc32c());
  Replace("/root/" + kJob + "/step-00000001.i0001/manifest.json",
          layout::EncodeManifest(another).value());
  EXPECT_EQ(tier_.PublishManifest(manifest, 1).error().code, Errc::kAlreadyExists);
}

// I8: two starts took one number, since one of them did not see the tier; when it comes back there
// is one history on it, that of the start whose record it has.
TEST_F(PersistentTierTest, ATwinStartPublishesAndDeletesNothing) {
  ASSERT_TRUE(tier_.EnsureJob(kJob, kUid));
  ASSERT_TRUE(tier_.ClaimIncarnation(kJob, MakeRecord(1, 21)));
  const proto::Manifest manifest = Flush(MakeWorld(Id(1, 1)));
  EXPECT_EQ(tier_.CheckEpoch(kJob, 1, 22).error().code, Errc::kAlreadyExists);
  EXPECT_EQ(tier_.PublishManifest(manifest, 1, 22).error().code, Errc::kAlreadyExists);
  EXPECT_EQ(tier_.Delete(kJob, Id(1, 1), 1, 22).error().code, Errc::kAlreadyExists);
  EXPECT_TRUE(tier_.CheckEpoch(kJob, 1, 21));
  EXPECT_TRUE(tier_.PublishManifest(manifest, 1, 21));
  EXPECT_TRUE(tier_.CheckEpoch(kJob, 2, 22)) << "it was not claimed here: the tier was away";

  const std::string records = "/root/" + kJob + "/incarnations";
  Replace(records + "/" + fs_.List(records).value().front().name, "{");
  EXPECT_TRUE(tier_.CheckEpoch(kJob, 1, 22)) << "damaged, it says nothing of anybody";
}

TEST_F(PersistentTierTest, AManifestIsPublishedOnlyIfEveryFileIsAsItSays) {
  // I6: each of these must be found before the link.
  const std::string folder = "/root/" + kJob + "/step-00000001.i0001/";
  const auto shards = MakeWorld(Id(1, 1));
  const proto::Manifest manifest = Flush(shards);
  const std::string image = Read(folder + "rank-00001.safetensors");
  const std::string meta = Read(folder + "rank-00001.meta");

  ASSERT_TRUE(fs_.Unlink(folder + "rank-00001.safetensors"));
  EXPECT_EQ(tier_.PublishManifest(manifest, 1).error().code, Errc::kNotFound);
  Replace(folder + "rank-00001.safetensors", image.substr(1));
  EXPECT_EQ(tier_.PublishManifest(manifest, 1).error().code, Errc::kCorruption);
  Replace(folder + "rank-00001.safetensors", image);
  ASSERT_TRUE(fs_.Unlink(folder + "rank-00001.meta"));
  EXPECT_EQ(tier_.PublishManifest(manifest, 1).error().code, Errc::kNotFound);
  Replace(folder + "rank-00001.meta", Read(folder + "rank-00000.meta"));
  EXPECT_EQ(tier_.PublishManifest(manifest, 1).error().code, Errc::kCorruption);
  Replace(folder + "rank-00001.meta", meta.substr(0, meta.size() - 1));
  EXPECT_EQ(tier_.PublishManifest(manifest, 1).error().code, Errc::kCorruption);

  EXPECT_FALSE(Exists(fs_, folder + "manifest.json").value());
  Replace(folder + "rank-00001.meta", meta);
  EXPECT_TRUE(tier_.PublishManifest(manifest, 1));
}

TEST_F(PersistentTierTest, ASidecarOfAnotherRankIsNotAcceptedUnderAMatchingChecksum) {
  // I8: the manifest's own checksum agrees, the meaning does not.
  proto::Manifest manifest = Flush(MakeWorld(Id(1, 1)));
  const std::string folder = "/root/" + kJob + "/step-00000001.i0001/";
  const std::string other = Read(folder + "rank-00000.meta");
  Replace(folder + "rank-00001.meta", other);
  manifest.mutable_files(1)->set_sidecar_crc32c(Crc32c(0, AsBytes(other)));

  EXPECT_EQ(tier_.PublishManifest(manifest, 1).error().code, Errc::kCorruption);
}

TEST_F(PersistentTierTest, LatestNeverGoesBack) {
  ASSERT_TRUE(FlushAndPublish(tier_, MakeWorld(Id(2, 5)), 2));
  ASSERT_TRUE(FlushAndPublish(tier_, MakeWorld(Id(1, 9)), 2));

  EXPECT_EQ(Read("/root/" + kJob + "/LATEST"), "step-00000005.i0002\n");
}

TEST_F(PersistentTierTest, AFlippedBitIsFoundWhereverItIs) {
  // I5
  const auto shards = MakeWorld(Id(1, 1));
  ASSERT_TRUE(FlushAndPublish(tier_, shards, 1));
  const std::string folder = "/root/" + kJob + "/step-00000001.i0001/";

  ASSERT_TRUE(fs_.FlipBit(folder + "rank-00000.safetensors", 4100, 3));
  EXPECT_EQ(ReadBack(tier_, shards[0]).error().code, Errc::kCorruption);
  ASSERT_TRUE(fs_.FlipBit(folder + "rank-00001.meta", 40, 3));
  EXPECT_EQ(ReadBack(tier_, shards[1]).error().code, Errc::kCorruption);
  ASSERT_TRUE(fs_.FlipBit(folder + "manifest.json", 0, 0));
  EXPECT_EQ(tier_.ReadManifest(kJob, Id(1, 1)).error().code, Errc::kCorruption);
  const auto listing = tier_.ListSnapshots(kJob);
  ASSERT_TRUE(listing);
  EXPECT_FALSE(listing.value().snapshots[0].published);
  EXPECT_EQ(listing.value().snapshots[0].problem->code, Errc::kCorruption);
}

TEST_F(PersistentTierTest, HostileAndHalfFoldersAreListedAndDoNotStopTheListing) {
  ASSERT_TRUE(FlushAndPublish(tier_, MakeWorld(Id(1, 1)), 1));
  Flush({MakeShard(Id(1, 2), 0, 2)});
  const std::string folder = "/root/" + kJob + "/";
  ASSERT_TRUE(fs_.CreateFolder(folder + "step-00000003.i0001"));
  Replace(folder + "step-00000003.i0001/manifest.json",
          Read(folder + "step-00000001.i0001/manifest.json"));
  ASSERT_TRUE(fs_.CreateFolder(folder + "step-4.i1"));
  ASSERT_TRUE(fs_.CreateFolder(folder + "step-00000005.i0001"));
  Replace(folder + "step-00000006.i0001", "a file in a folder's place");

  const auto listing = tier_.ListSnapshots(kJob);

  ASSERT_TRUE(listing);
  ASSERT_EQ(listing.value().snapshots.size(), 4u);
  EXPECT_TRUE(listing.value().snapshots[0].published);
  EXPECT_FALSE(listing.value().snapshots[1].published);
  EXPECT_FALSE(listing.value().snapshots[1].problem);
  EXPECT_GT(listing.value().snapshots[1].bytes, 4096u);
  EXPECT_EQ(listing.value().snapshots[2].problem->code, Errc::kCorruption) << "a copied folder";
  EXPECT_FALSE(listing.value().snapshots[3].published);
  EXPECT_EQ(listing.value().unknown_names,
            (std::vector<std::string>{"step-00000006.i0001", "step-4.i1"}));
}

TEST_F(PersistentTierTest, AStaticImageIsSharedAndFoundThroughTheManifest) {
  const Shard owner = MakeShard(Id(1, 1), 0, 1, {.with_static = true});
  ASSERT_TRUE(FlushAndPublish(tier_, {owner}, 1));
  Shard user = MakeShard(Id(1, 2), 0, 1, {.fill = 'b', .with_static = true});
  BorrowStatic(user, Id(1, 1));

  ASSERT_TRUE(FlushAndPublish(tier_, {user}, 1));

  EXPECT_TRUE(ReadBack(tier_, user));
  EXPECT_EQ(tier_.ListSnapshots(kJob).value().snapshots[1].bytes, user.dynamic_image.size());
}

TEST_F(PersistentTierTest, AStaticImageWhoseOwnerHasOtherBytesIsNotPublished) {
  const Shard owner = MakeShard(Id(1, 1), 0, 1, {.with_static = true});
  ASSERT_TRUE(FlushAndPublish(tier_, {owner}, 1));
  Shard user = MakeShard(Id(1, 2), 0, 1, {.fill = 'b', .with_static = true});
  BorrowStatic(user, Id(1, 1));
  user.sidecar.mutable_images(1)->set_chunk_crc32c(0, 1);
  EXPECT_EQ(FlushAndPublish(tier_, {user}, 1).error().code, Errc::kCorruption);

  Shard orphan = MakeShard(Id(1, 3), 0, 1, {.fill = 'c', .with_static = true});
  BorrowStatic(orphan, Id(1, 2));
  EXPECT_EQ(FlushAndPublish(tier_, {orphan}, 1).error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace holdfast::storage_tiers
