// Host memory that devices read and write by themselves, of huge pages where the system has them:
// to pin small ones takes half a second a GiB, and huge ones a tenth of that.  The pages are made
// by several threads before they are pinned: pinning makes them one by one, and no copy starts
// meanwhile.
//
// Threads:   any thread; "threads" of its own that end before Make returns.
// Ownership: owns the memory; no copy may be under way when it is destroyed.
// Errors:    kNoSpace.  Where pinning is refused (memory lock limit) the memory is had all the same
//            and copies go through the runtime's own buffer: WhyNot().  The runtime's last error is
//            left set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "client/copy_cuda/runtime.h"

namespace holdfast::client {

class PinnedPages {
 public:
  [[nodiscard]] static Result<PinnedPages> Make(ByteCount bytes, std::uint32_t threads);

  PinnedPages() = default;
  ~PinnedPages();
  PinnedPages(PinnedPages&& other) noexcept;
  PinnedPages& operator=(PinnedPages&& other) noexcept;

  [[nodiscard]] std::byte* Data() const { return data_; }

  [[nodiscard]] bool Pinned() const { return pinned_; }

  [[nodiscard]] const std::string& WhyNot() const { return why_not_; }

 private:
  std::byte* data_ = nullptr;
  bool pinned_ = false;
  std::string why_not_;
  std::byte* mapping_ = nullptr;  // "data_" is aligned in it
  ByteCount mapped_ = 0;
};

}  // namespace holdfast::client
