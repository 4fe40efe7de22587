// What an address is.
//
// Threads: under the simulator's lock.  What is returned is good until it is let go.
#pragma once

#include "tests/support/cuda_sim/state.h"

namespace holdfast::cuda_sim {

struct Place {
  enum class Kind { kDevice, kPinned, kPageable };
  Kind kind = Kind::kPageable;
  char* address = nullptr;  // for the host
  bool read_only = false;
  bool either = false;  // of a device, or the host's: host_is_device
  Range range;          // as the caller named it
};

// Null where there is none.
DeviceAllocation* FindAllocation(State& state, std::uintptr_t address) HF_REQUIRES(state.mutex);
HostRange* FindPinned(State& state, std::uintptr_t address) HF_REQUIRES(state.mutex);

// Also of memory that was freed.
bool IsDeviceAddress(State& state, std::uintptr_t address) HF_REQUIRES(state.mutex);

// An operand of a copy; an error, with a violation, where it leaves its allocation.
cudaError_t Resolve(State& state,
                    const void* pointer,
                    std::size_t bytes,
                    const char* function,
                    Place* place) HF_REQUIRES(state.mutex);

}  // namespace holdfast::cuda_sim
