// Hides the simulator's own locks and bookkeeping from ThreadSanitizer, which would else take each
// call of CUDA for an edge between threads and find no race of those who call it.
//
// Quiet  hides what its scope does; Loud ends that for a scope, for work on the memory of others.
// Release and Acquire make the edges that CUDA guarantees; they work in both.
//
// Threads: a scope belongs to its thread.  Without ThreadSanitizer all are empty.
#pragma once

#include <cstdint>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HF_CUDA_SIM_TSAN 1
#endif
#endif

#ifdef HF_CUDA_SIM_TSAN
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
void AnnotateIgnoreSyncBegin(const char* file, int line);
void AnnotateIgnoreSyncEnd(const char* file, int line);
void __tsan_acquire(void* address);  // NOLINT(bugprone-reserved-identifier): its name
void __tsan_release(void* address);  // NOLINT(bugprone-reserved-identifier): its name
}
#endif

namespace holdfast::cuda_sim {

// An address that edges are bound to.
struct alignas(8) Token {
  std::uint64_t unused = 0;
};

#ifdef HF_CUDA_SIM_TSAN

inline void Hide() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
}

inline void Show() {
  AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

#else

inline void Hide() {}

inline void Show() {}

#endif

inline thread_local bool hidden = false;

// A scope of one kind in a scope of the same kind changes nothing.
template <bool kHide>
class Scope {
 public:
  Scope() : before_(hidden) { Set(kHide); }

  ~Scope() { Set(before_); }

  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  static void Set(bool hide) {
    if (hide == hidden) {
      return;
    }
    hidden = hide;
    if (hide) {
      Hide();
    } else {
      Show();
    }
  }

  bool before_;
};

using Quiet = Scope<true>;
using Loud = Scope<false>;

inline void Release([[maybe_unused]] Token& token) {
#ifdef HF_CUDA_SIM_TSAN
  const Loud loud;
  __tsan_release(&token);
#endif
}

inline void Acquire([[maybe_unused]] Token& token) {
#ifdef HF_CUDA_SIM_TSAN
  const Loud loud;
  __tsan_acquire(&token);
#endif
}

}  // namespace holdfast::cuda_sim
