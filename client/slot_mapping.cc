#include "client/slot_mapping.h"

#include <cerrno>
#include <string>

#include <sys/mman.h>
#include <sys/stat.h>

namespace holdfast::client {

Result<std::shared_ptr<SlotMapping>> SlotMapping::Map(transport::OwnedFd fd, ByteCount bytes) {
  return MapAs(std::move(fd), bytes, PROT_READ | PROT_WRITE);
}

Result<std::shared_ptr<SlotMapping>> SlotMapping::MapReadOnly(transport::OwnedFd fd,
                                                              ByteCount bytes) {
  return MapAs(std::move(fd), bytes, PROT_READ);
}

Result<std::shared_ptr<SlotMapping>> SlotMapping::MapAs(transport::OwnedFd fd,
                                                        ByteCount bytes,
                                                        int protection) {
  struct stat status {};

  if (::fstat(fd.Get(), &status) != 0) {
    return ErrnoError(errno, "fstat of a granted slot");
  }
  if (!S_ISREG(status.st_mode) || bytes == 0 || status.st_size < 0 ||
      static_cast<ByteCount>(status.st_size) < bytes) {
    return Error(Errc::kInvalidArgument,
                 "a granted slot is no file of " + FormatBytes(bytes) + " (it has " +
                     std::to_string(status.st_size) + " bytes)");
  }
  void* address = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd.Get(), 0);
  if (address == MAP_FAILED) {
    return ErrnoError(errno, "mmap of a slot of " + FormatBytes(bytes));
  }
  std::shared_ptr<SlotMapping> mapping(new SlotMapping(static_cast<std::byte*>(address), bytes));
  if (::madvise(address, bytes, MADV_DONTFORK) != 0) {
    return ErrnoError(errno, "MADV_DONTFORK of a slot");
  }
  return mapping;
}

SlotMapping::~SlotMapping() {
  pin_.reset();  // while the memory is there
  ::munmap(data_, bytes_);
}

Status SlotMapping::Populate() {
  while (::madvise(data_, bytes_, MADV_POPULATE_WRITE) != 0) {
    if (errno == EINVAL) {
      return Ok();  // a kernel before 5.14: the first copy takes the faults
    }
    if (errno != EINTR && errno != EAGAIN) {
      return ErrnoError(errno, "MADV_POPULATE_WRITE of a slot of " + FormatBytes(bytes_));
    }
  }
  return Ok();
}

Status SlotMapping::SetWritable(bool writable) {
  if (::mprotect(data_, bytes_, writable ? PROT_READ | PROT_WRITE : PROT_READ) != 0) {
    return ErrnoError(errno, "mprotect of a slot of " + FormatBytes(bytes_));
  }
  return Ok();
}

}  // namespace holdfast::client
