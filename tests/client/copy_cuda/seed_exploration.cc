#include "tests/client/copy_cuda/seed_exploration.h"

#include "client/copy_cuda/copy_cuda.h"
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

void Train(std::uint64_t seed, std::vector<std::string>* wrong) {
  SimTrainer trainer(seed, StateDevices(seed), seed % 4 == 1);
  DeviceWatch watch(CurrentDevice(seed), wrong);
  CudaCopyEngine engine(OptionsOf(seed));
  if (const Status adopted = engine.Adopt(trainer.Plan()); adopted.has_error()) {
    wrong->push_back("adopt: " + adopted.error().ToString());
    return;
  }
  watch.After("Adopt");
  if (seed % 4 != 3) {
    trainer.PinSlots(&engine, kSteps);  // without it the runtime waits in each call for its copies
  }
  std::vector<std::int64_t> begun;
  for (std::int64_t step = 1; step <= kSteps; ++step) {
    if (engine.Busy().empty()) {
      if (const Status started = trainer.Snapshot(&engine, step); started.has_error()) {
        wrong->push_back("start: " + started.error().ToString());
      } else {
        begun.push_back(step);
      }
    }
    watch.After("Start");
    std::vector<DeviceStream> named;
    if (seed % 5 == 3) {
      named.push_back(trainer.StreamAside());
    }
    trainer.Forward();
    engine.WaitFence(named);
    watch.After("WaitFence");
    if (!named.empty()) {
      trainer.UpdateAside();
    }
    trainer.Update();
    if (seed % 3 == 2) {
      trainer.SynchronizeAll();  // one that looks at its loss
    }
  }
  for (const std::int64_t step : begun) {
    if (const std::string fault = Judge(&trainer, step); !fault.empty()) {
      wrong->push_back("step " + std::to_string(step) + ": " + fault);
    }
  }
  engine.Stop();
  watch.After("Stop");
}

}  // namespace

std::vector<std::string> ExploreSeed(std::uint64_t seed) {
  cuda_sim::Reset(SimOf(seed));
  std::vector<std::string> wrong;
  Train(seed, &wrong);
  for (const std::string& violation : cuda_sim::Violations()) {
    wrong.push_back(violation);
  }
  if (const int left = cuda_sim::Leaks().Total(); left != 0) {
    wrong.push_back(std::to_string(left) + " streams, events or memory left behind");
  }
  return wrong;
}

}  // namespace holdfast::client
