// Publishing and deleting: a manifest names only what is there and is this snapshot's.

#include "daemon/pipeline/publish.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/daemon/pipeline/pipeline_fixture.h"

namespace holdfast::daemon {
namespace {

namespace fs = std::filesystem;

class PublishStepTest : public PipelineTest {
 protected:
  // A higher incarnation has started meanwhile, on another node.
  void ClaimNumber(std::uint64_t number) {
    storage_tiers::PersistentTier tier(base_, Root(), storage_tiers::TierScope::kShared);
    proto::IncarnationFile record;
    record.set_format_version(1);
    record.set_job_uid(uid_);
    record.set_number(number);
    record.set_token(99);
    record.set_world_size(1);
    ASSERT_TRUE(tier.ClaimIncarnation("job", record).has_value());
  }

  DeleteDurable DeleteAction(const SnapshotKey& id) const {
    return DeleteDurable{"job", uid_, Root(), id, {1, 7}};
  }
};

TEST_F(PublishStepTest, AFlushedSnapshotIsPublishedAndMayBePublishedAgain) {
  ASSERT_TRUE(FlushIt(FlushAction()).has_value());
  EXPECT_TRUE(PublishIt(PublishAction()).has_value());
  EXPECT_TRUE(Published());
  EXPECT_TRUE(PublishIt(PublishAction()).has_value());
}

// I6.
TEST_F(PublishStepTest, ARankThatIsMissingIsNamedAndNothingIsPublished) {
  ASSERT_TRUE(FlushIt(FlushAction()).has_value());
  fs::remove(SnapshotFolder() + "/" + layout::SidecarFileName(0, 1));
  const Status status = PublishIt(PublishAction());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::kNotFound);
  EXPECT_FALSE(Published());
}

// I1, I8.
TEST_F(PublishStepTest, ASidecarOfAnotherSnapshotIsCorruption) {
  ASSERT_TRUE(FlushIt(FlushAction()).has_value());
  const SnapshotKey other{1, 6};
  fs::copy(SnapshotFolder(), SnapshotFolder(other), fs::copy_options::recursive);
  const Status status = PublishIt(PublishAction(other));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::kCorruption);
  EXPECT_NE(status.error().message.find("another shard's"), std::string::npos);
  EXPECT_FALSE(Published(other));
}

// I5.
TEST_F(PublishStepTest, ASidecarWithAFlippedByteIsCorruption) {
  ASSERT_TRUE(FlushIt(FlushAction()).has_value());
  const std::string path = SnapshotFolder() + "/" + layout::SidecarFileName(0, 1);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(100);
  file.put('\x7f');
  file.close();
  const Status status = PublishIt(PublishAction());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::kCorruption);
  EXPECT_FALSE(Published());
}

TEST_F(PublishStepTest, AFencedIncarnationPublishesAndDeletesNothing) {
  ASSERT_TRUE(FlushIt(FlushAction()).has_value());
  ClaimNumber(2);
  EXPECT_EQ(PublishIt(PublishAction()).error().code, Errc::kFenced);
  EXPECT_FALSE(Published());
  EXPECT_EQ(tests::RunCoroutine(io_, Delete(*context_, DeleteAction(kId))).error().code,
            Errc::kFenced);
  EXPECT_TRUE(fs::exists(ImagePath()));
}

// I12: an empty folder in the root's place does not make its files forgotten.
TEST_F(PublishStepTest, AnEmptyMountPointHasNeitherFilesThatAreGoneNorFilesThatWereDeleted) {
  ASSERT_TRUE(FlushIt(FlushAction()).has_value());
  fs::rename(Root(), Root() + ".away");
  fs::create_directory(Root());
  EXPECT_EQ(PublishIt(PublishAction()).error().code, Errc::kUnavailable);
  EXPECT_EQ(tests::RunCoroutine(io_, Delete(*context_, DeleteAction(kId))).error().code,
            Errc::kUnavailable);
  fs::remove(Root());
  fs::rename(Root() + ".away", Root());
  EXPECT_TRUE(PublishIt(PublishAction()).has_value());
}

TEST_F(PublishStepTest, AWorldThatCannotBeIsRefused) {
  PublishManifest nobody = PublishAction();
  nobody.world_size = 0;
  EXPECT_EQ(PublishIt(nobody).error().code, Errc::kInvalidArgument);
  PublishManifest everybody = PublishAction();
  everybody.world_size = layout::kMaxWorldSize + 1;
  EXPECT_EQ(PublishIt(everybody).error().code, Errc::kInvalidArgument);
  PublishManifest outside = PublishAction();
  outside.job_name = "../job";
  EXPECT_EQ(PublishIt(outside).error().code, Errc::kInvalidArgument);
}

// I3.
TEST_F(PublishStepTest, TheNewestDurableSnapshotIsNotDeletedAndAnUnpublishedOneIs) {
  ASSERT_TRUE(FlushIt(FlushAction()).has_value());
  ASSERT_TRUE(PublishIt(PublishAction()).has_value());
  EXPECT_EQ(tests::RunCoroutine(io_, Delete(*context_, DeleteAction(kId))).error().code,
            Errc::kUnavailable);
  EXPECT_TRUE(Published());
  const SnapshotKey older{1, 4};
  fs::copy(SnapshotFolder(), SnapshotFolder(older), fs::copy_options::recursive);
  fs::remove(SnapshotFolder(older) + "/manifest.json");
  const Status deleted = tests::RunCoroutine(io_, Delete(*context_, DeleteAction(older)));
  EXPECT_TRUE(deleted.has_value()) << deleted.error().ToString();
  EXPECT_FALSE(fs::exists(SnapshotFolder(older)));
}

}  // namespace
}  // namespace holdfast::daemon
