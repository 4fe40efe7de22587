// A file descriptor that is closed exactly once.
//
// Threads:   one at a time.
// Ownership: owns the descriptor; -1 is "none".
// Errors:    none: close's result is ignored, because whatever must be durable was synced before,
//            and close must not be repeated on Linux, whatever it returned.
#pragma once

#include <utility>

#include <unistd.h>

namespace holdfast::storage_tiers {

class Descriptor {
 public:
  Descriptor() = default;

  explicit Descriptor(int fd) : fd_(fd) {}

  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  ~Descriptor() {
    if (fd_ != -1) {
      ::close(fd_);
    }
  }

  [[nodiscard]] int get() const { return fd_; }

  [[nodiscard]] bool valid() const { return fd_ != -1; }

  // The caller closes it.
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

}  // namespace holdfast::storage_tiers
