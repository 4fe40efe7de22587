#include "tests/client/copy_cuda/sim_trainer.h"

#include <cstring>

#include <gtest/gtest.h>

#include "common/mix64.h"
#include "layout/dtype.h"

namespace holdfast::client {
namespace {

constexpr ByteCount kSmall = 8 * kKiB;

StateShape Shape(std::uint64_t seed) {
  StateShape shape;
  shape.tensors = 4 + static_cast<int>(seed % 12);
  shape.max_elements = 20'000;
  shape.strided = false;
  return shape;
}

}  // namespace

SimTrainer::SimTrainer(std::uint64_t seed, int devices, bool mixed, bool frozen)
    : state_(MakeRandomState(seed, Shape(seed))), random_(seed) {
  if (frozen) {
    FreezeSome();
  }
  for (int device = 0; device < devices; ++device) {
    EXPECT_EQ(cudaSetDevice(device), cudaSuccess);
    cudaStream_t stream = nullptr;
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    streams_.push_back(stream);
  }
  pointers_ = state_.pointers;
  for (std::size_t i = 0; i < state_.specs.size(); ++i) {
    std::uint64_t elements = 1;
    for (const auto length : state_.specs[i].local_shape) {
      elements *= length;
    }
    bytes_.push_back(elements * layout::ElementBytes(state_.specs[i].dtype).value());
    const bool on_host = mixed && i % 3 == 0;
    device_of_.push_back(on_host ? kHostDevice : static_cast<std::int32_t>(i) % devices);
    memory_.push_back(nullptr);
    if (on_host || pointers_[i] == nullptr) {
      continue;
    }
    EXPECT_EQ(cudaSetDevice(device_of_[i]), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&memory_[i], bytes_[i] + 64), cudaSuccess);
    pointers_[i] = static_cast<std::byte*>(memory_[i]) + Mix64(seed + i) % 64;
    std::memcpy(cuda_sim::HostView(pointers_[i]), state_.pointers[i], bytes_[i]);
  }
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  plan_ = CopyPlan::Make(state_.layout, state_.specs, kSmall, device_of_).value();
}

SimTrainer::~SimTrainer() {
  SynchronizeAll();
  for (void* memory : memory_) {
    static_cast<void>(cudaFree(memory));
  }
  for (cudaStream_t stream : streams_) {
    static_cast<void>(cudaStreamDestroy(stream));
  }
  if (aside_ != nullptr) {
    static_cast<void>(cudaStreamDestroy(aside_));
  }
}

// Not the first one, which another tensor is tied to.
void SimTrainer::FreezeSome() {
  for (std::size_t i = 1; i < state_.specs.size(); i += 2) {
    layout::TensorSpec& spec = state_.specs[i];
    if (spec.tensor_class == proto::STABLE && spec.alias_of.empty()) {
      spec.tensor_class = proto::CONSTANT;
      spec.image = proto::STATIC;
    }
  }
  state_.layout = layout::PlanImage(state_.specs).value();
}

void SimTrainer::MakeFrozenSlot(bool filled) {
  if (plan_->Frozen() == nullptr) {
    return;
  }
  frozen_slot_ = MakeSlot(state_.layout, proto::STATIC);
  if (filled) {
    const std::string image = state_.ReferenceImage(proto::STATIC);
    std::memcpy(frozen_slot_->Data(), image.data(), image.size());
    frozen_work_ = FrozenPart::Work::kCompare;
  }
}

bool SimTrainer::FrozenIsWhole() const {
  return frozen_slot_ == nullptr || BytesOf(*frozen_slot_) == state_.ReferenceImage(proto::STATIC);
}

void SimTrainer::AddFrozen(CopyJob* job) {
  job->frozen.emplace();
  job->frozen->work = frozen_work_;
  job->frozen->plan = plan_->Frozen();
  job->frozen->slot = frozen_slot_;
  job->frozen->sources = MakeSources(*plan_->Frozen(), pointers_, {}).value();
  frozen_work_ = FrozenPart::Work::kSample;
}

