// Export of a shard with frozen tensors, whose second image is bad in memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage_tiers/persistent_tier.h"
#include "tests/cli/cli_fixture.h"
#include "tests/storage_tiers/persistent_tier_fixture.h"
#include "tests/support/whole_file.h"

namespace holdfast::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// One rank of step 1200, in memory and, where "durable_" says it, on a root; only memory is bad.
class ExportStaticTest : public CliTest {
 protected:
  ExportStaticTest()
      : good_(storage_tiers::MakeShard(storage_tiers::Id(7, 1200), 0, 1, {.with_static = true})),
        memory_(good_),
        root_(MakeFolder("root")) {
    memory_.static_image.back() = static_cast<char>(memory_.static_image.back() ^ 1);
    storage_tiers::PersistentTier tier(posix_, root_, storage_tiers::TierScope::kShared);
    EXPECT_TRUE(tier.EnsureJob(storage_tiers::kJob, storage_tiers::kUid));
    EXPECT_TRUE(tier.ClaimIncarnation(storage_tiers::kJob, storage_tiers::MakeRecord(7, 99)));
    const Status published = storage_tiers::FlushAndPublish(tier, {good_}, 7);
    EXPECT_TRUE(published) << published.error().ToString();
    daemon_ = [this](const proto::ClientMessage& request) { return Serve(request); };
  }

  Result<AdminReply> Serve(const proto::ClientMessage& request) {
    AdminReply reply;
    if (request.has_list()) {
      *reply.message.mutable_list()->add_snapshots() = Listed();
      return reply;
    }
    if (!request.has_open_shard()) {
      return Error(Errc::kInternal, "not asked for");
    }
    *reply.message.mutable_open_shard()->mutable_sidecar() = memory_.sidecar;
    const bool is_static = request.open_shard().image() == proto::STATIC;
    const std::string& image = is_static ? memory_.static_image : memory_.dynamic_image;
    reply.descriptor = storage_tiers::Descriptor(::memfd_create("slot", MFD_CLOEXEC));
    EXPECT_EQ(::pwrite(reply.descriptor.get(), image.data(), image.size(), 0),
              static_cast<ssize_t>(image.size()));
    return reply;
  }

  [[nodiscard]] proto::SnapshotInfo Listed() const {
    proto::SnapshotInfo snapshot;
    *snapshot.mutable_id() = memory_.sidecar.id();
    snapshot.set_job_name(storage_tiers::kJob);
    snapshot.set_world_size(1);
    snapshot.set_state("complete");
    if (durable_) {
      snapshot.add_durable_on(root_);
    }
    proto::ShardInfo* shard = snapshot.add_shards();
    shard->set_state("sealed");
    shard->set_image_bytes(memory_.dynamic_image.size());
    shard->set_static_image_bytes(memory_.static_image.size());
    return snapshot;
  }

  RunResult Export() { return Run({"export", storage_tiers::kJob, "1200", "--to", to_}); }

  const storage_tiers::Shard good_;
  storage_tiers::Shard memory_;
  const std::string root_;
  const std::string to_ = base_ + "/out";
  bool durable_ = true;
};

TEST_F(ExportStaticTest, AShardWhoseSecondImageIsBadIsTakenWholeFromTheOtherCopy) {  // I5
  const RunResult exported = Export();
  ASSERT_EQ(exported.exit, 0) << exported.err;
  EXPECT_THAT(exported.err, HasSubstr("does not match its digest"));
  EXPECT_THAT(
      Names(to_),
      ElementsAre(
          "rank-00000.safetensors", "rank-00000.state.json", "rank-00000.static.safetensors"));
  EXPECT_TRUE(WholeFile(to_ + "/rank-00000.safetensors") == good_.dynamic_image);
  EXPECT_TRUE(WholeFile(to_ + "/rank-00000.static.safetensors") == good_.static_image);
}

TEST_F(ExportStaticTest, WithoutAnotherCopyItLeavesNoFile) {  // I5
  durable_ = false;
  EXPECT_EQ(Export().exit, 3);
  EXPECT_THAT(Names(to_), IsEmpty());
}

}  // namespace
}  // namespace holdfast::cli
