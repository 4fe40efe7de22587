#include "bench/pages.h"

#include <cerrno>
#include <cstdlib>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace holdfast::bench {

Pages::~Pages() {
  if (!bytes_.empty()) {
    ::munmap(bytes_.data(), bytes_.size());
  }
}

Result<Pages> Pages::Map(transport::OwnedFd fd, ByteCount bytes) {
  const int flags = fd.Valid() ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd.Get(), 0);
  if (address == MAP_FAILED) {
    return ErrnoError(errno, "mmap of " + FormatBytes(bytes));
  }
  Pages pages;
  pages.bytes_ = MutableByteView(static_cast<std::byte*>(address), bytes);
  pages.fd_ = std::move(fd);
  if (::madvise(address, bytes, MADV_POPULATE_WRITE) != 0) {
    return ErrnoError(errno, "no memory for " + FormatBytes(bytes));
  }
  return pages;
}

Result<Pages> Pages::Private(ByteCount bytes) {
  return Map(transport::OwnedFd(), bytes);
}

Result<Pages> Pages::Shared(ByteCount bytes) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets variables
  const char* folder = std::getenv("HOLDFAST_BENCH_ARENA");
  transport::OwnedFd fd(folder == nullptr
                            ? ::memfd_create("holdfast-bench", MFD_CLOEXEC)
                            : ::open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!fd.Valid()) {
    return ErrnoError(errno, "a file of " + FormatBytes(bytes) + " in memory");
  }
  if (::ftruncate(fd.Get(), static_cast<off_t>(bytes)) != 0) {
    return ErrnoError(errno, "ftruncate to " + FormatBytes(bytes));
  }
  return Map(std::move(fd), bytes);
}

Result<transport::OwnedFd> Pages::Descriptor() const {
  transport::OwnedFd fd(::fcntl(fd_.Get(), F_DUPFD_CLOEXEC, 0));
  if (!fd.Valid()) {
    return ErrnoError(errno, "dup");
  }
  return fd;
}

void FillRandom(MutableByteView bytes, std::uint64_t seed) {
  std::uint64_t x = seed * 0x9e3779b97f4a7c15ULL + 1;
  std::size_t at = 0;
  for (; at + sizeof x <= bytes.size(); at += sizeof x) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    StoreLe64(bytes.data() + at, x);
  }
  for (; at < bytes.size(); ++at) {
    bytes[at] = static_cast<std::byte>(x >> (at % 8 * 8));
  }
}

}  // namespace holdfast::bench
