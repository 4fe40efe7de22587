// Host memory that copies of a device read and write: pinned, or pageable where the system refuses
// that (memory lock limit), which costs the training time but never its snapshots.
//
// Threads:   any; made with the device current.
// Ownership: owns the memory; no copy may be under way when it is destroyed.
// Errors:    kNoSpace where there is no memory at all.  Where pinning is refused the runtime's last
//            error is left set.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "client/copy_cuda/runtime.h"

namespace holdfast::client {

class HostBuffer {
 public:
  // Without memory for 0 bytes.
  [[nodiscard]] static Result<HostBuffer> Make(ByteCount bytes);

  HostBuffer() = default;

  [[nodiscard]] std::byte* Data() const {
    return pageable_ == nullptr ? pinned_.get() : pageable_.get();
  }

  [[nodiscard]] bool Pinned() const { return pageable_ == nullptr; }

  // Why it is not pinned; empty: it is.
  [[nodiscard]] const std::string& WhyNot() const { return why_not_; }

 private:
  PinnedMemory pinned_;
  std::unique_ptr<std::byte[]> pageable_;
  std::string why_not_;
};

}  // namespace holdfast::client