std::vector<DeviceStream> SimTrainer::Streams() const {
  std::vector<DeviceStream> streams;
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    streams.push_back(DeviceStream{static_cast<std::int32_t>(i), streams_[i]});
  }
  return streams;
}

std::byte* SimTrainer::HostBytes(std::size_t spec) {
  return device_of_[spec] == kHostDevice || memory_[spec] == nullptr
             ? state_.Tensor(spec)
             : cuda_sim::HostViewAs<std::byte>(pointers_[spec]);
}

void SimTrainer::Run(cudaStream_t stream, std::function<void()> kernel) {
  if (cuda_sim::Launch(stream, std::move(kernel)) != cudaSuccess) {
    launch_failed_ = true;  // a device that has failed for good
  }
}

void SimTrainer::Record(Shot* shot) {
  shot->before.resize(state_.specs.size());
  for (std::size_t i = 0; i < state_.specs.size(); ++i) {
    if (pointers_[i] == nullptr) {
      continue;  // an alias, or empty
    }
    auto read = [this, i, shot] { shot->before[i].assign(HostBytes(i), HostBytes(i) + bytes_[i]); };
    if (memory_[i] == nullptr) {
      read();
    } else {
      Run(streams_[device_of_[i]], read);
    }
  }
}

void SimTrainer::PinSlots(CopyEngine* engine, int count) {
  std::unique_lock<std::mutex> lock(mutex_);
  std::vector<std::shared_ptr<SlotMapping>> slots;
  slots.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    slots.push_back(MakeSlot(state_.layout));
  }
  pinned_ = slots;
  if (frozen_slot_ != nullptr) {
    slots.push_back(frozen_slot_);
  }
  for (const auto& slot : slots) {
    ++preparing_;
    const Status queued = engine->Prepare(slot, [this](const Status& populated) {
      EXPECT_FALSE(populated.has_error());
      const std::lock_guard<std::mutex> done(mutex_);
      --preparing_;
      changed_.notify_all();
    });
    EXPECT_FALSE(queued.has_error());
  }
  EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return preparing_ == 0; }));
  for (const auto& slot : slots) {
    EXPECT_TRUE(slot->Pinned());
  }
}

Status SimTrainer::Snapshot(CopyEngine* engine, std::int64_t step) {
  auto shot = std::make_unique<Shot>();
  Shot* const raw = shot.get();
  shot->job = std::make_shared<CopyJob>();
  shot->job->step = step;
  shot->job->plan = plan_;
  if (pinned_.empty()) {
    shot->job->slot = MakeSlot(state_.layout);
  } else {
    shot->job->slot = std::move(pinned_.back());
    pinned_.pop_back();
  }
  shot->job->sources = MakeSources(*plan_, pointers_, {}).value();
  shot->job->streams = Streams();
  if (frozen_slot_ != nullptr) {
    AddFrozen(shot->job.get());
  }
  Record(raw);
  shots_[step] = std::move(shot);
  // Whose slot it was may fill it anew from then on.
  const auto handed_back = [raw] {
    const SlotMapping& slot = *raw->job->slot;
    cuda_sim::ExpectAtRest(slot.Data(), slot.Size(), "a slot was handed back");
    if (raw->job->frozen.has_value()) {
      const SlotMapping& image = *raw->job->frozen->slot;
      cuda_sim::ExpectAtRest(image.Data(), image.Size(), "a filled image is in use");
    }
  };
  Status started = engine->Start(raw->job, [this, raw, handed_back](const auto&) {
    handed_back();
    const std::lock_guard<std::mutex> lock(mutex_);
    raw->done = true;
    changed_.notify_all();
  });
  if (started.has_error()) {
    handed_back();
  }
  return started;
}

