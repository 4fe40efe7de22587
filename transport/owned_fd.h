// A file descriptor that is closed exactly once.
//
// Descriptors of slots and processes travel through sockets, queues and coroutines; every early
// return on the way would leak one, and a leaked slot descriptor keeps freed memory alive.
//
// Threads:   a value; one thread at a time.
// Ownership: owns the descriptor; moved-from and default objects own none.
#pragma once

#include <utility>

#include <unistd.h>

namespace holdfast::transport {

class OwnedFd {
 public:
  OwnedFd() = default;

  explicit OwnedFd(int fd) : fd_(fd) {}

  ~OwnedFd() { Reset(); }

  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

  OwnedFd& operator=(OwnedFd&& other) noexcept {
    if (this != &other) {
      Reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }

  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;

  [[nodiscard]] bool Valid() const { return fd_ >= 0; }

  // Borrowed: lives as long as this object does.
  [[nodiscard]] int Get() const { return fd_; }

  // The caller closes it from now on.
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }

  void Reset() {
    if (fd_ >= 0) {
      // EINTR closes all the same on Linux: never repeated, the number may be another's by then.
      ::close(fd_);
      fd_ = -1;
    }
  }

 private:
  int fd_ = -1;
};

}  // namespace holdfast::transport
