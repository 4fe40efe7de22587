// Memory whose pages are all there: what is measured is copying, never the first touch of a page.
//
// Threads:   any; the bytes are the caller's to synchronise.
// Ownership: owns the mapping, and the memory file behind a shared one (which has no name: a bench
//            that is killed leaves nothing in /dev/shm).
// Errors:    the errno's code.
#pragma once

#include <utility>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "transport/owned_fd.h"

namespace holdfast::bench {

class Pages {
 public:
  Pages() = default;
  ~Pages();

  Pages(Pages&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), fd_(std::move(other.fd_)) {}

  Pages& operator=(Pages&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(fd_, other.fd_);
    return *this;
  }

  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  // As malloc gives them to a trainer.
  [[nodiscard]] static Result<Pages> Private(ByteCount bytes);

  // As an arena has them: of a file in the folder $HOLDFAST_BENCH_ARENA, or of a memory file where
  // there is none.
  [[nodiscard]] static Result<Pages> Shared(ByteCount bytes);

  [[nodiscard]] MutableByteView Bytes() const { return bytes_; }

  // A further descriptor of a shared one.
  [[nodiscard]] Result<transport::OwnedFd> Descriptor() const;

 private:
  [[nodiscard]] static Result<Pages> Map(transport::OwnedFd fd, ByteCount bytes);

  MutableByteView bytes_;
  transport::OwnedFd fd_;
};

// Bytes that no compression, deduplication or page of zeros can make cheaper.
void FillRandom(MutableByteView bytes, std::uint64_t seed);

}  // namespace holdfast::bench
