#include "storage_tiers/uring_io.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/bandwidth_budget.h"
#include "common/check.h"
#include "storage_tiers/uring_parked.h"

namespace holdfast::storage_tiers {

namespace {

// How often the cancel flag is looked at while nothing finishes.
constexpr std::chrono::milliseconds kSlice{50};

// After a time-out the requests are cancelled and get so long to come back.
constexpr std::chrono::milliseconds kCancelGrace{1'000};

// A block that moves nothing, again and again, is an error and not a reason to spin.
constexpr int kMaxIdleTries = 16;

struct alignas(kDirectAlignment) Page {
  std::array<std::byte, kDirectAlignment> bytes{};
};

// One block: where it is in the file, and how far it has come.
struct Block {
  bool busy = false;
  ByteCount offset = 0;
  ByteCount length = 0;  // to move; for a bounced tail a whole page
  ByteCount done = 0;
  std::byte* memory = nullptr;
  ByteCount useful = 0;  // bytes of the image in it, at most length
  int idle_tries = 0;
  bool sync = false;
};

class Mover {
 public:
  Mover(ImageTransfer& transfer,
        bool writing,
        std::byte* memory,
        ByteCount size,
        const ImageIoOptions& options)
      : transfer_(transfer),
        writing_(writing),
        memory_(memory),
        size_(size),
        options_(options),
        blocks_(std::min<ByteCount>(options.blocks_in_flight, size / options.block_bytes + 2)) {
    // A page is needed only where O_DIRECT cannot move the tail itself.
    if (transfer_.direct && size_ % kDirectAlignment != 0) {
      bounce_ = std::make_shared<Page>();
    }
  }

  // Moves all bytes; afterwards nothing is in flight, or it was parked.
  Status Move() {
    while (true) {
      while (!failure_ && next_ < size_ && in_flight_ < blocks_.size()) {
        Keep(StartNext());
      }
      if (in_flight_ == 0) {
        return Outcome();
      }
      if (std::optional<Status> parked = HandleOne(options_.progress_timeout)) {
        return std::move(*parked);
      }
    }
  }

  Status Sync() {
    Block& block = blocks_.front();
    block = Block{};
    block.sync = true;
    Keep(Submit(block));
    while (in_flight_ > 0) {
      if (std::optional<Status> parked = HandleOne(options_.sync_timeout)) {
        return std::move(*parked);
      }
    }
    return Outcome();
  }

  [[nodiscard]] bool padded() const { return bounce_ != nullptr; }

 private:
  [[nodiscard]] bool Cancelled() const {
    return options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed);
  }

  Error CancelledError() const {
    return Error(Errc::kCancelled, transfer_.path + ": transfer cancelled");
  }

  void Keep(Status status) {
    if (!status && !failure_) {
      failure_ = std::move(status).error();
    }
  }

  Status Outcome() {
    if (failure_) {
      return *failure_;
    }
    return Ok();
  }

  Status StartNext() {
    if (Cancelled()) {
      return CancelledError();
    }
    const ByteCount aligned = bounce_ != nullptr ? size_ - size_ % kDirectAlignment : size_;
    Block block;
    block.offset = next_;
    if (next_ < aligned) {
      block.length = std::min(options_.block_bytes, aligned - next_);
      block.useful = block.length;
      block.memory = memory_ + next_;
    } else {
      block.length = kDirectAlignment;
      block.useful = size_ - next_;
      block.memory = bounce_->bytes.data();
    }
    if (options_.budget != nullptr) {
      HF_TRYV(options_.budget->Acquire(block.useful, options_.cancel));
    }
    if (writing_) {
      HF_TRYV(InspectSource(block));
      if (block.memory != memory_ + next_) {
        std::memcpy(block.memory, memory_ + next_, block.useful);
      }
    }
    next_ += block.useful;
    Block& place =
        *std::find_if(blocks_.begin(), blocks_.end(), [](const Block& b) { return !b.busy; });
    place = block;
    return Submit(place);
  }

  // A bounced tail belongs to the block before it: inspect must see whole chunks, so it sees the
  // tail together with that block, and the tail alone only where there is no such block.
  Status InspectSource(const Block& block) {
    if (!options_.inspect || block.offset < inspected_) {
      return Ok();
    }
    const ByteCount end = std::min(size_, block.offset + options_.block_bytes);
    inspected_ = end;
    return options_.inspect(block.offset, ByteView(memory_ + block.offset, end - block.offset));
  }

  Status Submit(Block& block) {
    IoRequest request;
    request.kind = block.sync ? IoRequest::Kind::kSync
                              : (writing_ ? IoRequest::Kind::kWrite : IoRequest::Kind::kRead);
    request.fd = transfer_.fd.get();
    request.tag = static_cast<std::uint64_t>(&block - blocks_.data());
    if (!block.sync) {
      request.memory = block.memory + block.done;
      request.length = static_cast<std::uint32_t>(block.length - block.done);
      request.offset = block.offset + block.done;
    }
    Status submitted = transfer_.queue->Submit(request);
    if (!submitted) {
      block.busy = false;
      return std::move(submitted).error().WithContext(transfer_.path);
    }
    block.busy = true;
    ++in_flight_;
    return Ok();
  }

  // Waits for one completion and acts on it.  A value only where the wait is given up: the error
  // to return, with whatever was in flight parked.
  std::optional<Status> HandleOne(std::chrono::milliseconds limit) {
    // Time is counted in the slices that passed, so a queue of a test needs no clock.
    std::chrono::milliseconds waited{0};
    while (true) {
      const auto slice = std::min(kSlice, limit - waited);
      Result<IoCompletion> completion = transfer_.queue->Wait(slice);
      if (completion) {
        Finish(completion.value());
        return std::nullopt;
      }
      if (completion.error().code != Errc::kTimeout) {
        Keep(std::move(completion).error().WithContext(transfer_.path));
        return GiveUp();
      }
      waited += slice;
      if (Cancelled() && !failure_) {
        failure_ = CancelledError();
        CancelAll();
      }
      if (waited >= limit) {
        Keep(Error(Errc::kTimeout,
                   transfer_.path + ": the file system finished no request in " +
                       std::to_string(limit.count()) + " ms"));
        return GiveUp();
      }
    }
  }

  void CancelAll() {
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      if (blocks_[i].busy) {
        transfer_.queue->Cancel(i);
      }
    }
  }

