#include "client/copy_cuda/pinned_pages.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <thread>
#include <vector>

#include <sys/mman.h>

#include "client/start_thread.h"

namespace holdfast::client {
namespace {

constexpr ByteCount kHugePage = 2 * kMiB;

// Where the kernel refuses, the registration makes what is missing.
void MakePages(std::byte* start, ByteCount bytes, std::uint32_t threads) {
  std::atomic<ByteCount> next{0};
  const auto work = [&] {
    for (ByteCount at = next.fetch_add(kHugePage); at < bytes; at = next.fetch_add(kHugePage)) {
      static_cast<void>(
          ::madvise(start + at, std::min(kHugePage, bytes - at), MADV_POPULATE_WRITE));
    }
  };
  std::vector<std::thread> helpers;
  // Fewer do it too.
  static_cast<void>(StartThreads(std::max(threads, 1U) - 1, work, &helpers));
  work();
  for (std::thread& helper : helpers) {
    helper.join();
  }
}

}  // namespace

Result<PinnedPages> PinnedPages::Make(ByteCount bytes, std::uint32_t threads) {
  PinnedPages pages;
  pages.mapped_ = bytes + kHugePage;
  void* address =
      ::mmap(nullptr, pages.mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    return ErrnoError(errno, "mmap of " + FormatBytes(pages.mapped_));
  }
  pages.mapping_ = static_cast<std::byte*>(address);
  const auto misaligned = reinterpret_cast<std::uintptr_t>(address) % kHugePage;
  std::byte* const aligned = pages.mapping_ + (misaligned == 0 ? 0 : kHugePage - misaligned);
  static_cast<void>(::madvise(aligned, bytes, MADV_HUGEPAGE));
  // A fork would copy what a device writes.
  static_cast<void>(::madvise(pages.mapping_, pages.mapped_, MADV_DONTFORK));
  MakePages(aligned, bytes, threads);
  pages.data_ = aligned;
  const Status registered =
      CudaStatus(cudaHostRegister(aligned, bytes, cudaHostRegisterPortable), "cudaHostRegister");
  pages.pinned_ = registered.has_value();
  pages.why_not_ = registered.has_error() ? registered.error().ToString() : "";
  return pages;
}

PinnedPages::PinnedPages(PinnedPages&& other) noexcept {
  *this = std::move(other);
}

PinnedPages& PinnedPages::operator=(PinnedPages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(pinned_, other.pinned_);
  std::swap(why_not_, other.why_not_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

PinnedPages::~PinnedPages() {
  if (pinned_) {
    static_cast<void>(cudaHostUnregister(data_));
  }
  if (mapping_ != nullptr) {
    ::munmap(mapping_, mapped_);
  }
}

}  // namespace holdfast::client
