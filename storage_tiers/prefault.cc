#include "storage_tiers/prefault.h"

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace holdfast::storage_tiers {
namespace {

constexpr ByteCount kTouchStride = 4 * kKiB;
constexpr unsigned kMaxThreads = 256;

Error NoMemoryError(int errno_value) {
  return Error(
      Errc::kNoSpace,
      "the arena's file system or the node's memory is exhausted: lower the budget or make "
      "the arena's file system larger",
      errno_value);
}

// One call's shared state.  Pieces are handed out by a counter, so that a slow thread (remote NUMA
// node) does not leave the others waiting with work left.
class PrefaultRun {
 public:
  PrefaultRun(int fd,
              MutableByteView mapping,
              const PrefaultOptions& options,
              const std::atomic<bool>& cancel)
      : fd_(fd),
        mapping_(mapping),
        piece_bytes_(options.piece_bytes),
        pieces_((mapping.size() + options.piece_bytes - 1) / options.piece_bytes),
        cancel_(cancel),
        use_populate_(options.use_populate) {}

  [[nodiscard]] ByteCount pieces() const { return pieces_; }

  void Work() {
    while (!stop_.load(std::memory_order_relaxed)) {
      const ByteCount piece = next_.fetch_add(1, std::memory_order_relaxed);
      if (piece >= pieces_) {
        return;
      }
      if (cancel_.load(std::memory_order_relaxed)) {
        Fail(Error(Errc::kCancelled, "pre-faulting was cancelled"));
        return;
      }
      const ByteCount offset = piece * piece_bytes_;
      const ByteCount length = std::min<ByteCount>(piece_bytes_, mapping_.size() - offset);
      if (Status done = MakePages(offset, length); !done) {
        Fail(std::move(done).error());
        return;
      }
    }
  }

  // After all threads are joined.
  Status Outcome() {
    if (error_) {
      return std::move(*error_);
    }
    return Ok();
  }

 private:
  Status MakePages(ByteCount offset, ByteCount length) {
    while (use_populate_.load(std::memory_order_relaxed)) {
      if (::madvise(mapping_.data() + offset, length, MADV_POPULATE_WRITE) == 0) {
        return Ok();
      }
      const int error = errno;
      switch (error) {
        case EINTR:
        case EAGAIN:
          if (cancel_.load(std::memory_order_relaxed)) {
            return Error(Errc::kCancelled, "pre-faulting was cancelled");
          }
          break;
        case EINVAL:
          use_populate_.store(false, std::memory_order_relaxed);
          break;
        // EFAULT is what a touch would have raised as SIGBUS: no page could be had.
        case EFAULT:
        case ENOMEM:
          return NoMemoryError(error);
        default:
          return ErrnoError(error, "madvise(MADV_POPULATE_WRITE)");
      }
    }
    return Touch(offset, length);
  }

  Status Touch(ByteCount offset, ByteCount length) {
    // Reserves first, because a store to a page that cannot be had is a signal, not an error.
    while (::fallocate(fd_, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
      if (errno == EOPNOTSUPP) {
        break;
      }
      if (errno == ENOSPC || errno == ENOMEM) {
        return NoMemoryError(errno);
      }
      if (errno != EINTR) {
        return ErrnoError(errno, "fallocate");
      }
      if (cancel_.load(std::memory_order_relaxed)) {
        return Error(Errc::kCancelled, "pre-faulting was cancelled");
      }
    }
    for (ByteCount at = 0; at < length; at += kTouchStride) {
      *static_cast<volatile std::byte*>(mapping_.data() + offset + at) = std::byte{0};
    }
    return Ok();
  }

  void Fail(Error error) {
    stop_.store(true, std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    if (!error_) {
      error_ = std::move(error);
    }
  }

  // Constant after construction.
  const int fd_;
  const MutableByteView mapping_;
  const ByteCount piece_bytes_;
  const ByteCount pieces_;
  const std::atomic<bool>& cancel_;

  std::atomic<bool> use_populate_;
  std::atomic<ByteCount> next_{0};
  std::atomic<bool> stop_{false};

  std::mutex mutex_;
  std::optional<Error> error_;  // the first; guarded by mutex_ until the threads are joined
};

}  // namespace

Status Prefault(int fd,
                MutableByteView mapping,
                const PrefaultOptions& options,
                const std::atomic<bool>& cancel) {
  if (options.threads == 0 || options.threads > kMaxThreads || options.piece_bytes == 0 ||
      options.piece_bytes % kTouchStride != 0) {
    return Error(Errc::kInvalidArgument,
                 "pre-faulting needs 1 to 256 threads and pieces of whole pages, not " +
                     std::to_string(options.threads) + " and " +
                     std::to_string(options.piece_bytes) + " bytes");
  }
  PrefaultRun run(fd, mapping, options, cancel);
  {
    std::vector<std::jthread> helpers;
    const auto wanted = std::min<ByteCount>(options.threads, run.pieces());
    for (ByteCount i = 1; i < wanted; ++i) {
      try {
        helpers.emplace_back([&run] { run.Work(); });
      } catch (const std::system_error&) {
        break;  // no more threads to be had: fewer do the same work
      }
    }
    run.Work();
  }
  return run.Outcome();
}

}  // namespace holdfast::storage_tiers
