// A flush: what reaches the root is what was sealed, or nothing.

#include "daemon/pipeline/flush.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "tests/daemon/pipeline/pipeline_fixture.h"

namespace holdfast::daemon {
namespace {

using FlushTest = PipelineTest;

TEST_F(FlushTest, AShardIsThereWithItsSidecarAndIsCounted) {
  ASSERT_TRUE(FlushIt(FlushAction()).has_value());
  EXPECT_EQ(std::filesystem::file_size(ImagePath()), sidecar_.images(0).length_bytes());
  EXPECT_TRUE(std::filesystem::exists(SnapshotFolder() + "/" + layout::SidecarFileName(0, 1)));
  EXPECT_EQ(TheTier()->counters().flushes, 1U);
  EXPECT_EQ(TheTier()->counters().flushed_bytes, sidecar_.images(0).length_bytes());
  EXPECT_FALSE(Published());
}

// I5.
TEST_F(FlushTest, AByteThatChangedAfterTheSealIsCorruptionAndNothingIsNamed) {
  slots_->Find(kSlot).value()->mutable_view()[kMiB + 5] ^= std::byte{1};
  const Status status = FlushIt(FlushAction());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::kCorruption);
  EXPECT_FALSE(std::filesystem::exists(ImagePath()));
  EXPECT_FALSE(std::filesystem::exists(SnapshotFolder() + "/" + layout::SidecarFileName(0, 1)));
  EXPECT_EQ(TheTier()->counters().flush_failures, 1U);
}

// I5, and the daemon lives: a client can only hurt its own job.
TEST_F(FlushTest, ASlotThatItsClientCutIsCorruption) {
  ASSERT_EQ(::ftruncate(slots_->Find(kSlot).value()->fd(), 0), 0);
  const Status status = FlushIt(FlushAction());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::kCorruption) << status.error().ToString();
  EXPECT_FALSE(std::filesystem::exists(ImagePath()));
}

// I3: the caller never believes a shard again of which kCorruption is said; one by one they would
// all be lost to a file of some bytes.
TEST_F(FlushTest, WhatIsDamagedOnTheTierIsNotSaidOfTheShard) {
  std::filesystem::create_directory(Root() + "/job");
  std::ofstream(Root() + "/job/job.json") << "{";
  for (const bool expected : {false, true}) {
    FlushShard action = FlushAction();
    action.expected = expected;
    const Status status = FlushIt(action);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, Errc::kIoError) << status.error().ToString();
    EXPECT_NE(status.error().message.find("job.json"), std::string::npos);
  }
  std::filesystem::remove(Root() + "/job/job.json");
  std::filesystem::create_directories(ImagePath());
  const Status status = FlushIt(FlushAction());
  ASSERT_FALSE(status.has_value());
  EXPECT_NE(status.error().code, Errc::kCorruption) << status.error().ToString();
}

TEST_F(FlushTest, ASidecarThatDoesNotFitItsSlotIsRefusedBeforeAnyByteIsRead) {
  FlushShard longer = FlushAction();
  longer.sidecar.mutable_images(0)->set_length_bytes(1ULL << 40);
  EXPECT_EQ(FlushIt(longer).error().code, Errc::kInternal);
  FlushShard none = FlushAction();
  none.sidecar.clear_images();
  EXPECT_EQ(FlushIt(none).error().code, Errc::kInternal);
  FlushShard unknown = FlushAction();
  unknown.sidecar.set_layout_hash(std::string(16, 'x'));
  EXPECT_EQ(FlushIt(unknown).error().code, Errc::kInternal);
  FlushShard gone = FlushAction();
  gone.slot = {9, 9};
  EXPECT_FALSE(FlushIt(gone).has_value());
  EXPECT_FALSE(std::filesystem::exists(Root() + "/job"));
}

TEST_F(FlushTest, ACancelledFlushBeginsNothing) {
  const auto cancelled = std::make_shared<std::atomic<bool>>(true);
  const Status status =
      tests::RunCoroutine(io_, Flush(*context_, FlushAction(), cancelled, &bad_image_));
  EXPECT_EQ(status.error().code, Errc::kCancelled);
  EXPECT_FALSE(std::filesystem::exists(Root() + "/job"));
}

// The core may ask again after a restart: the answer of the first time was lost.
TEST_F(FlushTest, AShardOfAPublishedSnapshotIsFlushedAlready) {
  ASSERT_TRUE(FlushIt(FlushAction()).has_value());
  ASSERT_TRUE(PublishIt(PublishAction()).has_value());
  EXPECT_TRUE(FlushIt(FlushAction()).has_value());
}

TEST_F(FlushTest, AFullDiskIsSaidAndTheNextTryFinishes) {
  (void)TheTier();
  faults_->FailMatching([](const auto& call) { return call.operation == "WriteAt"; }, ENOSPC);
  const Status full = FlushIt(FlushAction());
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().code, Errc::kNoSpace) << full.error().ToString();
  EXPECT_TRUE(TheTier()->sickness().has_value());
  faults_->Clear();
  EXPECT_TRUE(FlushIt(FlushAction()).has_value());
  EXPECT_FALSE(TheTier()->sickness().has_value());
}

// I6: two writers of one file at a time could link what only one of them has synced.
TEST_F(FlushTest, WhileATryHangsTheSameShardIsNotFlushedASecondTime) {
  (void)TheTier();
  faults_->HangMatching([](const auto&) { return true; });
  EXPECT_EQ(FlushIt(FlushAction()).error().code, Errc::kTimeout);
  const Status second = FlushIt(FlushAction());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Errc::kUnavailable) << second.error().ToString();
  faults_->Clear();
  faults_->Release();
}

}  // namespace
}  // namespace holdfast::daemon