void SimTrainer::Write(std::size_t spec, cudaStream_t stream) {
  const std::uint64_t value = Mix64(++random_);
  auto write = [this, spec, value] {
    std::byte* const bytes = HostBytes(spec);
    for (std::size_t i = 0; i < bytes_[spec]; ++i) {
      bytes[i] = static_cast<std::byte>(static_cast<std::uint64_t>(bytes[i]) * 31 + value + i);
    }
  };
  if (memory_[spec] == nullptr) {
    write();
  } else {
    Run(stream, write);
  }
}

void SimTrainer::Forward() {
  for (std::size_t i = 0; i < state_.specs.size(); ++i) {
    if (state_.specs[i].tensor_class == proto::STAGED && pointers_[i] != nullptr) {
      Write(i, streams_[std::max(device_of_[i], 0)]);
    }
  }
}

void SimTrainer::Update() {
  for (std::size_t i = 0; i < state_.specs.size(); ++i) {
    if (pointers_[i] != nullptr && state_.specs[i].tensor_class != proto::CONSTANT) {
      Write(i, streams_[std::max(device_of_[i], 0)]);
    }
  }
}

// Work of the trainer's: on device 0, whatever is current.
void SimTrainer::WaitFor(cudaStream_t waiting, cudaStream_t other) {
  int current = 0;
  EXPECT_EQ(cudaGetDevice(&current), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, other), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(waiting, event, 0), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(current), cudaSuccess);
}

DeviceStream SimTrainer::StreamAside() {
  if (aside_ == nullptr) {
    int current = 0;
    EXPECT_EQ(cudaGetDevice(&current), cudaSuccess);
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&aside_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaSetDevice(current), cudaSuccess);
  }
  WaitFor(aside_, streams_[0]);
  return DeviceStream{0, aside_};
}

void SimTrainer::UpdateAside() {
  for (std::size_t i = 0; i < state_.specs.size(); ++i) {
    const bool its = memory_[i] != nullptr && device_of_[i] == 0;
    if (its && state_.specs[i].tensor_class == proto::STABLE) {
      Write(i, aside_);
    }
  }
  WaitFor(streams_[0], aside_);
}

void SimTrainer::WriteOneElement(cudaStream_t stream, std::int32_t device) {
  std::vector<std::size_t> stable;
  for (std::size_t i = 0; i < state_.specs.size(); ++i) {
    const bool there = device == kHostDevice || device == device_of_[i];
    if (there && memory_[i] != nullptr && bytes_[i] > 0 &&
        state_.specs[i].tensor_class == proto::STABLE) {
      stable.push_back(i);
    }
  }
  if (stable.empty()) {
    return;
  }
  const std::size_t spec = stable[Mix64(++random_) % stable.size()];
  const std::size_t at = Mix64(++random_) % bytes_[spec];
  Run(stream, [this, spec, at] { HostBytes(spec)[at] ^= std::byte{0x10}; });
}

bool SimTrainer::Done(std::int64_t step) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return shots_.at(step)->done;
}

CopyOutcome SimTrainer::WaitDone(std::int64_t step) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    const bool ended =
        changed_.wait_for(lock, std::chrono::seconds(60), [&] { return shots_.at(step)->done; });
    EXPECT_TRUE(ended) << "step " << step << " never ended";
  }
  SynchronizeAll();
  return shots_.at(step)->job->outcome;
}

void SimTrainer::SynchronizeAll() {
  for (cudaStream_t stream : streams_) {
    static_cast<void>(cudaStreamSynchronize(stream));
  }
  if (aside_ != nullptr) {
    static_cast<void>(cudaStreamSynchronize(aside_));
  }
  static_cast<void>(cudaGetLastError());  // of the training's own calls
}

std::string SimTrainer::Expected(std::int64_t step) {
  RandomState copy = state_;
  const Shot& shot = *shots_.at(step);
  for (std::size_t i = 0; i < copy.specs.size(); ++i) {
    copy.pointers[i] = shot.before[i].data();
  }
  return copy.ReferenceImage();
}

std::string SimTrainer::Landed(std::int64_t step) const {
  return BytesOf(*shots_.at(step)->job->slot);
}

}  // namespace holdfast::client
