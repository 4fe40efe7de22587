// The training thread's side of the engine.
#include "client/copy_cuda/copy_cuda.h"

#include <algorithm>
#include <utility>

#include "client/chunk_copy.h"
#include "client/copy_cuda/device_code.h"
#include "client/copy_cuda/mutation.h"
#include "client/copy_cuda/numa_node.h"
#include "client/copy_cuda/running.h"
#include "common/check.h"

namespace holdfast::client {
namespace {

constexpr std::size_t kMaxPreparations = 64;
// Waits end by a notification; the deadline only keeps a lost one from being for ever.
constexpr std::chrono::seconds kRecheck{1};

MonotonicTime Recheck() {
  return SystemClock().Now() + kRecheck;
}

}  // namespace

CudaCopyEngine::CudaCopyEngine(CudaCopyOptions options) : options_(std::move(options)) {
  const std::uint32_t workers = std::max(options_.threads, 1U);
  Status started = StartThreads(
      1, [this] { Drive(); }, &threads_, options_.start_thread);
  if (started.has_value()) {
    started = StartThreads(
        workers, [this] { Work(); }, &threads_, options_.start_thread);
  }
  if (threads_.size() < 2) {
    no_threads_ = Error(started.error()).WithContext("the copy engine for devices");
    Stop();  // nothing is to wait for it
  }
}

CudaCopyEngine::~CudaCopyEngine() {
  Stop();
}

Status CudaCopyEngine::Adopt(std::shared_ptr<const CopyPlan> plan) {
  if (no_threads_.has_value()) {
    return *no_threads_;
  }
  {
    MutexLock lock(mutex_);
    if (current_ != nullptr) {
      return Error(Errc::kUnavailable, "a snapshot is being copied: call the fence first");
    }
    while (!running_.empty() && !stopping_) {
      changed_.WaitUntil(lock, Recheck());
    }
    const auto devices = plan->AllDevices();
    pin_device_ = devices.empty() ? kHostDevice : devices.front();
    numa_node_ = kAnyNumaNode;
  }
  if (plan->AllDevices().empty()) {
    return Ok();
  }
  if (const Status usable = CudaUsable(); usable.has_error()) {
    return Error(usable.error())
        .WithContext("tensors on device " + std::to_string(plan->AllDevices().front()));
  }
  const TrainerThread guard;
  const std::int32_t numa_node = NumaNodeOf(plan->AllDevices().front());
  {
    MutexLock lock(mutex_);
    numa_node_ = numa_node;
  }
  HF_TRYV(AdoptFrozen(*plan));
  for (const std::int32_t device : plan->Devices()) {
    std::unique_ptr<Lane>& lane = lanes_[device];
    if (lane == nullptr) {
      HF_TRY(lane, Lane::Make(device, options_.staging_share, options_.staging_worth));
    }
    HF_TRYV(lane->Adopt(plan, options_.window_bytes, options_.most_gathered, kMostUnderWay));
  }
  NoteMemory();
  return Ok();
}

void CudaCopyEngine::NoteMemory() {
  MutexLock lock(mutex_);
  const auto note = [&](const std::string& why) HF_REQUIRES(mutex_) {
    if (!why.empty()) {
      Note("buffers cannot be pinned, so snapshots wait for their copies: " + why);
    }
  };
  for (const auto& [device, lane] : lanes_) {
    note(lane->rooms().WhyUnpinned());
  }
  for (const auto& [device, lane] : frozen_lanes_) {
    note(lane->WhyUnpinned());
  }
  if (options_.verify_every > 0 && !HasDeviceCode()) {
    Note("verify: this build has no device code, so copies are checked by the sample only");
  }
}

void CudaCopyEngine::Note(const std::string& text) {
  if (state_.note.find(text) == std::string::npos) {
    state_.note += (state_.note.empty() ? "" : "\n") + text;
  }
}

Status CudaCopyEngine::Prepare(std::shared_ptr<SlotMapping> slot, SlotReady ready) {
  MutexLock lock(mutex_);
  if (stopping_ || preparations_.size() >= kMaxPreparations) {
    return Error(Errc::kUnavailable, "the copy engine takes no more slots");
  }
  preparations_.push_back(Preparation{std::move(slot), std::move(ready)});
  work_.NotifyOne();
  return Ok();
}

bool CudaCopyEngine::Pins() const {
  MutexLock lock(mutex_);
  return pin_device_ != kHostDevice;
}

std::string CudaCopyEngine::Busy() const {
  MutexLock lock(mutex_);
  if (current_ != nullptr) {
    return "the copy of the snapshot before is still under way: call the fence first";
  }
  if (running_.size() >= kMostUnderWay) {
    return "the bytes of the snapshots before have not landed or are not digested yet";
  }
  return "";
}

Status CudaCopyEngine::Start(std::shared_ptr<CopyJob> job, JobDone done) {
  if (std::string busy = Busy(); !busy.empty()) {
    return Error(Errc::kUnavailable, std::move(busy));
  }
  HOLDFAST_CHECK(job->sources.size() == job->plan->Tensors().size());
  HOLDFAST_CHECK(job->slot->Size() >= job->plan->ImageBytes());
  HF_TRY(auto running, Begin(std::move(job), std::move(done)));
  MutexLock lock(mutex_);
  if (stopping_) {
    return Error(Errc::kUnavailable, "the copy engine has stopped");
  }
  if (Mutated(Mutation::kDoneEventReused)) {
    running->released = std::all_of(running->flights.begin(),
                                    running->flights.end(),
                                    [](const auto& flight) { return flight->Released(); });
  }
  ++begun_;
  current_ = running;
  running_.push_back(std::move(running));
  drive_.NotifyAll();
  work_.NotifyAll();
  return Ok();
}

Result<std::shared_ptr<CudaCopyEngine::Running>> CudaCopyEngine::Begin(std::shared_ptr<CopyJob> job,
                                                                       JobDone done) {
  SourceSample sample(*job->plan, job->sample_fraction, static_cast<std::uint64_t>(job->step));
  sample.Take(job->sources);
  auto running = std::make_shared<Running>(std::move(job), std::move(done), std::move(sample));
  const CopyPlan& plan = *running->job->plan;
  running->flight_of.resize(plan.Tensors().size(), nullptr);
  bool verify = false;
  {
    MutexLock lock(mutex_);
    verify = options_.verify_every > 0 && begun_ % options_.verify_every == 0;
  }
  const TrainerThread guard;
  for (const std::int32_t device : plan.Devices()) {
    const auto lane = lanes_.find(device);
    HOLDFAST_CHECK(lane != lanes_.end() && &lane->second->Plan().Plan() == &plan);
    const Status begun = BeginFlight(running.get(), lane->second.get(), verify);
    if (begun.has_error() && running->flights.empty()) {
      return begun.error();
    }
    if (begun.has_error()) {
      // Other devices have begun: that must come to its end, as a failure.
      running->failure = begun.error().ToString();
      break;
    }
  }
  if (const Status begun = BeginFrozen(running.get()); begun.has_error()) {
    if (running->flights.empty() && running->frozen_flights.empty()) {
      return begun.error();
    }
    running->failure = running->failure.value_or(begun.error().ToString());
  }
  CopyStaged(plan, running->job->sources, running->job->slot->Data());
  for (std::size_t i = 0; i < plan.Tensors().size(); ++i) {
    const PlannedTensor& tensor = plan.Tensors()[i];
    const bool lazy = tensor.device == kHostDevice && tensor.mode == CopyMode::kLazy;
    for (ByteCount at = 0; lazy && at < tensor.length; at += Running::kHostPieceBytes) {
      running->host_pieces.push_back(
          TensorPiece{i, at, std::min(Running::kHostPieceBytes, tensor.length - at)});
    }
  }
  return running;
}

Result<cudaStream_t> TrainerStream(std::span<const DeviceStream> streams, std::int32_t device) {
  const auto found = std::find_if(streams.begin(), streams.end(), [&](const DeviceStream& stream) {
    return stream.device == device;
  });
  if (found == streams.end()) {
    return Error(Errc::kInvalidArgument,
                 "no stream was named for device " + std::to_string(device));
  }
  auto* const stream = static_cast<cudaStream_t>(found->stream);
  HF_TRYV(CudaStatus(cudaSetDevice(device), "cudaSetDevice"));
  HF_TRY(const bool capturing, IsCapturing(stream));
  if (capturing) {
    return Error(Errc::kInvalidArgument,
                 "the stream on device " + std::to_string(device) +
                     " is being captured into a CUDA graph: take the snapshot outside the capture");
  }
  return stream;
}

Status CudaCopyEngine::BeginFlight(Running* running, Lane* lane, bool verify) {
  HF_TRY(cudaStream_t const stream, TrainerStream(running->job->streams, lane->Device()));
  Room* room = nullptr;
  {
    MutexLock lock(mutex_);
    room = lane->rooms().Take();
  }
  running->flights.push_back(std::make_unique<Flight>(lane, running->job, room));
  Flight* const flight = running->flights.back().get();
  flight->Begin(stream, verify);
  const auto& tensors = running->job->plan->Tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].device == lane->Device()) {
      running->flight_of[i] = flight;
    }
  }
  return Ok();
}

