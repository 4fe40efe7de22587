// What a trainer is handed to load from a root: the file of exactly this shard, and no way to
// write.

#include "daemon/pipeline/open_shard.h"

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>

#include "tests/daemon/pipeline/pipeline_fixture.h"

namespace holdfast::daemon {
namespace {

namespace fs = std::filesystem;

class OpenShardTest : public PipelineTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(FlushIt(FlushAction()).has_value());
    ASSERT_TRUE(PublishIt(PublishAction()).has_value());
  }

  OpenShardFile Action() const {
    OpenShardFile action;
    action.job_name = "job";
    action.job_uid = uid_;
    action.root = Root();
    action.id = kId;
    action.ticket = 3;
    return action;
  }

  Result<OpenedShard> Open(const OpenShardFile& action) {
    return tests::RunCoroutine(io_, OpenShard(*context_, action));
  }

  Errc CodeOf(const OpenShardFile& action) {
    const auto opened = Open(action);
    EXPECT_FALSE(opened.has_value());
    return opened.has_value() ? Errc::kInternal : opened.error().code;
  }
};

TEST_F(OpenShardTest, TheDescriptorReadsTheImageAndCannotWrite) {
  const auto opened = Open(Action());
  ASSERT_TRUE(opened.has_value()) << opened.error().ToString();
  const SharedSlot slot = slots_->Find(kSlot).value();
  std::string bytes(sidecar_.images(0).length_bytes(), '\0');
  const int fd = opened.value().files.at(proto::DYNAMIC)->Get();
  ASSERT_EQ(::pread(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(std::memcmp(bytes.data(), slot->view().data(), bytes.size()), 0);
  EXPECT_EQ(::pwrite(fd, "x", 1, 0), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_TRUE(opened.value().sidecar.has_layout());
}

// I11: a source that cannot be right fails the attempt before any rank loads.
TEST_F(OpenShardTest, AnImageOfAnotherLengthIsCorruption) {
  fs::resize_file(ImagePath(), sidecar_.images(0).length_bytes() - 1);
  EXPECT_EQ(CodeOf(Action()), Errc::kCorruption);
}

TEST_F(OpenShardTest, ALinkOrAFifoInPlaceOfTheImageIsRefusedWithoutWaiting) {
  const std::string aside = folder_ + "/aside";
  fs::rename(ImagePath(), aside);
  fs::create_symlink(aside, ImagePath());
  EXPECT_FALSE(Open(Action()).has_value());
  fs::remove(ImagePath());
  ASSERT_EQ(::mkfifo(ImagePath().c_str(), 0600), 0);
  EXPECT_EQ(CodeOf(Action()), Errc::kCorruption);
}

TEST_F(OpenShardTest, WhatIsNotThereIsNotFound) {
  OpenShardFile other_step = Action();
  other_step.id.step = 6;
  EXPECT_EQ(CodeOf(other_step), Errc::kNotFound);
  OpenShardFile other_rank = Action();
  other_rank.rank = 1;
  EXPECT_EQ(CodeOf(other_rank), Errc::kNotFound);
  fs::remove(ImagePath());
  EXPECT_EQ(CodeOf(Action()), Errc::kNotFound);
}

TEST_F(OpenShardTest, AJobNameThatLeadsOutOfTheRootIsRefused) {
  OpenShardFile outside = Action();
  outside.job_name = "..";
  EXPECT_EQ(CodeOf(outside), Errc::kInvalidArgument);
}

// I12.
TEST_F(OpenShardTest, AClosedTicketGivesItsDescriptorBack) {
  ShardFiles files;
  files.Keep(3, Open(Action()).value().files);
  const int fd = files.Find(3)->Get();
  EXPECT_EQ(files.Find(4), nullptr);
  files.Close(4);
  files.Close(3);
  EXPECT_EQ(files.Find(3), nullptr);
  EXPECT_EQ(files.size(), 0U);
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
}

}  // namespace
}  // namespace holdfast::daemon
