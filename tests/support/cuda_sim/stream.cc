// Streams: a queue and a thread each.
#include <chrono>
#include <utility>

#include <sys/prctl.h>

#include "tests/support/cuda_sim/delay.h"
#include "tests/support/cuda_sim/state.h"

namespace holdfast::cuda_sim {
namespace {

// A wait of the simulator ends by an event, never by time; the deadline only suits CondVar.
MonotonicTime Never() {
  return std::chrono::steady_clock::now() + std::chrono::hours(1);
}

// False when the simulator stops first.
bool AwaitLink(State& state, MutexLock& lock, const Operation& operation) HF_REQUIRES(state.mutex) {
  while (operation.to_pinned && state.copies_held && !state.stopping) {
    state.done.WaitUntil(lock, Never());
  }
  return !state.stopping;
}

// False when the simulator stops first.
bool AwaitOthers(State& state, MutexLock& lock, const Operation& operation)
    HF_REQUIRES(state.mutex) {
  for (const std::shared_ptr<Operation>& other : operation.after) {
    while (!other->done && !state.stopping) {
      state.done.WaitUntil(lock, Never());
    }
    if (state.stopping) {
      return false;
    }
    Acquire(other->finished);
  }
  return true;
}

void RunBody(State& state, MutexLock& lock, Stream& stream, Operation& operation)
    HF_REQUIRES(state.mutex) {
  const bool failed = state.devices[static_cast<std::size_t>(stream.device)].sticky != cudaSuccess;
  const std::chrono::microseconds max_delay = state.options.max_delay;
  std::function<void(Random&)> body = std::move(operation.body);
  {
    const Unlocked unlocked(lock);
    const Loud loud;
    Acquire(operation.queued);
    Delay(stream.random, max_delay);
    if (body && !failed) {
      InStreamBody() = true;
      body(stream.random);
      InStreamBody() = false;
    }
    // What the body holds is given back here, where the edges of its owners are seen.
    body = nullptr;
    Release(operation.finished);
  }
  if (operation.fault != cudaSuccess && !failed) {
    state.devices[static_cast<std::size_t>(stream.device)].sticky = operation.fault;
  }
}

void RunStream(State& state, Stream& stream) {
  const Quiet quiet;
  // Delays of microseconds are meant: the kernel rounds them up by 50 else.
  ::prctl(PR_SET_TIMERSLACK, 1);
  MutexLock lock(state.mutex);
  while (true) {
    while (stream.queue.empty() && !stream.destroyed && !state.stopping) {
      stream.changed.WaitUntil(lock, Never());
    }
    if (state.stopping || stream.queue.empty()) {
      return;
    }
    const std::shared_ptr<Operation> operation = stream.queue.front();
    if (!AwaitOthers(state, lock, *operation) || !AwaitLink(state, lock, *operation)) {
      return;
    }
    RunBody(state, lock, stream, *operation);
    operation->after.clear();
    operation->done = true;
    operation->done_at = std::chrono::steady_clock::now();
    stream.queue.pop_front();
    state.done.NotifyAll();
  }
}

// The legacy stream and those that are not cudaStreamNonBlocking wait for each other.
void OrderWithLegacy(State& state, const Stream& stream, Operation& operation)
    HF_REQUIRES(state.mutex) {
  const auto add = [&operation](const std::shared_ptr<Operation>& last) {
    if (last && !last->done) {
      operation.after.push_back(last);
    }
  };
  if (!stream.legacy) {
    const Device& device = state.devices[static_cast<std::size_t>(stream.device)];
    if ((stream.flags & cudaStreamNonBlocking) == 0 && device.legacy) {
      add(device.legacy->last);
    }
    return;
  }
  for (Stream* other : AllStreams(state)) {
    const bool blocking = (other->flags & cudaStreamNonBlocking) == 0;
    if (other->device == stream.device && !other->legacy && blocking) {
      add(other->last);
    }
  }
}

}  // namespace

std::unique_ptr<Stream> NewStream(State& state, int device, unsigned flags) {
  auto stream = std::make_unique<Stream>();
  stream->handle = state.next_handle;
  state.next_handle += 16;
  stream->device = device;
  stream->flags = flags;
  stream->random = Random(state.random.Next());
  stream->thread = std::thread([&state, raw = stream.get()] { RunStream(state, *raw); });
  return stream;
}

Stream* FindStream(State& state, cudaStream_t handle, const char* function) {
  if (handle == nullptr || handle == cudaStreamLegacy) {
    const int device = ThreadState::Of(state).device;
    std::unique_ptr<Stream>& legacy = state.devices[static_cast<std::size_t>(device)].legacy;
    if (!legacy) {
      legacy = NewStream(state, device, cudaStreamDefault);
      legacy->legacy = true;
    }
    return legacy.get();
  }
  const auto found = state.streams.find(reinterpret_cast<std::uintptr_t>(handle));
  if (found != state.streams.end()) {
    return found->second.get();
  }
  AddViolation(state, std::string(function) + ": a stream that was destroyed or never made");
  return nullptr;
}

std::vector<Stream*> AllStreams(State& state) {
  std::vector<Stream*> all;
  for (const Device& device : state.devices) {
    if (device.legacy) {
      all.push_back(device.legacy.get());
    }
  }
  for (const auto& [handle, stream] : state.streams) {
    all.push_back(stream.get());
  }
  for (const auto& stream : state.retired) {
    all.push_back(stream.get());
  }
  return all;
}

void Enqueue(State& state, Stream& stream, const std::shared_ptr<Operation>& operation) {
  OrderWithLegacy(state, stream, *operation);
  Release(operation->queued);
  stream.queue.push_back(operation);
  stream.last = operation;
  stream.changed.NotifyOne();
}

void Await(State& state, MutexLock& lock, std::shared_ptr<Operation> operation) {
  if (!operation) {
    return;
  }
  while (!operation->done) {
    state.done.WaitUntil(lock, Never());
  }
  Acquire(operation->finished);
}

void Settle(State& state, MutexLock& lock, const Stream& stream) {
  if (state.options.host_is_device && stream.legacy) {
    Await(state, lock, stream.last);
  }
}

void AwaitDevice(State& state, MutexLock& lock, int device) {
  std::vector<std::shared_ptr<Operation>> last;
  for (const Stream* stream : AllStreams(state)) {
    if (stream->device == device) {
      last.push_back(stream->last);
    }
  }
  for (const auto& operation : last) {
    Await(state, lock, operation);
  }
}

std::shared_ptr<Operation> FindUser(State& state, const Range& range, bool on_failed_devices) {
  for (const Stream* stream : AllStreams(state)) {
    const Device& device = state.devices[static_cast<std::size_t>(stream->device)];
    if (!on_failed_devices && device.sticky != cudaSuccess) {
      continue;
    }
    for (const auto& operation : stream->queue) {
      for (const Range& used : operation->uses) {
        if (used.Overlaps(range)) {
          return operation;
        }
      }
    }
  }
  return nullptr;
}

void AwaitUsers(State& state, MutexLock& lock, const Range& range) {
  while (const std::shared_ptr<Operation> user = FindUser(state, range)) {
    Await(state, lock, user);
  }
}

void ExpectAtRest(const void* pointer, std::size_t bytes, const std::string& what) {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  if (FindUser(state, RangeOf(pointer, bytes), /*on_failed_devices=*/false)) {
    AddViolation(state, what + " under a queued copy");
  }
}

}  // namespace holdfast::cuda_sim
