// I7: a torn copy never seals.  Every moment at which a trainer that skips the fence could write.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "client/copy_host.h"
#include "common/crc32c.h"
#include "common/failpoint.h"
#include "tests/client/random_state.h"
#include "tests/support/bulk_bytes.h"
#include "tests/support/sanitized.h"

namespace holdfast::client {
namespace {

constexpr ByteCount kSmall = 16 * kKiB;

class TornCopyTest : public testing::Test {
 protected:
  TornCopyTest() {
    state_ = MakePlainState({{"weight", 2'000'000}, {"exp_avg", 1'000'000}, {"bias", 100}});
    // Adam's step: a scalar of the optimizer's state.
    layout::TensorSpec step = state_.specs[2];
    step.name = "step";
    step.local_shape = step.global_shape = {};
    state_.specs.push_back(step);
    state_.memory.emplace_back(64, std::byte{1});
    state_.pointers.push_back(state_.memory.back().data());
    layout::TensorSpec staged = state_.specs[2];
    staged.name = "running_mean";
    staged.tensor_class = proto::STAGED;
    state_.specs.push_back(staged);
    state_.memory.emplace_back(512, std::byte{2});
    state_.pointers.push_back(state_.memory.back().data());
    state_.layout = layout::PlanImage(state_.specs).value();
    slot_ = MakeSlot(state_.layout);
  }

  void TearDown() override { ASSERT_FALSE(ArmFailpoints("").has_error()); }

  // The whole tensor gets other bytes, as an update gives it.
  void Update(const std::string& name) { FlipAll(state_.memory[state_.IndexOf(name)]); }

  std::shared_ptr<CopyJob> MakeJob() {
    auto job = std::make_shared<CopyJob>();
    job->step = ++step_;
    job->plan = CopyPlan::Make(state_.layout, state_.specs, kSmall).value();
    job->slot = slot_;
    job->sources = MakeSources(*job->plan, state_.pointers, state_.strides).value();
    return job;
  }

  // A whole snapshot by the engine; "write" happens after Start and before the first chunk.
  template <class Write>
  CopyOutcome SnapshotAndWrite(Write write) {
    const auto job = MakeJob();
    HostCopyEngine engine(2);
    EXPECT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
    EXPECT_FALSE(engine.Start(job, [](const auto&) {}).has_error());
    write();
    EXPECT_FALSE(ArmFailpoints("").has_error());  // orders the write before every copy
    engine.WaitFence({});
    return job->outcome;
  }

  // The steps of a snapshot one by one, with "write" before chunk "when" (the number of chunks:
  // after the last copy, before the sample is read again).  The name of the torn tensor, or "".
  template <class Write>
  std::string TornTensor(std::uint64_t when, Write write) {
    const auto job = MakeJob();
    SourceSample sample(*job->plan, kDefaultSampleFraction, static_cast<std::uint64_t>(job->step));
    sample.Take(job->sources);
    for (std::size_t i = 0; i < job->sources.size(); ++i) {
      const auto& tensor = job->plan->Tensors()[i];
      if (tensor.mode == CopyMode::kStaged) {
        job->sources[i].Gather(0, MutableByteView(slot_->Data() + tensor.offset, tensor.length));
      }
    }
    const std::uint64_t chunks = ChunkCount(slot_->Size());
    for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) {
      if (chunk == when) {
        write();
      }
      (void)CopyChunk(*job->plan, job->sources, slot_->Data(), chunk);
    }
    if (when == chunks) {
      write();
    }
    const auto torn = sample.Check(*job->plan, job->sources, slot_->Data());
    return torn.has_value() ? job->plan->Tensors()[*torn].name : "";
  }