bool CudaCopyEngine::WaitFence(std::span<const DeviceStream> streams) {
  std::shared_ptr<Running> running;
  bool failed = false;
  {
    MutexLock lock(mutex_);
    running = current_;
    if (running == nullptr) {
      return true;
    }
    running->hurry = true;
    drive_.NotifyAll();
    while (!running->FenceOpen() && !Mutated(Mutation::kFenceWithoutHostWait)) {
      changed_.WaitUntil(lock, Recheck());
    }
    failed = running->failure.has_value();
  }
  if (!failed) {
    HoldBack(running, streams);
  }
  MutexLock lock(mutex_);
  current_.reset();
  changed_.NotifyAll();
  return running->ended;
}

void CudaCopyEngine::HoldBack(const std::shared_ptr<Running>& running,
                              std::span<const DeviceStream> streams) {
  if (running->flights.empty()) {
    return;
  }
  const TrainerThread guard;
  for (const auto& flight : running->flights) {
    std::vector<void*> handles;
    if (Mutated(Mutation::kNamedStreamIgnored)) {
      streams = {};
    }
    for (const auto& named : {std::span<const DeviceStream>(running->job->streams), streams}) {
      for (const DeviceStream& stream : named) {
        if (stream.device == flight->lane()->Device()) {
          handles.push_back(stream.stream);
        }
      }
    }
    std::sort(handles.begin(), handles.end());
    handles.erase(std::unique(handles.begin(), handles.end()), handles.end());
    for (void* handle : handles) {
      auto* const stream = static_cast<cudaStream_t>(handle);
      auto hold = [&]() -> Result<HeldBack> {
        HF_TRYV(CudaStatus(cudaSetDevice(flight->lane()->Device()), "cudaSetDevice"));
        HF_TRY(const bool capturing, IsCapturing(stream));
        if (capturing) {
          // A wait for an event of outside would break the capture: the host waits instead.
          WaitEnded(running);
          return HeldBack();
        }
        return flight->HoldBack(stream);
      };
      auto held = hold();
      MutexLock lock(mutex_);
      if (held.has_value()) {
        running->held_back.push_back(std::move(held).value());
      } else if (!running->failure.has_value()) {
        running->failure = held.error().ToString();  // the update is not held back: I7
      }
    }
  }
}

void CudaCopyEngine::WaitEnded(const std::shared_ptr<Running>& running) {
  MutexLock lock(mutex_);
  while (!running->landed_all) {
    changed_.WaitUntil(lock, Recheck());
  }
}

EngineState CudaCopyEngine::State() const {
  MutexLock lock(mutex_);
  return state_;
}

std::int32_t CudaCopyEngine::NumaNode() const {
  MutexLock lock(mutex_);
  return numa_node_;
}

void CudaCopyEngine::Stop() {
  {
    MutexLock lock(mutex_);
    if (current_ != nullptr) {
      current_->hurry = true;
    }
    current_.reset();
    stopping_ = true;
    drive_.NotifyAll();
    work_.NotifyAll();
  }
  for (std::thread& thread : threads_) {
    thread.join();
  }
  threads_.clear();
  if (!lanes_.empty() || !frozen_lanes_.empty()) {
    const TrainerThread guard;
    lanes_.clear();
    frozen_lanes_.clear();
  }
}

}  // namespace holdfast::client
