// A model that moves to a GPU after its layout was registered, on the simulated runtime with the
// engines that a library has.
#include <cstring>

#include "client/copy_cuda/auto_engine.h"
#include "tests/client/trainer.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace holdfast::client {
namespace {

class MovedStateTest : public TrainerTest {
 protected:
  void SetUp() override { cuda_sim::Reset({}); }

  void TearDown() override {
    TrainerTest::TearDown();
    for (void* memory : on_device_) {
      static_cast<void>(cudaFree(memory));
    }
    EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{});
    EXPECT_EQ(cuda_sim::Leaks().Total(), 0);
  }

  void RegisterOnHost() {
    session_ = std::make_unique<Session>(Options(),
                                         std::make_unique<AutoCopyEngine>(1, CudaCopyOptions{}));
    ASSERT_FALSE(session_->Connect(In(kLong)).has_error());
    ASSERT_FALSE(session_->Join("job", Incarnation{std::string(16, 'u'), 3, 77}, 0, 2).has_error());
    ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
    ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  }

  // The state's bytes go with it.
  void Move() {
    for (std::size_t i = 0; i < state_.specs.size(); ++i) {
      void* memory = nullptr;
      ASSERT_EQ(cudaMalloc(&memory, state_.memory[i].size()), cudaSuccess);
      std::memcpy(cuda_sim::HostView(memory), state_.memory[i].data(), state_.memory[i].size());
      on_device_.push_back(memory);
    }
    const std::vector<std::int32_t> devices(state_.specs.size(), 0);
    ASSERT_FALSE(session_->SetLayout(state_.specs, std::nullopt, devices).has_error());
  }

  void SnapshotFromDevice(std::int64_t step) {
    ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
    const std::vector<const void*> pointers(on_device_.begin(), on_device_.end());
    SnapshotInput input;
    input.step = step;
    input.pointers = pointers;
    input.streams = {DeviceStream{0, nullptr}};
    const auto start = session_->Snapshot(std::move(input));
    ASSERT_TRUE(start.has_value()) << start.error().ToString();
    ASSERT_TRUE(start.value().started) << start.value().reason;
    EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
    ASSERT_FALSE(session_->WaitSealed(step, In(kLong)).has_error());
    EXPECT_EQ(daemon_.SealedImage(step), state_.ReferenceImage());
  }

  std::vector<void*> on_device_;
};

TEST_F(MovedStateTest, ItsSlotsArePinnedAndItsSnapshotsAreWhole) {
  daemon_.SetSlots(2);
  ASSERT_NO_FATAL_FAILURE(RegisterOnHost());
  ASSERT_NO_FATAL_FAILURE(GoodSnapshot(1));
  EXPECT_EQ(session_->Stats().engine.pinned_slots, 0U);
  ASSERT_NO_FATAL_FAILURE(Move());
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
  EXPECT_EQ(session_->Stats().engine.pinned_slots, 1U) << "a snapshot would take an unpinned slot";
  for (std::int64_t step = 2; step <= 5; ++step) {
    ASSERT_NO_FATAL_FAILURE(SnapshotFromDevice(step));
  }
  EXPECT_EQ(session_->Stats().engine.pinned_slots, 2U);
  EXPECT_EQ(session_->Stats().engine.unpinned_slots, 0U);
}

}  // namespace
}  // namespace holdfast::client
