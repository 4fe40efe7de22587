// Frozen tensors in the copy engine: filled once, compared in full, sampled at every snapshot (I7).
#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "client/copy_host.h"
#include "common/crc32c.h"
#include "common/failpoint.h"
#include "layout/layout_hash.h"
#include "tests/client/random_state.h"

namespace holdfast::client {
namespace {

using Work = FrozenPart::Work;

constexpr std::uint64_t kElements = 1'500'000;  // six chunks

class CopyFrozenTest : public testing::Test {
 protected:
  CopyFrozenTest() {
    for (std::size_t i = 1; i < state_.specs.size(); ++i) {
      state_.specs[i].tensor_class = proto::CONSTANT;
      state_.specs[i].image = proto::STATIC;
    }
    state_.layout = layout::PlanImage(state_.specs).value();
    state_.hash = layout::LayoutHash(state_.layout);
    plan_ = CopyPlan::Make(state_.layout, state_.specs, 16 * kKiB).value();
    frozen_ = MakeSlot(state_.layout, proto::STATIC);
  }

  void TearDown() override { ASSERT_FALSE(ArmFailpoints("").has_error()); }

  std::shared_ptr<CopyJob> Run(Work work, std::int64_t step) {
    auto job = std::make_shared<CopyJob>();
    job->step = step;
    job->plan = plan_;
    job->slot = MakeSlot(state_.layout);
    job->sources = MakeSources(*plan_, state_.pointers, state_.strides).value();
    job->frozen.emplace();
    job->frozen->work = work;
    job->frozen->plan = plan_->Frozen();
    job->frozen->slot = frozen_;
    job->frozen->sources = MakeSources(*plan_->Frozen(), state_.pointers, state_.strides).value();
    EXPECT_FALSE(engine_.Start(job, [](const auto&) {}).has_error());
    engine_.WaitFence({});
    return job;
  }

  void Flip(const std::string& name, std::size_t at) {
    state_.Tensor(state_.IndexOf(name))[at] ^= std::byte{1};
  }

  std::string Frozen(const std::string& name) {
    for (const PlannedTensor& tensor : plan_->Frozen()->Tensors()) {
      if (tensor.name == name) {
        return BytesOf(*frozen_).substr(tensor.offset, tensor.length);
      }
    }
    return "";
  }

  std::string Source(const std::string& name, std::size_t bytes) {
    const std::byte* at = state_.Tensor(state_.IndexOf(name));
    return std::string(reinterpret_cast<const char*>(at), bytes);
  }

  RandomState state_ = MakePlainState({{"adapter", 300}, {"base", kElements}, {"bias", 5}});
  std::shared_ptr<const CopyPlan> plan_;
  std::shared_ptr<SlotMapping> frozen_;
  HostCopyEngine engine_{3};
};

TEST_F(CopyFrozenTest, EachImageHasItsOwnTensors) {
  ASSERT_NE(plan_->Frozen(), nullptr);
  EXPECT_EQ(plan_->Tensors().size(), 1U);
  EXPECT_EQ(plan_->Frozen()->Tensors().size(), 2U);
  EXPECT_LT(plan_->ImageBytes(), 16 * kKiB);
  EXPECT_GT(plan_->Frozen()->ImageBytes(), kElements * 4);
}

TEST_F(CopyFrozenTest, TheFirstSnapshotFillsItAndDigestsEveryChunk) {
  const auto job = Run(Work::kFill, 1);
  ASSERT_EQ(job->outcome.kind, CopyOutcome::Kind::kCopied) << job->outcome.reason;
  EXPECT_TRUE(job->frozen->good);
  EXPECT_EQ(Frozen("base"), Source("base", kElements * 4));
  EXPECT_EQ(Frozen("bias"), Source("bias", 20));
  EXPECT_EQ(job->frozen->chunk_crc32c, ChunkDigests(AsBytes(BytesOf(*frozen_))));
  EXPECT_EQ(job->outcome.chunk_crc32c.size(), 1U);
}

TEST_F(CopyFrozenTest, ACopyThatFailsLeavesItUnfinished) {
  ASSERT_FALSE(ArmFailpoints("client.copy.chunk=error:5@4").has_error());
  const auto job = Run(Work::kFill, 1);
  EXPECT_EQ(job->outcome.kind, CopyOutcome::Kind::kFailed);
  EXPECT_FALSE(job->frozen->good);
  EXPECT_TRUE(job->frozen->changed.empty());
}

TEST_F(CopyFrozenTest, AComparisonFindsOneBitAnywhereAndWritesNothing) {
  Run(Work::kFill, 1);
  const std::string before = BytesOf(*frozen_);
  EXPECT_TRUE(Run(Work::kCompare, 2)->frozen->good);
  for (const std::size_t at :
       {std::size_t{0}, std::size_t{1} << 20, std::size_t{kElements * 4 - 1}}) {
    Flip("base", at);
    const auto job = Run(Work::kCompare, 3);
    EXPECT_EQ(job->outcome.kind, CopyOutcome::Kind::kFailed) << at;
    EXPECT_NE(job->outcome.reason.find("\"base\""), std::string::npos) << job->outcome.reason;
    EXPECT_FALSE(job->frozen->good);
    Flip("base", at);
  }
  EXPECT_EQ(BytesOf(*frozen_), before);
}

// I7: a whole tensor that was written is found at once; a part of it by the sample that moves.
TEST_F(CopyFrozenTest, ASampleFindsAWrittenTensorAtOnceAndAPartOfOneSoon) {
  Run(Work::kFill, 1);
  EXPECT_EQ(Run(Work::kSample, 2)->outcome.kind, CopyOutcome::Kind::kCopied);
  for (std::size_t at = 0; at < 20; ++at) {
    Flip("bias", at);
  }
  const auto job = Run(Work::kSample, 3);
  EXPECT_EQ(job->outcome.kind, CopyOutcome::Kind::kTorn);
  EXPECT_NE(job->outcome.reason.find("\"bias\" were declared frozen"), std::string::npos);
  for (std::size_t at = 0; at < 20; ++at) {
    Flip("bias", at);
  }
  for (std::size_t at = 1 << 20; at < (1 << 20) + (1 << 16); ++at) {
    Flip("base", at);
  }
  std::int64_t step = 4;
  while (step < 200 && Run(Work::kSample, step)->frozen->good) {
    ++step;
  }
  EXPECT_LT(step, 200) << "64 KiB were written and never found";
}

TEST_F(CopyFrozenTest, EveryChangedTensorIsNamed) {
  Run(Work::kFill, 1);
  for (std::size_t at = 0; at < kElements * 4; ++at) {
    state_.Tensor(state_.IndexOf("base"))[at] ^= std::byte{1};
  }
  for (std::size_t at = 0; at < 20; ++at) {
    Flip("bias", at);
  }
  const auto job = Run(Work::kSample, 2);
  EXPECT_EQ(job->frozen->changed.size(), 2U);
  EXPECT_NE(job->outcome.reason.find("\"base\", \"bias\""), std::string::npos);
}

}  // namespace
}  // namespace holdfast::client