  Status GiveUp() {
    CancelAll();
    for (auto waited = std::chrono::milliseconds(0); in_flight_ > 0 && waited < kCancelGrace;) {
      const Result<IoCompletion> completion = transfer_.queue->Wait(kSlice);
      if (completion) {
        --in_flight_;
      } else if (completion.error().code == Errc::kTimeout) {
        waited += kSlice;
      } else {
        break;
      }
    }
    if (in_flight_ == 0) {
      return Outcome();
    }
    failure_->message += "; " + std::to_string(in_flight_) +
                         " requests hang in the kernel and keep the memory until they end";
    ParkTransfer({std::move(transfer_.queue),
                  std::move(transfer_.fd),
                  transfer_.path,
                  in_flight_,
                  std::move(bounce_),
                  options_.keep_alive});
    return Outcome();
  }

  void Finish(const IoCompletion& completion) {
    HOLDFAST_CHECK(completion.tag < blocks_.size() && blocks_[completion.tag].busy);
    Block& block = blocks_[completion.tag];
    block.busy = false;
    --in_flight_;
    if (failure_) {
      return;  // only draining
    }
    if (completion.result < 0) {
      Keep(OnError(block, -completion.result));
    } else if (!block.sync) {
      Keep(OnMoved(block, static_cast<ByteCount>(completion.result)));
    }
  }

  Status OnError(Block& block, int error) {
    const bool again = (error == EINTR || error == EAGAIN) && !block.sync;
    if (again && ++block.idle_tries <= kMaxIdleTries) {
      return Submit(block);
    }
    // Some file systems take O_DIRECT at open and refuse it at the first block.
    if (error == EINVAL && !block.sync && (transfer_.direct || block.idle_tries == 0)) {
      HF_TRYV(DropDirect());
      block.idle_tries = kMaxIdleTries;  // refused once more: a real error
      return Submit(block);
    }
    const char* verb = block.sync ? "fsync " : (writing_ ? "write " : "read ");
    return ErrnoError(error, verb + transfer_.path);
  }

