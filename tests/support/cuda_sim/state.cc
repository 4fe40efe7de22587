#include "tests/support/cuda_sim/state.h"

#include <cstdlib>
#include <utility>

#include <sys/mman.h>

namespace holdfast::cuda_sim {
namespace {

// Handles are no addresses, and never used again: a stale one is always found.
constexpr std::uintptr_t kFirstHandle = 0x5cda00000010;

void FreeMemory(State& state) HF_REQUIRES(state.mutex) {
  for (const auto& [address, allocation] : state.allocations) {
    ::munmap(allocation.view, allocation.range.end - allocation.range.begin);
  }
  for (const Range& range : state.reserved) {
    Unmap(range);
  }
  for (const auto& [address, host] : state.host_ranges) {
    Unmap(host.alias_mapping);
    if (host.owned) {
      Unmap(host.range);
    }
  }
  state.allocations.clear();
  state.reserved.clear();
  state.host_ranges.clear();
  state.pinned = 0;
}

void StopStreams(State& state, MutexLock& lock) HF_REQUIRES(state.mutex) {
  state.stopping = true;
  state.done.NotifyAll();
  std::vector<std::thread> threads;
  for (Stream* stream : AllStreams(state)) {
    stream->changed.NotifyAll();
    threads.push_back(std::move(stream->thread));
  }
  {
    const Unlocked unlocked(lock);
    for (std::thread& thread : threads) {
      if (thread.joinable()) {
        thread.join();
      }
    }
  }
  state.stopping = false;
}

// Left by an exit in the middle of a test: the threads must not outlive the libraries they use.
void StopAtExit() {
  Reset(Options{});
}

}  // namespace

std::uint64_t Random::Next() {
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

Range RangeOf(const void* pointer, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(pointer);
  return {begin, begin + bytes};
}

void Unmap(const Range& range) {
  if (range.end != range.begin) {
    ::munmap(PointerOf<void*>(range.begin), range.end - range.begin);
  }
}

State& TheState() {
  const Quiet quiet;
  static State* const state = [] {
    auto* made = new State;
    const MutexLock lock(made->mutex);
    made->generation = 1;
    made->next_handle = kFirstHandle;
    made->devices.resize(static_cast<std::size_t>(made->options.devices));
    std::atexit(StopAtExit);
    return made;
  }();
  return *state;
}

ThreadState& ThreadState::Of(State& state) {
  static thread_local ThreadState thread;
  if (thread.generation != state.generation) {
    thread = ThreadState{};
    thread.generation = state.generation;
  }
  return thread;
}

bool& InStreamBody() {
  static thread_local bool inside = false;
  return inside;
}

void AddViolation(State& state, std::string text) {
  state.violations.push_back(std::move(text));
}

void Reset(const Options& options) {
  State& state = TheState();
  const Quiet quiet;
  MutexLock lock(state.mutex);
  StopStreams(state, lock);
  state.streams.clear();
  state.retired.clear();
  state.events.clear();
  state.devices.clear();
  FreeMemory(state);
  state.failures.clear();
  state.copies_held = false;
  state.calls.clear();
  state.violations.clear();
  state.options = options;
  state.random = Random(options.seed);
  state.devices.resize(static_cast<std::size_t>(options.devices));
  ++state.generation;
}

void FailCall(const std::string& function, int nth, cudaError_t error, bool sticky) {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  state.failures.push_back({function, nth, error, sticky});
}

void HoldCopiesToHost(bool held) {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  state.copies_held = held;
  state.done.NotifyAll();
}

int CallCount(const std::string& function) {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  const auto found = state.calls.find(function);
  return found == state.calls.end() ? 0 : found->second;
}

LeakCount Leaks() {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  LeakCount count;
  count.streams = static_cast<int>(state.streams.size());
  count.events = static_cast<int>(state.events.size());
  count.device_allocations = static_cast<int>(state.allocations.size());
  for (const auto& [address, host] : state.host_ranges) {
    ++(host.owned ? count.host_allocations : count.registrations);
  }
  return count;
}

std::vector<std::string> Violations() {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  return state.violations;
}

}  // namespace holdfast::cuda_sim
