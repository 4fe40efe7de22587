#include "client/image_source.h"

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/check.h"

#ifndef MADV_POPULATE_READ
constexpr int MADV_POPULATE_READ = 22;  // Linux 5.14
#endif

namespace holdfast::client {
namespace {

Result<bool> IsMemory(int fd) {
  struct statfs status {};

  if (::fstatfs(fd, &status) != 0) {
    return ErrnoError(errno, "fstatfs of an image");
  }
  return status.f_type == TMPFS_MAGIC || status.f_type == HUGETLBFS_MAGIC;
}

// Whether the descriptor now has O_DIRECT; a file system that has none refuses it here.
bool SetDirect(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags != -1 && ::fcntl(fd, F_SETFL, flags | O_DIRECT) == 0;
}

}  // namespace

ImageSource::ImageSource(transport::OwnedFd fd, ByteCount bytes, const std::byte* data)
    : fd_(std::move(fd)), bytes_(bytes), data_(data) {}

ImageSource::~ImageSource() {
  if (data_ != nullptr) {
    ::munmap(const_cast<std::byte*>(data_), bytes_);
  }
}

Result<std::unique_ptr<ImageSource>> ImageSource::Open(transport::OwnedFd fd, ByteCount bytes) {
  struct stat status {};

  if (::fstat(fd.Get(), &status) != 0) {
    return ErrnoError(errno, "fstat of an image");
  }
  if (!S_ISREG(status.st_mode) || bytes == 0 || status.st_size < 0 ||
      static_cast<ByteCount>(status.st_size) < bytes) {
    return Error(Errc::kCorruption,
                 "the image of " + FormatBytes(bytes) + " is cut: its file has " +
                     std::to_string(status.st_size) + " bytes");
  }
  HF_TRY(const bool memory, IsMemory(fd.Get()));
  const std::byte* data = nullptr;
  if (memory) {
    void* address = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd.Get(), 0);
    if (address == MAP_FAILED) {
      return ErrnoError(errno, "mmap of an image of " + FormatBytes(bytes));
    }
    (void)::madvise(address, bytes, MADV_DONTFORK);  // a worker must not hold the slot
    data = static_cast<const std::byte*>(address);
  }
  std::unique_ptr<ImageSource> source(new ImageSource(std::move(fd), bytes, data));
  source->direct_.store(!memory && SetDirect(source->fd_.Get()), std::memory_order_relaxed);
  return source;
}

// Some file systems take the flag and refuse the read.
Status ImageSource::DropDirect() const {
  const int flags = ::fcntl(fd_.Get(), F_GETFL);
  if (flags == -1 || ::fcntl(fd_.Get(), F_SETFL, flags & ~O_DIRECT) != 0) {
    return ErrnoError(errno, "an image that cannot be read with O_DIRECT");
  }
  direct_.store(false, std::memory_order_relaxed);
  return Ok();
}

Result<ByteView> ImageSource::Read(ByteCount offset,
                                   std::size_t bytes,
                                   MutableByteView scratch) const {
  HOLDFAST_CHECK(bytes <= bytes_ && offset <= bytes_ - bytes);
  if (data_ != nullptr) {
    // One call in place of a fault for every few pages; where the kernel refuses, faults do it.
    const std::size_t before = offset % kReadAlignment;
    static_cast<void>(::madvise(
        const_cast<std::byte*>(data_ + (offset - before)), bytes + before, MADV_POPULATE_READ));
    return ByteView(data_ + offset, bytes);
  }
  HOLDFAST_CHECK(scratch.size() >= bytes);
  // Whole pages where there is room, since O_DIRECT reads nothing less; the file may end within the
  // last one.
  const std::size_t padded = (bytes + kReadAlignment - 1) / kReadAlignment * kReadAlignment;
  const std::size_t wanted = scratch.size() >= padded ? padded : bytes;
  std::size_t done = 0;
  while (done < bytes) {
    const bool direct = direct_.load(std::memory_order_relaxed);
    const ssize_t count = ::pread(fd_.Get(),
                                  scratch.data() + done,
                                  (direct ? wanted : bytes) - done,
                                  static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0 && errno == EINVAL && direct) {
      HF_TRYV(DropDirect());
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, "read of an image at byte " + std::to_string(offset + done));
    }
    if (count == 0) {
      return Error(Errc::kCorruption,
                   "the image ends at byte " + std::to_string(offset + done) + " of " +
                       std::to_string(bytes_));
    }
    done += static_cast<std::size_t>(count);
    if (direct && done < bytes && done % kReadAlignment != 0) {
      HF_TRYV(DropDirect());  // cut short within a page: what follows has no aligned start
    }
  }
  return ByteView(scratch.first(bytes));
}

}  // namespace holdfast::client
