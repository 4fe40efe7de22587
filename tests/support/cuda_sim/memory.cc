// Memory: of devices, pinned and registered.
#include "tests/support/cuda_sim/memory.h"

#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <iterator>

#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/cuda_sim/call.h"

namespace holdfast::cuda_sim {
namespace {

std::uintptr_t PageSize() {
  static const auto size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

std::size_t RoundUp(std::size_t bytes) {
  return (bytes + PageSize() - 1) / PageSize() * PageSize();
}

char* Map(std::size_t bytes, int protection, int flags) {
  void* mapped = ::mmap(nullptr, bytes, protection, MAP_ANONYMOUS | flags, -1, 0);
  return mapped == MAP_FAILED ? nullptr : static_cast<char*>(mapped);
}

// Of a map from the begin of a range: the entry that may hold the address.
template <typename T>
T* Before(std::map<std::uintptr_t, T>& map, std::uintptr_t address) {
  const auto after = map.upper_bound(address);
  return after == map.begin() ? nullptr : &std::prev(after)->second;
}

bool OverlapsPinned(State& state, const Range& range) HF_REQUIRES(state.mutex) {
  for (const auto& [begin, host] : state.host_ranges) {
    if (host.range.Overlaps(range)) {
      return true;
    }
  }
  return false;
}

// Whether all of it is mapped so that it can be read, and written unless that does not matter.
bool MappedFor(const Range& range, bool write) {
  std::ifstream maps("/proc/self/maps");
  std::uintptr_t reached = range.begin;
  for (std::string line; reached < range.end && std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    char rights[5] = {};
    // NOLINTNEXTLINE(cert-err34-c): the kernel's own format
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %4s", &begin, &end, rights) != 3) {
      return false;
    }
    if (reached < begin) {
      return false;
    }
    if (reached >= end) {
      continue;
    }
    if (rights[0] != 'r' || (write && rights[1] != 'w')) {
      return false;
    }
    reached = end;
  }
  return reached >= range.end;
}

// A second view of shared pages that a forked child has too, whatever the first view's advice says.
void MakeAlias(HostRange& host) {
  const std::uintptr_t begin = host.range.begin / PageSize() * PageSize();
  const std::size_t bytes = RoundUp(host.range.end - begin);
  void* alias = ::mremap(PointerOf<void*>(begin), 0, bytes, MREMAP_MAYMOVE);
  if (alias == MAP_FAILED) {
    return;
  }
  ::madvise(alias, bytes, MADV_DOFORK);
  host.alias = static_cast<char*>(alias) + (host.range.begin - begin);
  host.alias_mapping = RangeOf(alias, bytes);
}

cudaError_t AllocateHost(const char* function, void** out, std::size_t bytes, unsigned flags) {
  State& state = TheState();
  Call call(state, function, kUnsafeInCapture);
  if (!call.ok()) {
    return call.error();
  }
  if (out == nullptr) {
    return call.Return(cudaErrorInvalidValue);
  }
  *out = nullptr;
  if (bytes == 0) {
    return call.Return(cudaSuccess);
  }
  if (bytes > state.options.pinned_bytes - state.pinned) {
    return call.Return(cudaErrorMemoryAllocation);
  }
  char* memory = Map(RoundUp(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE);
  if (memory == nullptr) {
    return call.Return(cudaErrorMemoryAllocation);
  }
  HostRange host;
  host.range = RangeOf(memory, RoundUp(bytes));
  host.owned = true;
  host.flags = flags;
  host.device = call.thread().device;
  state.pinned += RoundUp(bytes);
  state.host_ranges[host.range.begin] = host;
  *out = memory;
  return call.Return(cudaSuccess);
}

// Gives a pinned range back, after the copies that still use it.
cudaError_t GiveBack(State& state, Call& call, void* pointer, bool owned) HF_REQUIRES(state.mutex) {
  const auto found = state.host_ranges.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (found == state.host_ranges.end() || found->second.owned != owned) {
    AddViolation(state, std::string(call.function()) + ": not the begin of such a range");
    return owned ? cudaErrorInvalidValue : cudaErrorHostMemoryNotRegistered;
  }
  const HostRange host = found->second;
  if (FindUser(state, host.range, /*on_failed_devices=*/false)) {
    AddViolation(state, std::string(call.function()) + " under a queued copy");
  }
  AwaitUsers(state, call.lock(), host.range);
  state.host_ranges.erase(host.range.begin);
  state.pinned -= host.range.end - host.range.begin;
  Unmap(host.alias_mapping);
  if (owned) {
    ::munmap(pointer, host.range.end - host.range.begin);
  }
  return cudaSuccess;
}

}  // namespace

DeviceAllocation* FindAllocation(State& state, std::uintptr_t address) {
  DeviceAllocation* found = Before(state.allocations, address);
  return found != nullptr && address < found->range.end ? found : nullptr;
}

HostRange* FindPinned(State& state, std::uintptr_t address) {
  HostRange* found = Before(state.host_ranges, address);
  return found != nullptr && address < found->range.end ? found : nullptr;
}

bool IsDeviceAddress(State& state, std::uintptr_t address) {
  for (const Range& range : state.reserved) {
    if (range.begin <= address && address < range.end) {
      return true;
    }
  }
  return false;
}

cudaError_t Resolve(
    State& state, const void* pointer, std::size_t bytes, const char* function, Place* place) {
  const Range range = RangeOf(pointer, bytes);
  place->range = range;
  if (const DeviceAllocation* found = FindAllocation(state, range.begin)) {
    if (!found->range.Holds(range)) {
      AddViolation(state, std::string(function) + " beyond the end of a device allocation");
      return cudaErrorInvalidValue;
    }
    place->kind = Place::Kind::kDevice;
    place->address = found->view + (range.begin - found->range.begin);
    return cudaSuccess;
  }
  if (IsDeviceAddress(state, range.begin)) {
    AddViolation(state, std::string(function) + " of device memory that is not allocated");
    return cudaErrorInvalidValue;
  }
  place->address = PointerOf<char*>(range.begin);
  const HostRange* pinned = FindPinned(state, range.begin);
  if (pinned == nullptr && !OverlapsPinned(state, range)) {
    place->either = state.options.host_is_device;
    place->kind = place->either ? Place::Kind::kDevice : Place::Kind::kPageable;
    return cudaSuccess;
  }
  if (pinned == nullptr || !pinned->range.Holds(range)) {
    AddViolation(state, std::string(function) + " across the edge of a pinned range");
    return cudaErrorInvalidValue;
  }
  place->kind = Place::Kind::kPinned;
  place->read_only = pinned->read_only;
  return cudaSuccess;
}

void* HostView(const void* device_pointer) {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  const auto address = reinterpret_cast<std::uintptr_t>(device_pointer);
  const DeviceAllocation* found = FindAllocation(state, address);
  if (found != nullptr) {
    return found->view + (address - found->range.begin);
  }
  return state.options.host_is_device ? PointerOf<void*>(address) : nullptr;
}

}  // namespace holdfast::cuda_sim

using namespace holdfast::cuda_sim;  // NOLINT(google-build-using-namespace): CUDA's own names below

extern "C" {

cudaError_t cudaMalloc(void** out, std::size_t bytes) {
  State& state = TheState();
  Call call(state, "cudaMalloc", kUnsafeInCapture);
  if (!call.ok()) {
    return call.error();
  }
  if (out == nullptr) {
    return call.Return(cudaErrorInvalidValue);
  }
  *out = nullptr;
  if (bytes == 0) {
    return call.Return(cudaSuccess);
  }
  Device& device = state.devices[static_cast<std::size_t>(call.thread().device)];
  if (bytes > state.options.device_bytes - device.used) {
    return call.Return(cudaErrorMemoryAllocation);
  }
  // One page more keeps the allocations apart: no address is behind the end of one and in another.
  const std::size_t reserved = RoundUp(bytes) + PageSize();
  char* address = Map(reserved, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
  char* view = Map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  if (address == nullptr || view == nullptr) {
    return call.Return(cudaErrorMemoryAllocation);
  }
  device.used += bytes;
  state.reserved.push_back(RangeOf(address, reserved));
  const Range range = RangeOf(address, bytes);
  state.allocations[range.begin] = {range, view, call.thread().device};
  *out = address;
  return call.Return(cudaSuccess);
}

// Waits for all of the device, as the real one.
cudaError_t cudaFree(void* pointer) {
  State& state = TheState();
  Call call(state, "cudaFree", kUnsafeInCapture | kGivesBack);
  if (!call.ok()) {
    return call.error();
  }
  if (pointer == nullptr) {
    return call.Return(cudaSuccess);
  }
  const auto found = state.allocations.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (found == state.allocations.end()) {
    AddViolation(state, "cudaFree: not the begin of an allocation");
    return call.Return(cudaErrorInvalidValue);
  }
  const DeviceAllocation allocation = found->second;
  if (FindUser(state, allocation.range, /*on_failed_devices=*/false)) {
    AddViolation(state, "cudaFree under a queued copy");
  }
  AwaitDevice(state, call.lock(), allocation.device);
  AwaitUsers(state, call.lock(), allocation.range);
  const std::size_t bytes = allocation.range.end - allocation.range.begin;
  ::munmap(allocation.view, bytes);
  state.devices[static_cast<std::size_t>(allocation.device)].used -= bytes;
  state.allocations.erase(allocation.range.begin);
  return call.Return(cudaSuccess);
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  State& state = TheState();
  Call call(state, "cudaMemGetInfo");
  if (!call.ok()) {
    return call.error();
  }
  const Device& device = state.devices[static_cast<std::size_t>(call.thread().device)];
  *total = state.options.device_bytes;
  *free = state.options.device_bytes - device.used;
  return call.Return(cudaSuccess);
}

cudaError_t cudaHostAlloc(void** out, std::size_t bytes, unsigned flags) {
  return AllocateHost("cudaHostAlloc", out, bytes, flags);
}

cudaError_t cudaMallocHost(void** out, std::size_t bytes) {
  return AllocateHost("cudaMallocHost", out, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* pointer) {
  State& state = TheState();
  Call call(state, "cudaFreeHost", kUnsafeInCapture | kGivesBack);
  if (!call.ok()) {
    return call.error();
  }
  if (pointer == nullptr) {
    return call.Return(cudaSuccess);
  }
  return call.Return(GiveBack(state, call, pointer, true));
}

cudaError_t cudaHostRegister(void* pointer, std::size_t bytes, unsigned flags) {
  State& state = TheState();
  Call call(state, "cudaHostRegister", kUnsafeInCapture);
  if (!call.ok()) {
    return call.error();
  }
  constexpr unsigned kKnown = cudaHostRegisterPortable | cudaHostRegisterMapped |
                              cudaHostRegisterIoMemory | cudaHostRegisterReadOnly;
  if (pointer == nullptr || bytes == 0 || (flags & ~kKnown) != 0) {
    return call.Return(cudaErrorInvalidValue);
  }
  HostRange host;
  host.range = RangeOf(pointer, bytes);
  host.read_only = (flags & cudaHostRegisterReadOnly) != 0;
  host.flags = flags;
  host.device = call.thread().device;
  if (OverlapsPinned(state, host.range)) {
    AddViolation(state, "cudaHostRegister of what is pinned already");
    return call.Return(cudaErrorHostMemoryAlreadyRegistered);
  }
  if (!MappedFor(host.range, !host.read_only)) {
    return call.Return(cudaErrorInvalidValue);
  }
  if (bytes > state.options.pinned_bytes - state.pinned) {
    return call.Return(cudaErrorMemoryAllocation);
  }
  MakeAlias(host);
  state.pinned += bytes;
  state.host_ranges[host.range.begin] = host;
  return call.Return(cudaSuccess);
}

cudaError_t cudaHostUnregister(void* pointer) {
  State& state = TheState();
  Call call(state, "cudaHostUnregister", kUnsafeInCapture | kGivesBack);
  if (!call.ok()) {
    return call.error();
  }
  return call.Return(GiveBack(state, call, pointer, false));
}

cudaError_t cudaHostGetDevicePointer(void** out, void* pointer, unsigned) {
  State& state = TheState();
  Call call(state, "cudaHostGetDevicePointer");
  if (!call.ok()) {
    return call.error();
  }
  if (FindPinned(state, reinterpret_cast<std::uintptr_t>(pointer)) == nullptr) {
    return call.Return(cudaErrorInvalidValue);
  }
  *out = pointer;
  return call.Return(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* pointer) {
  State& state = TheState();
  Call call(state, "cudaPointerGetAttributes");
  if (!call.ok()) {
    return call.error();
  }
  if (out == nullptr) {
    return call.Return(cudaErrorInvalidValue);
  }
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  *out = {};
  out->type = cudaMemoryTypeUnregistered;
  out->device = cudaInvalidDeviceId;
  if (const DeviceAllocation* device = FindAllocation(state, address)) {
    out->type = cudaMemoryTypeDevice;
    out->device = device->device;
    out->devicePointer = PointerOf<void*>(address);
  } else if (const HostRange* host = FindPinned(state, address)) {
    out->type = cudaMemoryTypeHost;
    out->device = host->device;
    out->devicePointer = out->hostPointer = PointerOf<void*>(address);
  }
  return call.Return(cudaSuccess);
}

}  // extern "C"
