#include "cli/image_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage_tiers/file_system_transfer.h"

namespace holdfast::cli {
namespace {

using storage_tiers::Descriptor;

constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK;

bool Aligned(std::uint64_t value) {
  return value % kDirectAlignment == 0;
}

}  // namespace

ImageReader::ImageReader(Descriptor buffered, std::string name, ByteCount size)
    : buffered_(std::move(buffered)), name_(std::move(name)), size_(size) {}

Result<ImageReader> ImageReader::OpenFile(const std::string& path, bool direct) {
  Descriptor file(::open(path.c_str(), kOpenFlags));
  if (!file.valid()) {
    return ErrnoError(errno, "open " + path);
  }
  HF_TRY(ImageReader reader, FromDescriptor(std::move(file), path));
  if (direct) {
    // What was checked above is what is read: the name is not looked up a second time.
    const std::string same = "/proc/self/fd/" + std::to_string(reader.buffered_.get());
    reader.direct_ = Descriptor(::open(same.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT));
  }
  return reader;
}

Result<ImageReader> ImageReader::FromDescriptor(Descriptor file, std::string name) {
  struct stat info {};

  if (::fstat(file.get(), &info) != 0) {
    return ErrnoError(errno, "stat " + name);
  }
  if (!S_ISREG(info.st_mode)) {
    return Error(Errc::kCorruption, name + ": not a regular file");
  }
  return ImageReader(std::move(file), std::move(name), static_cast<ByteCount>(info.st_size));
}

Status ImageReader::Read(ByteCount offset, ByteCount length, MutableByteView room) const {
  if (length > room.size() || offset > size_ || length > size_ - offset) {
    return Error(Errc::kCorruption,
                 name_ + ": bytes " + std::to_string(offset) + " to " + std::to_string(offset) +
                     "+" + std::to_string(length) + " were asked for, the file has " +
                     std::to_string(size_));
  }
  ByteCount done = 0;
  const ByteCount whole = AlignUp(length, kDirectAlignment);
  if (direct_.valid() && Aligned(offset) && whole <= room.size() &&
      Aligned(reinterpret_cast<std::uintptr_t>(room.data()))) {
    // One call: after a short read (the end of the file) the rest is no longer aligned.
    const auto got = ::pread(direct_.get(), room.data(), whole, static_cast<off_t>(offset));
    done = got > 0 ? std::min<ByteCount>(static_cast<ByteCount>(got), length) : 0;
    if (got < 0 && errno != EINTR && errno != EINVAL) {
      return ErrnoError(errno, "read " + name_);
    }
  }
  const auto outcome =
      storage_tiers::TransferFully(length - done, [&](ByteCount at, ByteCount rest) {
        return ::pread(
            buffered_.get(), room.data() + done + at, rest, static_cast<off_t>(offset + done + at));
      });
  if (outcome.error_number != 0) {
    return ErrnoError(outcome.error_number, "read " + name_);
  }
  if (outcome.done != length - done) {
    return Error(Errc::kCorruption,
                 name_ + ": ends at byte " + std::to_string(offset + done + outcome.done) +
                     "; it was cut short while it was read");
  }
  return Ok();
}

}  // namespace holdfast::cli