  RandomState state_;
  std::shared_ptr<SlotMapping> slot_;
  std::int64_t step_ = 0;
};

TEST_F(TornCopyTest, WriteUnderTheCopyIsFoundByName) {
  for (const std::string name : {"weight", "exp_avg", "bias", "step"}) {
    const auto outcome = SnapshotAndWrite([&] { Update(name); });
    ASSERT_EQ(outcome.kind, CopyOutcome::Kind::kTorn) << name;
    EXPECT_NE(outcome.reason.find("\"" + name + "\""), std::string::npos) << outcome.reason;
  }
}

TEST_F(TornCopyTest, WriteAtAnyMomentIsFoundByName) {
  for (std::uint64_t when = 0; when <= ChunkCount(slot_->Size()); ++when) {
    for (const std::string name : {"weight", "exp_avg", "bias", "step"}) {
      EXPECT_EQ(TornTensor(when, [&] { Update(name); }), name) << "before chunk " << when;
    }
  }
  EXPECT_EQ(TornTensor(0, [] {}), "");
}

TEST_F(TornCopyTest, OneBitOfAScalarIsFound) {
  EXPECT_EQ(TornTensor(2, [&] { state_.Tensor(state_.IndexOf("step"))[3] ^= std::byte{0x80}; }),
            "step");
}

// The source is the same at both readings; what lies in the slot is not.
TEST_F(TornCopyTest, WriteThatIsTakenBackIsFoundInTheSlot) {
  const auto job = MakeJob();
  SourceSample sample(*job->plan, kDefaultSampleFraction, 1);
  sample.Take(job->sources);
  Update("weight");
  for (std::uint64_t chunk = 0; chunk < ChunkCount(slot_->Size()); ++chunk) {
    (void)CopyChunk(*job->plan, job->sources, slot_->Data(), chunk);
  }
  Update("weight");
  const auto torn = sample.Check(*job->plan, job->sources, slot_->Data());
  ASSERT_TRUE(torn.has_value());
  EXPECT_EQ(job->plan->Tensors()[*torn].name, "weight");
}

TEST_F(TornCopyTest, StagedTensorMayBeWrittenAtOnce) {
  const auto outcome = SnapshotAndWrite([&] { Update("running_mean"); });
  EXPECT_EQ(outcome.kind, CopyOutcome::Kind::kCopied) << outcome.reason;
}

TEST_F(TornCopyTest, NanIsNoFalseAlarm) {
  for (auto& memory : state_.memory) {
    std::memset(memory.data(), 0xff, memory.size());
  }
  EXPECT_EQ(SnapshotAndWrite([] {}).kind, CopyOutcome::Kind::kCopied);
}

TEST_F(TornCopyTest, TenThousandFencedStepsRaiseNoAlarm) {
  RandomState state = MakePlainState({{"w", 6'000}, {"m", 6'000}, {"s", 1}});
  const auto plan = CopyPlan::Make(state.layout, state.specs, kSmall).value();
  const auto slot = MakeSlot(state.layout);
  HostCopyEngine engine(2);
  for (int step = 0; step < 10'000; ++step) {
    auto job = std::make_shared<CopyJob>();
    job->step = step;
    job->plan = plan;
    job->slot = slot;
    job->sources = MakeSources(*plan, state.pointers, {}).value();
    ASSERT_FALSE(engine.Start(job, [](const auto&) {}).has_error());
    engine.WaitFence({});
    ASSERT_EQ(job->outcome.kind, CopyOutcome::Kind::kCopied) << step << job->outcome.reason;
    for (std::size_t i = 0; i < 3; ++i) {
      state.Tensor(i)[static_cast<std::size_t>(step) % 4] ^= std::byte{1};  // the update
    }
  }
}

// The engine chooses a snapshot's places behind the one before: of the same layout only.
TEST_F(TornCopyTest, WritesAreFoundWhenTheLayoutChangesBetweenSnapshots) {
  RandomState other = MakePlainState({{"adapter", 300'000}});
  const auto other_slot = MakeSlot(other.layout);
  const auto other_plan = CopyPlan::Make(other.layout, other.specs, kSmall).value();
  const auto plan = CopyPlan::Make(state_.layout, state_.specs, kSmall).value();
  HostCopyEngine engine(2);
  for (const bool of_other : {false, false, true, true, false, true}) {
    const auto job = std::make_shared<CopyJob>();
    job->step = ++step_;
    job->plan = of_other ? other_plan : plan;
    job->slot = of_other ? other_slot : slot_;
    const RandomState& state = of_other ? other : state_;
    job->sources = MakeSources(*job->plan, state.pointers, state.strides).value();
    ASSERT_FALSE(ArmFailpoints("client.copy.chunk=stall").has_error());
    std::atomic<bool> done{false};
    ASSERT_FALSE(engine.Start(job, [&](const auto&) { done = true; }).has_error());
    if (of_other) {
      std::fill(other.memory[0].begin(), other.memory[0].end(), static_cast<std::byte>(step_));
    } else {
      Update("exp_avg");
    }
    ASSERT_FALSE(ArmFailpoints("").has_error());
    engine.WaitFence({});
    EXPECT_EQ(job->outcome.kind, CopyOutcome::Kind::kTorn) << step_;
    while (!done) {
      std::this_thread::yield();
    }
  }
}

// A large tensor and one snapshot of it, step by step.
class LargeTensorTest : public testing::Test {
 protected:
  static constexpr std::size_t kElements = 6 << 20;

  LargeTensorTest()
      : state_(MakePlainState({{"large", kElements}})),
        plan_(CopyPlan::Make(state_.layout, state_.specs, kSmall).value()),
        slot_(MakeSlot(state_.layout)) {}

  SourceSample TakeSample(std::uint64_t seed) {
    SourceSample sample(*plan_, kDefaultSampleFraction, seed);
    sample.Take(Sources());
    return sample;
  }

  std::vector<SourceView> Sources() { return MakeSources(*plan_, state_.pointers, {}).value(); }

  void Copy() {
    for (std::uint64_t chunk = 0; chunk < ChunkCount(slot_->Size()); ++chunk) {
      (void)CopyChunk(*plan_, Sources(), slot_->Data(), chunk);
    }
  }

  bool IsTorn(const SourceSample& sample) {
    return sample.Check(*plan_, Sources(), slot_->Data()).has_value();
  }

  // The bytes [from, from + bytes) of the tensor change.
  void Write(std::size_t from, std::size_t bytes) {
    const MutableByteView memory(state_.memory[0]);
    FlipAll(memory.subspan(from, std::min(bytes, memory.size() - from)));
  }

  RandomState state_;
  std::shared_ptr<const CopyPlan> plan_;
  std::shared_ptr<SlotMapping> slot_;
};

TEST_F(LargeTensorTest, WriteOfAnyChunkBeforeItIsCopiedIsFound) {
  const ByteCount header = plan_->HeaderBytes();
  for (std::uint64_t chunk = 0; chunk < ChunkCount(slot_->Size()); ++chunk) {
    const std::size_t from = chunk == 0 ? 0 : chunk * kChunkBytes - header;
    const std::size_t end =
        std::min<std::size_t>((chunk + 1) * kChunkBytes - header, state_.memory[0].size());
    const auto sample = TakeSample(chunk);
    Write(from, end - from);
    Copy();
    EXPECT_TRUE(IsTorn(sample)) << "chunk " << chunk;
  }
}

TEST_F(LargeTensorTest, WriterThatIsAtWorkWhenTheCopyEndsIsFoundWhereverItIs) {
  for (std::uint64_t run = 0; run < 100; run += UnlessSanitized(1, 4)) {
    const auto sample = TakeSample(run);
    Copy();
    Write(run * state_.memory[0].size() / 100, 256 * kKiB);
    EXPECT_TRUE(IsTorn(sample)) << "run " << run;
  }
}

TEST_F(LargeTensorTest, UntouchedTensorIsGood) {
  for (std::uint64_t run = 0; run < UnlessSanitized(20U, 5U); ++run) {
    const auto sample = TakeSample(run);
    Copy();
    EXPECT_FALSE(IsTorn(sample)) << "run " << run;
    EXPECT_GE(sample.SampledBytes(), 64 * ChunkCount(slot_->Size()) - 64);
    EXPECT_LE(sample.SampledBytes(), state_.memory[0].size() / 100);
    Write(0, state_.memory[0].size());
  }
}

TEST(SourceSampleTest, SampleIsAtMostTheFractionButAnElementOfEachTensor) {
  RandomState state = MakePlainState({{"large", 1'000'000}, {"tiny", 2}});
  const auto plan = CopyPlan::Make(state.layout, state.specs, 0).value();
  const SourceSample sample(*plan, kDefaultSampleFraction, 5);
  EXPECT_GE(sample.SampledBytes(), 64U + 4U);
  EXPECT_LE(sample.SampledBytes(), 40'000U);
}

// What is chosen anew is what a sample of that seed has from the start, and other seeds have other
// places.
TEST(SourceSampleTest, PlacesChosenAnewAreThoseOfTheSeed) {
  constexpr double kFraction = 0.3;
  RandomState state = MakePlainState({{"weight", 16'384}});
  const auto plan = CopyPlan::Make(state.layout, state.specs, 0).value();
  const auto sources = MakeSources(*plan, state.pointers, {}).value();
  const auto slot = MakeSlot(state.layout);
  SourceSample reused(*plan, kFraction, 1);
  std::set<std::size_t> found;
  for (std::uint64_t seed = 2; seed < 30; ++seed) {
    reused.ChooseAnew(*plan, seed);
    SourceSample fresh(*plan, kFraction, seed);
    ASSERT_EQ(reused.SampledBytes(), fresh.SampledBytes());
    for (std::size_t at = 0; at < state.memory[0].size(); at += 512) {
      reused.Take(sources);
      fresh.Take(sources);
      state.memory[0][at] ^= std::byte{1};
      for (std::uint64_t chunk = 0; chunk < ChunkCount(slot->Size()); ++chunk) {
        (void)CopyChunk(*plan, sources, slot->Data(), chunk);
      }
      const bool torn = fresh.Check(*plan, sources, slot->Data()).has_value();
      ASSERT_EQ(reused.Check(*plan, sources, slot->Data()).has_value(), torn) << seed << " " << at;
      if (torn) {
        found.insert(at);
      }
    }
  }
  EXPECT_GT(found.size(), state.memory[0].size() / 512 * 3 / 4);
}

}  // namespace
}  // namespace holdfast::client
