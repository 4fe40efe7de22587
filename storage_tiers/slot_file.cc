#include "storage_tiers/slot_file.h"

#include <cerrno>
#include <charconv>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace holdfast::storage_tiers {
namespace {

// A whole decimal number as to_string writes it.
template <class Number>
bool ParseExact(std::string_view text, Number* number) {
  if (text.empty() || (text.size() > 1 && text.front() == '0')) {
    return false;
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string SlotName::ToString() const {
  return std::to_string(slot) + "." + std::to_string(generation);
}

Result<SlotName> SlotName::Parse(std::string_view text) {
  const std::size_t dot = text.find('.');
  SlotName name;
  if (dot == std::string_view::npos || !ParseExact(text.substr(0, dot), &name.slot) ||
      !ParseExact(text.substr(dot + 1), &name.generation)) {
    return Error(Errc::kInvalidArgument, "not a slot file's name, <slot>.<generation>");
  }
  return name;
}

Result<std::shared_ptr<SlotFile>> SlotFile::Map(Descriptor file,
                                                SlotName name,
                                                ByteCount capacity) {
  const std::string what = "slot file " + name.ToString();
  struct stat status = {};
  if (::fstat(file.get(), &status) != 0) {
    return ErrnoError(errno, what + ": fstat");
  }
  void* const address =
      ::mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (address == MAP_FAILED) {
    return ErrnoError(errno, what + ": mmap of " + FormatBytes(capacity));
  }
  const MutableByteView mapping(static_cast<std::byte*>(address), capacity);
  // From here on the object unmaps.
  std::shared_ptr<SlotFile> slot_file(
      new SlotFile(std::move(file), name, {status.st_dev, status.st_ino}, mapping));
  if (::madvise(address, capacity, MADV_DONTFORK) != 0 ||
      ::madvise(address, capacity, MADV_DONTDUMP) != 0) {
    return ErrnoError(errno, what + ": madvise");
  }
  // Fewer and larger pages make copies, pinning and digests cheaper.  A wish: kernels without huge
  // pages for this file system refuse it.
  (void)::madvise(address, capacity, MADV_HUGEPAGE);
  HF_TRY(slot_file->guard_, GuardedRange::Register(mapping));
  return slot_file;
}

SlotFile::SlotFile(Descriptor file, SlotName name, FileIdentity identity, MutableByteView mapping)
    : file_(std::move(file)), name_(name), identity_(identity), mapping_(mapping) {}

SlotFile::~SlotFile() {
  // A fault after munmap must not be taken for ours: another mapping may lie there by then.
  guard_ = GuardedRange();
  ::munmap(mapping_.data(), mapping_.size());
}

bool SlotFile::Intact() const {
  struct stat status = {};
  return !poisoned() && ::fstat(file_.get(), &status) == 0 &&
         static_cast<ByteCount>(status.st_size) == capacity();
}

Result<Descriptor> SlotFile::OpenReadWriteFd() const {
  return Reopen(O_RDWR);
}

Result<Descriptor> SlotFile::OpenReadOnlyFd() const {
  return Reopen(O_RDONLY);
}

Result<Descriptor> SlotFile::Reopen(int flags) const {
  // Through /proc, because the name may be gone or, in another generation's hands, taken.
  const std::string path = "/proc/self/fd/" + std::to_string(file_.get());
  Descriptor opened(::open(path.c_str(), flags | O_CLOEXEC));
  if (!opened.valid()) {
    return ErrnoError(errno, "slot file " + name_.ToString() + ": open " + path);
  }
  struct stat status = {};
  if (::fstat(opened.get(), &status) != 0) {
    return ErrnoError(errno, "slot file " + name_.ToString() + ": fstat");
  }
  if (FileIdentity{status.st_dev, status.st_ino} != identity_) {
    return Error(Errc::kInternal,
                 "slot file " + name_.ToString() + ": /proc gave another file: is /proc mounted?");
  }
  return opened;
}

}  // namespace holdfast::storage_tiers
