// A kernel that runs as long as a test wants.
//
// Threads: any.  What was done before Open happens before the work that is queued behind Hold.
// Errors:  a gate that stays shut for a minute opens by itself, so that a test fails in place of
//          hanging.  It opens when it is destroyed.
#pragma once

#include <chrono>
#include <memory>

#include <cuda_runtime_api.h>

#include "common/mutex.h"
#include "tests/support/cuda_sim/cuda_sim.h"

namespace holdfast::cuda_sim {

class Gate {
 public:
  Gate() = default;

  ~Gate() { Open(); }

  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // Queues the kernel.
  cudaError_t Hold(cudaStream_t stream) {
    return Launch(stream, [door = door_] { Wait(*door); });
  }

  void Open() {
    const MutexLock lock(door_->mutex);
    door_->open = true;
    door_->opened.NotifyAll();
  }

 private:
  struct Door {
    Mutex mutex;
    CondVar opened;
    bool open HF_GUARDED_BY(mutex) = false;
  };

  static void Wait(Door& door) {
    MutexLock lock(door.mutex);
    const MonotonicTime deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!door.open) {
      if (!door.opened.WaitUntil(lock, deadline)) {
        return;
      }
    }
  }

  // Shared: the kernel may still be on its way out when the gate's scope ends.
  std::shared_ptr<Door> door_ = std::make_shared<Door>();
};

}  // namespace holdfast::cuda_sim
