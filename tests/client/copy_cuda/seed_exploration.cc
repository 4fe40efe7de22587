#include "tests/client/copy_cuda/seed_exploration.h"

#include <cstring>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include "client/copy_cuda/copy_cuda.h"
#include "client/copy_cuda/device_sink.h"
#include "client/image_load.h"
#include "client/image_source.h"
#include "common/crc32c.h"
#include "common/mix64.h"
#include "tests/client/copy_cuda/sim_trainer.h"

namespace holdfast::client {
namespace {

// The first tells how long the update waits, the second how much would be staged; what follows is.
constexpr int kSteps = 8;

CudaCopyOptions OptionsOf(std::uint64_t seed) {
  CudaCopyOptions options;
  options.threads = 1 + seed % 3;
  options.verify_every = seed % 3;
  options.window_bytes = (ByteCount{4} << (seed % 4)) * kKiB;
  options.staging_share = seed % 5 == 0 ? 0 : 0.5;
  // With nothing the rest of a snapshot is staged whenever there is memory for it.
  options.staging_worth = std::chrono::milliseconds(seed / 2 % 2 == 0 ? 0 : 3);
  return options;
}

// Devices that hold the state; there is one more.
int StateDevices(std::uint64_t seed) {
  return 1 + static_cast<int>(seed % 2);
}

// The trainer's current device: any, also the one with nothing on it.
int CurrentDevice(std::uint64_t seed) {
  return static_cast<int>(Mix64(seed) % static_cast<std::uint64_t>(StateDevices(seed) + 1));
}

cuda_sim::Options SimOf(std::uint64_t seed) {
  cuda_sim::Options options;
  options.seed = seed;
  options.devices = StateDevices(seed) + 1;
  options.max_delay = std::chrono::microseconds(Mix64(seed) % 40);
  return options;
}

// What is wrong with a snapshot; empty: nothing.
std::string Judge(SimTrainer* trainer, std::int64_t step) {
  const CopyOutcome outcome = trainer->WaitDone(step);
  if (outcome.kind != CopyOutcome::Kind::kCopied) {
    return outcome.reason;
  }
  const std::string expected = trainer->Expected(step);
  if (trainer->Landed(step) != expected) {
    return "sealed, with other bytes than the state had";
  }
  return outcome.chunk_crc32c == ChunkDigests(AsBytes(expected)) ? "" : "digests of other bytes";
}

// Holds a current device on the trainer's thread, and sees whether a call of the engine left it.
class DeviceWatch {
 public:
  DeviceWatch(int device, std::vector<std::string>* wrong) : device_(device), wrong_(wrong) {
    static_cast<void>(cudaSetDevice(device_));
  }

  void After(const char* call) {
    int device = -1;
    if (cudaGetDevice(&device) != cudaSuccess || device != device_) {
      wrong_->push_back(std::string(call) + " changed the trainer's current device");
      static_cast<void>(cudaSetDevice(device_));
    }
  }

 private:
  const int device_;
  std::vector<std::string>* const wrong_;
};

// One training; what is played in it beside plain steps follows from the seed too.
class Play {
 public:
  Play(std::uint64_t seed, std::vector<std::string>* wrong)
      : seed_(seed),
        wrong_(wrong),
        trainer_(seed, StateDevices(seed), seed % 4 == 1, seed % 3 == 1),
        watch_(CurrentDevice(seed), wrong),
        engine_(OptionsOf(seed)) {}

  void Run() {
    if (const Status adopted = engine_.Adopt(trainer_.Plan()); adopted.has_error()) {
      wrong_->push_back("adopt: " + adopted.error().ToString());
      return;
    }
    watch_.After("Adopt");
    trainer_.MakeFrozenSlot(/*filled=*/seed_ % 2 == 0);
    if (seed_ % 4 != 3) {
      // Without it the runtime waits in each call for its copies.
      trainer_.PinSlots(&engine_, kSteps + 1);
    }
    for (std::int64_t step = 1; step <= kSteps; ++step) {
      Step(step);
    }
    for (const std::int64_t step : begun_) {
      if (const std::string fault = Judge(&trainer_, step); !fault.empty()) {
        wrong_->push_back("step " + std::to_string(step) + ": " + fault);
      }
    }
    if (!trainer_.FrozenIsWhole()) {
      wrong_->push_back("the image of the frozen tensors is not what they are");
    }
    if (seed_ % 10 == 1 && !begun_.empty()) {
      Restore(begun_.back());
    }
    engine_.Stop();
    watch_.After("Stop");
  }

