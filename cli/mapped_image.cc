#include "cli/mapped_image.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage_tiers/uring_descriptor.h"

namespace holdfast::cli {

Result<MappedImage> MappedImage::Open(const std::string& path, ByteCount length) {
  const storage_tiers::Descriptor file(
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK));
  if (!file.valid()) {
    return ErrnoError(errno, "open " + path);
  }

  struct stat info {};

  if (::fstat(file.get(), &info) != 0) {
    return ErrnoError(errno, "stat " + path);
  }
  if (!S_ISREG(info.st_mode) || static_cast<ByteCount>(info.st_size) < length || length == 0) {
    return Error(Errc::kCorruption,
                 path + ": has " + std::to_string(info.st_size) + " bytes, its sidecar says " +
                     std::to_string(length));
  }
  const ByteCount pages = AlignUp(length, static_cast<ByteCount>(::sysconf(_SC_PAGESIZE)));
  void* memory = ::mmap(nullptr, pages, PROT_READ, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) {
    return ErrnoError(errno, "map " + path);
  }
  const MutableByteView mapping(static_cast<std::byte*>(memory), pages);
  auto guard = storage_tiers::GuardedRange::Register(mapping);
  if (!guard) {
    ::munmap(memory, pages);
    return guard.error();
  }
  (void)::madvise(memory, pages, MADV_SEQUENTIAL);  // a hint
  return MappedImage(mapping, ByteView(mapping).first(length), std::move(guard).value());
}

MappedImage::MappedImage(MutableByteView mapping, ByteView bytes, storage_tiers::GuardedRange guard)
    : mapping_(mapping), bytes_(bytes), guard_(std::move(guard)) {}

MappedImage::MappedImage(MappedImage&& other) noexcept
    : mapping_(std::exchange(other.mapping_, {})),
      bytes_(std::exchange(other.bytes_, {})),
      guard_(std::move(other.guard_)) {}

MappedImage::~MappedImage() {
  if (!mapping_.empty()) {
    // The guard first: the addresses may belong to somebody else right after.
    guard_ = {};
    ::munmap(mapping_.data(), mapping_.size());
  }
}

}  // namespace holdfast::cli
