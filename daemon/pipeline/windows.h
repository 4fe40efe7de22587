// Work on a long range window by window, a bounded number of windows at a time, in bounded memory.
//
//   const Windows windows(length, 2 * kMiB);
//   auto step = [&job](std::uint64_t number) { return job.Window(number); };  // no coroutine
//   itself HF_CO_TRYV(co_await ForEachWindow(windows.Count(), 3, step));
//
// Threads:   the io thread only.
// Ownership: all of it lives in the frame of the caller, which ForEachWindow outlasts by nothing:
//            when it returns, no step runs any more, also after an error or a cancellation (I12).
// Errors:    the first error of a step; it cancels those that run, and no other begins.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/this_coro.hpp>

#include "common/bytes.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/result.h"
#include "common/task_group.h"
#include "common/units.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

// The windows of [0, length): all of "window" bytes but the last.  Windows are whole chunks, so
// that each can be checked by itself before anything is done with it (I5).
class Windows {
 public:
  Windows(ByteCount length, ByteCount window) : length_(length), window_(window) {
    HOLDFAST_CHECK(window > 0 && window % kChunkBytes == 0);
  }

  [[nodiscard]] std::uint64_t Count() const { return (length_ + window_ - 1) / window_; }

  [[nodiscard]] ByteCount Begin(std::uint64_t number) const { return number * window_; }

  [[nodiscard]] ByteCount Size(std::uint64_t number) const {
    return std::min(window_, length_ - std::min(length_, Begin(number)));
  }

  [[nodiscard]] ByteCount length() const { return length_; }

  [[nodiscard]] ByteCount window() const { return window_; }

 private:
  ByteCount length_;
  ByteCount window_;
};

// Buffers of one size for the windows in flight: made when first needed, used again by the windows
// that follow.
class ScratchPool {
 public:
  explicit ScratchPool(ByteCount bytes) : bytes_(bytes) {}

  ScratchPool(const ScratchPool&) = delete;
  ScratchPool& operator=(const ScratchPool&) = delete;

  // Goes back to the pool, which outlives it.
  class Lease {
   public:
    Lease(ScratchPool* pool, std::unique_ptr<std::byte[]> memory)
        : pool_(pool), memory_(std::move(memory)) {}

    ~Lease() {
      if (memory_ != nullptr) {
        pool_->free_.push_back(std::move(memory_));
      }
    }

    Lease(Lease&&) = default;
    Lease& operator=(Lease&&) = delete;

    [[nodiscard]] MutableByteView bytes() const { return {memory_.get(), pool_->bytes_}; }

   private:
    ScratchPool* pool_;
    std::unique_ptr<std::byte[]> memory_;
  };

  [[nodiscard]] Lease Take() {
    if (free_.empty()) {
      return {this, std::make_unique_for_overwrite<std::byte[]>(bytes_)};
    }
    std::unique_ptr<std::byte[]> memory = std::move(free_.back());
    free_.pop_back();
    return {this, std::move(memory)};
  }

 private:
  const ByteCount bytes_;
  std::vector<std::unique_ptr<std::byte[]>> free_;
};

namespace internal {

struct WindowRun {
  explicit WindowRun(std::uint64_t c) : count(c) {}

  const std::uint64_t count;
  std::uint64_t next = 0;
  Status outcome = Ok();
};

template <class Step>
boost::asio::awaitable<void> RunWindows(WindowRun* run, Step* step, TaskGroup* lanes) {
  while (run->outcome.has_value() && run->next < run->count) {
    if (co_await Cancelled()) {
      run->outcome = Error(Errc::kCancelled, "cancelled between two windows");
      break;
    }
    Status done = co_await (*step)(run->next++);
    if (!done.has_value() && run->outcome.has_value()) {
      run->outcome = std::move(done);
      lanes->Cancel();
    }
  }
}

}  // namespace internal

// Runs step(number) for the numbers below "count", begun in rising order, at most "limit" at a
// time.
template <class Step>
[[nodiscard]] boost::asio::awaitable<Status> ForEachWindow(std::uint64_t count,
                                                           std::size_t limit,
                                                           Step step) {
  HOLDFAST_CHECK(limit > 0);
  internal::WindowRun run(count);
  const std::size_t lanes = std::min<std::uint64_t>(limit, count);
  TaskGroup group(
      co_await boost::asio::this_coro::executor, "windows", std::max<std::size_t>(lanes, 1));
  for (std::size_t i = 0; i < lanes; ++i) {
    HOLDFAST_CHECK(group.Spawn(internal::RunWindows(&run, &step, &group)));
  }
  co_await group.Finish();
  co_return std::move(run.outcome);
}

}  // namespace holdfast::daemon
