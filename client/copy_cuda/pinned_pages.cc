#include "client/copy_cuda/pinned_pages.h"

#include <cerrno>
#include <cstdint>

#include <sys/mman.h>

namespace holdfast::client {
namespace {

constexpr ByteCount kHugePage = 2 * kMiB;

}  // namespace

Result<PinnedPages> PinnedPages::Make(ByteCount bytes) {
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
  HF_TRYV(CudaStatus(cudaHostRegister(aligned, bytes, cudaHostRegisterPortable),
                     "cudaHostRegister of buffers"));
  pages.data_ = aligned;
  return pages;
}

PinnedPages::PinnedPages(PinnedPages&& other) noexcept {
  *this = std::move(other);
}

PinnedPages& PinnedPages::operator=(PinnedPages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

PinnedPages::~PinnedPages() {
  if (data_ != nullptr) {
    static_cast<void>(cudaHostUnregister(data_));
  }
  if (mapping_ != nullptr) {
    ::munmap(mapping_, mapped_);
  }
}

}  // namespace holdfast::client