  Status DropDirect() {
    transfer_.direct = false;
    const int flags = ::fcntl(transfer_.fd.get(), F_GETFL);
    if (flags == -1 || ::fcntl(transfer_.fd.get(), F_SETFL, flags & ~O_DIRECT) == -1) {
      return ErrnoError(errno, "drop O_DIRECT of " + transfer_.path);
    }
    return Ok();
  }

  Status OnMoved(Block& block, ByteCount moved) {
    if (moved > block.length - block.done) {
      return ErrnoError(EIO, transfer_.path + ": the kernel reports more bytes than asked for");
    }
    const ByteCount reached = block.done + moved;
    if (reached >= (writing_ ? block.length : block.useful)) {
      return writing_ ? Ok() : Landed(block);
    }
    if (moved == 0 && !writing_) {
      return Error(Errc::kCorruption,
                   transfer_.path + ": ends after " + std::to_string(block.offset + reached) +
                       " bytes, " + std::to_string(size_) + " expected");
    }
    // The rest of a short O_DIRECT transfer must start aligned again; those bytes move twice.
    const ByteCount restart = transfer_.direct ? reached - reached % kDirectAlignment : reached;
    if (restart == block.done && ++block.idle_tries > kMaxIdleTries) {
      return ErrnoError(EIO, transfer_.path + ": the file system moves no more bytes");
    }
    block.done = restart;
    return Submit(block);
  }

  Status Landed(const Block& block) {
    if (block.memory != memory_ + block.offset) {
      std::memcpy(memory_ + block.offset, block.memory, block.useful);
    }
    if (!options_.inspect) {
      return Ok();
    }
    return InspectLanded(block);
  }

  // Whole chunks only: a bounced tail and the block before it are shown together, once both are in.
  Status InspectLanded(const Block& block) {
    const ByteCount start = block.offset - block.offset % options_.block_bytes;
    const ByteCount end = std::min(size_, start + options_.block_bytes);
    if (block.offset + block.useful == end && block.offset == start) {
      return options_.inspect(start, ByteView(memory_ + start, end - start));
    }
    last_block_landed_ += block.useful;
    if (last_block_landed_ < end - start) {
      return Ok();
    }
    return options_.inspect(start, ByteView(memory_ + start, end - start));
  }

  ImageTransfer& transfer_;
  const bool writing_;
  std::byte* const memory_;  // never written to where writing_
  const ByteCount size_;
  const ImageIoOptions& options_;
  std::vector<Block> blocks_;  // index is the tag; never resized
  std::shared_ptr<Page> bounce_;
  ByteCount next_ = 0;       // first byte not yet submitted
  ByteCount inspected_ = 0;  // source bytes before it were shown to inspect
  ByteCount last_block_landed_ = 0;
  std::size_t in_flight_ = 0;
  std::optional<Error> failure_;  // the first; nothing new starts after it
};

}  // namespace

Status WriteImageThrough(ImageTransfer& transfer, ByteView image, const ImageIoOptions& options) {
  HF_TRYV(AdmitTransfer());
  // The queue's requests are untyped; a write request only reads the memory.
  auto* memory = const_cast<std::byte*>(image.data());
  Mover mover(transfer, true, memory, image.size(), options);
  HF_TRYV(mover.Move());
  if (mover.padded() && ::ftruncate(transfer.fd.get(), static_cast<off_t>(image.size())) == -1) {
    return ErrnoError(errno, "ftruncate " + transfer.path);
  }
  return mover.Sync();
}

Status ReadImageThrough(ImageTransfer& transfer,
                        MutableByteView destination,
                        const ImageIoOptions& options) {
  HF_TRYV(AdmitTransfer());
  Mover mover(transfer, false, destination.data(), destination.size(), options);
  return mover.Move();
}

}  // namespace holdfast::storage_tiers
