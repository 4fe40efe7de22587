#include "client/copy_host.h"

#include <atomic>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "common/failpoint.h"
#include "tests/client/few_threads.h"
#include "tests/client/random_state.h"

namespace holdfast::client {
namespace {

std::shared_ptr<CopyJob> MakeJob(const RandomState& state,
                                 std::shared_ptr<SlotMapping> slot,
                                 std::int64_t step,
                                 ByteCount small = 16 * kKiB) {
  auto job = std::make_shared<CopyJob>();
  job->step = step;
  job->plan = CopyPlan::Make(state.layout, state.specs, small).value();
  job->slot = std::move(slot);
  job->sources = MakeSources(*job->plan, state.pointers, state.strides).value();
  return job;
}

void RunJob(CopyEngine* engine, const std::shared_ptr<CopyJob>& job) {
  ASSERT_FALSE(engine->Start(job, [](const auto&) {}).has_error());
  engine->WaitFence({});
}

class CopyHostTest : public testing::Test {
 protected:
  void TearDown() override { ASSERT_FALSE(ArmFailpoints("").has_error()); }
};

TEST_F(CopyHostTest, BytesAndDigestsAreThoseOfAPlainReference) {
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    StateShape shape;
    shape.tensors = 1 + static_cast<int>(seed) * 2;
    const RandomState state = MakeRandomState(seed, shape);
    HostCopyEngine engine(1 + seed % 4);
    const auto job = MakeJob(state, MakeSlot(state.layout), 1, seed % 3 * 8 * kKiB);
    RunJob(&engine, job);
    ASSERT_EQ(job->outcome.kind, CopyOutcome::Kind::kCopied) << job->outcome.reason;
    const std::string image = state.ReferenceImage();
    ASSERT_EQ(BytesOf(*job->slot), image) << "seed " << seed;
    ASSERT_EQ(job->outcome.chunk_crc32c, ChunkDigests(AsBytes(image))) << "seed " << seed;
  }
}

TEST_F(CopyHostTest, ImageOfManyRangesIsCopiedByAllThreads) {
  const RandomState state = MakePlainState({{"a", 5'000'001}, {"b", 77}, {"c", 3'000'000}});
  HostCopyEngine engine(4);
  const auto job = MakeJob(state, MakeSlot(state.layout), 1);
  RunJob(&engine, job);
  const std::string image = state.ReferenceImage();
  EXPECT_EQ(BytesOf(*job->slot), image);
  EXPECT_EQ(job->outcome.chunk_crc32c, ChunkDigests(AsBytes(image)));
}

TEST_F(CopyHostTest, EmptyLayoutIsAHeaderAlone) {
  RandomState state = MakePlainState({});
  HostCopyEngine engine(2);
  const auto job = MakeJob(state, MakeSlot(state.layout), 1);
  RunJob(&engine, job);
  EXPECT_EQ(job->outcome.kind, CopyOutcome::Kind::kCopied);
  EXPECT_EQ(job->outcome.chunk_crc32c.size(), 1U);
}

TEST_F(CopyHostTest, DoneIsCalledOnceForEachJobAndAfterTheFence) {
  RandomState state = MakePlainState({{"a", 100'000}});
  HostCopyEngine engine(3);
  const auto slot = MakeSlot(state.layout);
  std::atomic<int> done{0};
  for (int step = 0; step < 200; ++step) {
    const auto job = MakeJob(state, slot, step);
    ASSERT_FALSE(engine.Start(job, [&](const auto&) { ++done; }).has_error());
    engine.WaitFence({});
    ASSERT_EQ(job->outcome.kind, CopyOutcome::Kind::kCopied);
  }
  engine.Stop();
  EXPECT_EQ(done.load(), 200);
}

TEST_F(CopyHostTest, SecondJobIsRefusedWhileOneIsUnderWay) {
  RandomState state = MakePlainState({{"a", 100'000}});
  HostCopyEngine engine(1);
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
  ASSERT_FALSE(
      engine.Start(MakeJob(state, MakeSlot(state.layout), 1), [](const auto&) {}).has_error());
  EXPECT_NE(engine.Busy(), "");
  EXPECT_EQ(
      engine.Start(MakeJob(state, MakeSlot(state.layout), 2), [](const auto&) {}).error().code,
      Errc::kUnavailable);
  ASSERT_FALSE(ArmFailpoints("").has_error());
  engine.WaitFence({});
}

TEST_F(CopyHostTest, StopWaitsForTheCopyUnderWay) {
  RandomState state = MakePlainState({{"a", 4'000'000}});
  auto engine = std::make_unique<HostCopyEngine>(2);
  const auto job = MakeJob(state, MakeSlot(state.layout), 1);
  ASSERT_FALSE(engine->Start(job, [](const auto&) {}).has_error());
  engine.reset();
  EXPECT_EQ(job->outcome.kind, CopyOutcome::Kind::kCopied);
  EXPECT_EQ(BytesOf(*job->slot), state.ReferenceImage());
}

TEST_F(CopyHostTest, FailedChunkFailsTheJobAndOpensTheFence) {
  RandomState state = MakePlainState({{"a", 4'000'000}});
  HostCopyEngine engine(2);
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=error:5@3").has_error());
  const auto job = MakeJob(state, MakeSlot(state.layout), 1);
  RunJob(&engine, job);
  EXPECT_EQ(job->outcome.kind, CopyOutcome::Kind::kFailed);
  EXPECT_NE(job->outcome.reason.find("client.copy.chunk"), std::string::npos);
}

TEST_F(CopyHostTest, EverySlotToPrepareIsAnsweredAlsoWhenTheEngineStops) {
  RandomState state = MakePlainState({{"a", 1'000'000}});
  HostCopyEngine engine(1);
  std::atomic<int> answered{0};
  for (int i = 0; i < 3; ++i) {
    ASSERT_FALSE(engine
                     .Prepare(MakeSlot(state.layout),
                              [&](const Status& status) {
                                answered +=
                                    !status.has_error() || status.error().code == Errc::kCancelled;
                              })
                     .has_error());
  }
  RunJob(&engine, MakeJob(state, MakeSlot(state.layout), 1));
  engine.Stop();
  EXPECT_EQ(answered.load(), 3);
}

// A full pids cgroup must not end the trainer.
TEST_F(CopyHostTest, WhereThreadsAreRefusedFewerCopyAndWithoutAnyNoLayoutIsAdopted) {
  const RandomState state = MakePlainState({{"a", 3'000'000}});
  HostCopyEngine two(4, FewThreads(2));
  const auto job = MakeJob(state, MakeSlot(state.layout), 1);
  ASSERT_FALSE(two.Adopt(job->plan).has_error());
  RunJob(&two, job);
  EXPECT_EQ(job->outcome.kind, CopyOutcome::Kind::kCopied);
  EXPECT_EQ(BytesOf(*job->slot), state.ReferenceImage());

  HostCopyEngine none(4, FewThreads(0));
  const Status adopted = none.Adopt(job->plan);
  ASSERT_TRUE(adopted.has_error());
  EXPECT_EQ(adopted.error().code, Errc::kIoError);
  EXPECT_EQ(adopted.error().message, "the copy engine: cannot start a thread: there are no more");
  const Status queued = none.Prepare(job->slot, [](const Status&) { ADD_FAILURE(); });
  ASSERT_TRUE(queued.has_error()) << "nobody would ever answer";
  EXPECT_EQ(none.Start(job, [](const auto&) { ADD_FAILURE(); }).error().code, Errc::kUnavailable);
  EXPECT_TRUE(none.WaitFence({}));
}

TEST_F(CopyHostTest, SourcesThatDoNotFitThePlanAreRefusedByName) {
  RandomState state = MakePlainState({{"a", 10}, {"b", 10}});
  const auto plan = CopyPlan::Make(state.layout, state.specs, 0).value();
  EXPECT_TRUE(MakeSources(*plan, std::vector<const void*>{state.pointers[0]}, {}).has_error());
  const auto missing = MakeSources(*plan, std::vector<const void*>{state.pointers[0], nullptr}, {});
  ASSERT_TRUE(missing.has_error());
  EXPECT_NE(missing.error().message.find("\"b\""), std::string::npos);
  const std::vector<TensorStrides> wrong = {TensorStrides{1, {1, 1}}};
  EXPECT_TRUE(MakeSources(*plan, state.pointers, wrong).has_error());
  const std::vector<TensorStrides> twice = {TensorStrides{1, {1}}, TensorStrides{1, {1}}};
  EXPECT_TRUE(MakeSources(*plan, state.pointers, twice).has_error());
  const std::vector<TensorStrides> outside = {TensorStrides{2, {1}}};
  EXPECT_TRUE(MakeSources(*plan, state.pointers, outside).has_error());
}

}  // namespace
}  // namespace holdfast::client
