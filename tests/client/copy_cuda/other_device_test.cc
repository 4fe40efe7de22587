// State that was saved from one device and comes back on another, on the simulated runtime with the
// engines that a library has (I5).
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "client/copy_cuda/auto_engine.h"
#include "client/engine_choice.h"
#include "client/restore.h"
#include "tests/client/trainer.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace holdfast::client {
namespace {

class OtherDeviceTest : public TrainerTest {
 protected:
  void SetUp() override {
    cuda_sim::Options options;
    options.devices = 2;
    cuda_sim::Reset(options);
    for (int device = 0; device < 2; ++device) {
      ASSERT_EQ(cudaSetDevice(device), cudaSuccess);
      for (const auto& memory : state_.memory) {
        on_[device].push_back(nullptr);
        ASSERT_EQ(cudaMalloc(&on_[device].back(), memory.size()), cudaSuccess);
        std::memset(cuda_sim::HostView(on_[device].back()), 0x77, memory.size());
      }
    }
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    for (std::size_t i = 0; i < state_.specs.size(); ++i) {
      std::memcpy(cuda_sim::HostView(on_[0][i]), state_.memory[i].data(), state_.memory[i].size());
    }
  }

  void TearDown() override {
    TrainerTest::TearDown();
    for (const auto& memories : on_) {
      for (void* memory : memories) {
        static_cast<void>(cudaFree(memory));
      }
    }
    EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{});
    EXPECT_EQ(cuda_sim::Leaks().Total(), 0);
  }

  // The sealed image of the state on device 0.
  void Save(std::string* image) {
    session_ = std::make_unique<Session>(Options(),
                                         std::make_unique<AutoCopyEngine>(1, CudaCopyOptions{}));
    ASSERT_FALSE(session_->Connect(In(kLong)).has_error());
    ASSERT_FALSE(session_->Join("job", Incarnation{std::string(16, 'u'), 3, 77}, 0, 2).has_error());
    const std::vector<std::int32_t> devices(state_.specs.size(), 0);
    ASSERT_FALSE(session_->SetLayout(state_.specs, std::nullopt, devices).has_error());
    ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
    const std::vector<const void*> pointers(on_[0].begin(), on_[0].end());
    SnapshotInput input;
    input.step = 11;
    input.pointers = pointers;
    input.streams = {DeviceStream{0, nullptr}};
    const auto start = session_->Snapshot(std::move(input));
    ASSERT_TRUE(start.has_value()) << start.error().ToString();
    ASSERT_TRUE(start.value().started) << start.value().reason;
    EXPECT_EQ(session_->Fence().kind, CopyOutcome::Kind::kCopied);
    ASSERT_FALSE(session_->WaitSealed(11, In(kLong)).has_error());
    *image = daemon_.SealedImage(11);
  }

  void Serve(const std::string& image) {
    fd_ = transport::OwnedFd(::memfd_create("image", MFD_CLOEXEC));
    ASSERT_EQ(::write(fd_.Get(), image.data(), image.size()), static_cast<ssize_t>(image.size()));
    daemon_.SetHook([this, answer = RestoreAnswer(state_, image)](const auto& message) {
      if (!message.has_restore()) {
        return FakeDaemon::Verdict::kDefault;
      }
      daemon_.Answer(message, answer, fd_.Get());
      return FakeDaemon::Verdict::kHandled;
    });
  }

  Status RestoreTo(int device) {
    HF_TRY(const auto restore, Restore::Begin(session_.get(), {}, In(kLong)));
    std::vector<LoadTarget> targets;
    const auto& tensors = restore->Choice().sidecar().layout().tensors();
    for (int i = 0; i < tensors.size(); ++i) {
      const std::size_t spec = state_.IndexOf(tensors[i].name());
      targets.push_back(LoadTarget{
          static_cast<std::uint32_t>(i), on_[device][spec], tensors[i].length_bytes(), device});
    }
    {
      HF_TRY(const auto sink, MakeDeviceSink(2));
      HF_TRYV(restore->Load(targets, 2, sink.get()));
    }
    HF_TRY(const bool committed, restore->Finish("", In(kLong)));
    return committed ? Ok() : Status(Error(Errc::kAbandoned, "not committed"));
  }

  bool Holds(int device) const {
    for (std::size_t i = 0; i < state_.specs.size(); ++i) {
      const ByteCount bytes = state_.specs[i].local_shape[0] * 4;
      if (std::memcmp(cuda_sim::HostView(on_[device][i]), state_.pointers[i], bytes) != 0) {
        return false;
      }
    }
    return true;
  }

  std::vector<void*> on_[2];
  transport::OwnedFd fd_;
};

TEST_F(OtherDeviceTest, StateOfOneDeviceComesBackOnAnotherAndTheCurrentOneStays) {
  std::string image;
  ASSERT_NO_FATAL_FAILURE(Save(&image));
  ASSERT_EQ(image, state_.ReferenceImage());
  ASSERT_NO_FATAL_FAILURE(Serve(image));
  std::memset(cuda_sim::HostView(on_[0][0]), 0x11, 100);  // training went on there
  ASSERT_FALSE(Holds(1));
  const Status restored = RestoreTo(1);
  ASSERT_FALSE(restored.has_error()) << restored.error().ToString();
  EXPECT_TRUE(Holds(1));
  EXPECT_FALSE(Holds(0)) << "the device that it was saved from was written";
  int current = -1;
  ASSERT_EQ(cudaGetDevice(&current), cudaSuccess);
  EXPECT_EQ(current, 0);
}

}  // namespace
}  // namespace holdfast::client
