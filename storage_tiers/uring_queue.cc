#include "storage_tiers/uring_queue.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <string>
#include <utility>

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

namespace holdfast::storage_tiers {

namespace {

// Marks completions that answer no request of the caller: cancellations and withdrawn entries.
// Not ~0, which liburing keeps for its own time-outs.
constexpr std::uint64_t kOwnTag = ~std::uint64_t{0} - 1;

constexpr int kSubmitTries = 100;

// Orders the life of a ring before that of a later one at the same address.  liburing maps rings by
// system calls of its own, which ThreadSanitizer does not see: without this it takes the next
// thread's ring for the last one's.
std::atomic<std::uint64_t> rings_ended = 0;

class UringQueue final : public IoQueue {
 public:
  UringQueue() = default;

  ~UringQueue() override {
    if (open_) {
      rings_ended.fetch_add(1, std::memory_order_acq_rel);
      io_uring_queue_exit(&ring_);
    }
  }

  Status Open(unsigned depth) {
    // Room for a cancellation beside every request.
    const int error = io_uring_queue_init(depth * 2, &ring_, 0);
    if (error < 0) {
      // Kernels before 5.12 count rings as locked memory of the user.
      const std::string hint =
          error == -ENOMEM ? " (raise the limit of locked memory: LimitMEMLOCK=, ulimit -l)" : "";
      return Error(Errc::kUnavailable, ErrnoError(-error, "io_uring_setup").message + hint, -error);
    }
    (void)rings_ended.load(std::memory_order_acquire);
    open_ = true;
    return Ok();
  }

  Status Submit(const IoRequest& request) override {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
      return Error(Errc::kInternal, "io_uring submission queue is full: more requests than depth");
    }
    switch (request.kind) {
      case IoRequest::Kind::kRead:
        io_uring_prep_read(entry, request.fd, request.memory, request.length, request.offset);
        break;
      case IoRequest::Kind::kWrite:
        io_uring_prep_write(entry, request.fd, request.memory, request.length, request.offset);
        break;
      case IoRequest::Kind::kSync:
        io_uring_prep_fsync(entry, request.fd, 0);
        break;
    }
    io_uring_sqe_set_data64(entry, request.tag);
    return SubmitEntry(entry);
  }

  Result<IoCompletion> Wait(std::chrono::milliseconds timeout) override {
    using std::chrono::steady_clock;
    const steady_clock::time_point deadline = steady_clock::now() + timeout;
    while (true) {
      const auto left = std::max(std::chrono::nanoseconds(0),
                                 std::chrono::nanoseconds(deadline - steady_clock::now()));
      __kernel_timespec limit = {.tv_sec = left.count() / 1'000'000'000,
                                 .tv_nsec = left.count() % 1'000'000'000};
      io_uring_cqe* completion = nullptr;
      const int error = io_uring_wait_cqe_timeout(&ring_, &completion, &limit);
      if (error == -ETIME || (error == -EINTR && left.count() == 0)) {
        return Error(Errc::kTimeout, "no file request finished in time");
      }
      if ((error == -EINTR || error == -EAGAIN) && left.count() > 0) {
        continue;
      }
      if (error < 0) {
        return ErrnoError(-error, "io_uring_enter");
      }
      const IoCompletion found{io_uring_cqe_get_data64(completion), completion->res};
      io_uring_cqe_seen(&ring_, completion);
      if (found.tag != kOwnTag) {
        return found;
      }
    }
  }

  void Cancel(std::uint64_t tag) override {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
      return;  // only a request, and the queue is busy with others
    }
    io_uring_prep_cancel64(entry, tag, 0);
    io_uring_sqe_set_data64(entry, kOwnTag);
    (void)SubmitEntry(entry);
  }

 private:
  Status SubmitEntry(io_uring_sqe* entry) {
    int submitted = 0;
    for (int i = 0; i < kSubmitTries; ++i) {
      submitted = io_uring_submit(&ring_);
      if (submitted > 0) {
        return Ok();
      }
      if (submitted != -EINTR && submitted != -EAGAIN && submitted != -EBUSY) {
        break;
      }
    }
    // The entry stays in the ring and would go out with the next one, when its memory may be gone:
    // make it harmless.
    io_uring_prep_nop(entry);
    io_uring_sqe_set_data64(entry, kOwnTag);
    return ErrnoError(submitted < 0 ? -submitted : EAGAIN, "io_uring submit");
  }

  io_uring ring_ = {};
  bool open_ = false;
};

class BlockingQueue final : public IoQueue {
 public:
  Status Submit(const IoRequest& request) override {
    std::int64_t moved = -1;
    do {
      moved = Call(request);
    } while (moved == -1 && errno == EINTR && request.kind != IoRequest::Kind::kSync);
    done_.push_back({request.tag, static_cast<std::int32_t>(moved == -1 ? -errno : moved)});
    return Ok();
  }

  Result<IoCompletion> Wait(std::chrono::milliseconds) override {
    if (done_.empty()) {
      return Error(Errc::kTimeout, "no file request is in flight");
    }
    const IoCompletion first = done_.front();
    done_.pop_front();
    return first;
  }

  void Cancel(std::uint64_t) override {}

 private:
  static std::int64_t Call(const IoRequest& request) {
    switch (request.kind) {
      case IoRequest::Kind::kRead:
        return ::pread(
            request.fd, request.memory, request.length, static_cast<off_t>(request.offset));
      case IoRequest::Kind::kWrite:
        return ::pwrite(
            request.fd, request.memory, request.length, static_cast<off_t>(request.offset));
      case IoRequest::Kind::kSync:
        return ::fsync(request.fd);
    }
    errno = EINVAL;
    return -1;
  }

  std::deque<IoCompletion> done_;  // as many as the caller has in flight
};

}  // namespace

Result<std::unique_ptr<IoQueue>> OpenUringQueue(unsigned depth) {
  auto queue = std::make_unique<UringQueue>();
  HF_TRYV(queue->Open(depth));
  return queue;
}

std::unique_ptr<IoQueue> MakeBlockingQueue() {
  return std::make_unique<BlockingQueue>();
}

}  // namespace holdfast::storage_tiers