 private:
  void Step(std::int64_t step) {
    if (engine_.Busy().empty()) {
      if (const Status started = trainer_.Snapshot(&engine_, step); started.has_error()) {
        wrong_->push_back("start: " + started.error().ToString());
      } else {
        begun_.push_back(step);
      }
    }
    watch_.After("Start");
    std::vector<DeviceStream> named;
    if (seed_ % 5 == 3) {
      named.push_back(trainer_.StreamAside());
    }
    trainer_.Forward();
    if (seed_ % 6 == 5 && step == 4) {
      FenceAndSnapshotInCapture();
    }
    engine_.WaitFence(named);
    watch_.After("WaitFence");
    if (!named.empty()) {
      trainer_.UpdateAside();
    }
    trainer_.Update();
    if (begun_.size() == 1) {
      static_cast<void>(trainer_.WaitDone(begun_.front()));  // it fills the frozen tensors' image
    }
    if (seed_ % 3 == 2) {
      trainer_.SynchronizeAll();  // one that looks at its loss
    }
  }

  // A snapshot in a capture is refused, or fails where a device without one has begun already; the
  // graph is whole whatever is called.
  void FenceAndSnapshotInCapture() {
    constexpr std::int64_t kRefused = 100;
    const auto devices = trainer_.Plan()->Devices();
    const int device = devices[seed_ / 6 % devices.size()];
    cuda_sim::BeginCapture(trainer_.Stream(device));
    engine_.WaitFence({});
    if (engine_.Busy().empty() && trainer_.Snapshot(&engine_, kRefused).has_value()) {
      engine_.WaitFence({});
      captured_ = kRefused;
    }
    watch_.After("calls in a capture");
    if (cuda_sim::EndCapture(trainer_.Stream(device)) != cudaSuccess) {
      wrong_->push_back("a capture was broken");
    }
    if (captured_ == kRefused) {
      const CopyOutcome outcome = trainer_.WaitDone(kRefused);
      if (outcome.reason.find("CUDA graph") == std::string::npos) {
        wrong_->push_back("a snapshot in a capture: " + outcome.reason);
      }
    }
  }

  // To the device that has nothing of the state.
  void Restore(std::int64_t step) {
    const std::string image = trainer_.Landed(step);
    const int device = StateDevices(seed_);
    static_cast<void>(cudaSetDevice(device));
    const DeviceMemory memory = MakeDeviceMemory(image.size()).value();
    static_cast<void>(cudaSetDevice(CurrentDevice(seed_)));
    std::vector<LoadPiece> pieces;
    for (const PlannedTensor& tensor : trainer_.Plan()->Tensors()) {
      pieces.push_back(
          LoadPiece{tensor.offset, tensor.length, memory.get() + tensor.offset, device});
    }
    transport::OwnedFd fd(::memfd_create("image", MFD_CLOEXEC));
    const bool written =
        ::write(fd.Get(), image.data(), image.size()) == static_cast<ssize_t>(image.size());
    const auto source = ImageSource::Open(std::move(fd), image.size()).value();
    LoadReport report;
    {
      const auto sink = DeviceSink::Make(1).value();
      const Status loaded =
          LoadPieces(*source, ChunkDigests(AsBytes(image)), pieces, 1, sink.get(), &report);
      if (!written || loaded.has_error()) {
        wrong_->push_back("restore failed");
      }
    }
    watch_.After("a restore");
    const auto* landed = cuda_sim::HostViewAs<std::byte>(memory.get());
    for (const LoadPiece& piece : pieces) {
      if (std::memcmp(landed + piece.offset, image.data() + piece.offset, piece.length) != 0) {
        wrong_->push_back("a restore brought other bytes");
        return;
      }
    }
  }

  const std::uint64_t seed_;
  std::vector<std::string>* const wrong_;
  SimTrainer trainer_;
  DeviceWatch watch_;
  CudaCopyEngine engine_;
  std::vector<std::int64_t> begun_;
  std::int64_t captured_ = -1;
};

}  // namespace

std::vector<std::string> ExploreSeed(std::uint64_t seed) {
  cuda_sim::Reset(SimOf(seed));
  std::vector<std::string> wrong;
  Play(seed, &wrong).Run();
  for (const std::string& violation : cuda_sim::Violations()) {
    wrong.push_back(violation);
  }
  if (const int left = cuda_sim::Leaks().Total(); left != 0) {
    wrong.push_back(std::to_string(left) + " streams, events or memory left behind");
  }
  return wrong;
}

}  // namespace holdfast::client
