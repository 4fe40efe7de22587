// Reads the bytes of an image without trusting anybody: a slot through the descriptor that the
// daemon passed, or a file of a persistent tier or of a dead daemon's arena.
//
// Reads are pread, never a mapping: whoever truncates the file under us costs an error, not a
// SIGBUS.  Files of a tier are read with O_DIRECT where that works: a verification that reads the
// page cache would vouch for memory, not for the disk.
//
// Threads:   Read from any number of threads; moves from one.
// Ownership: owns the descriptors.
// Errors:    kNotFound, kPermission, kIoError with the name; kCorruption where the file ends before
//            the range does, or is no regular file.
#pragma once

#include <string>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "storage_tiers/uring_descriptor.h"

namespace holdfast::cli {

// O_DIRECT wants memory, offsets and lengths at multiples of this.
inline constexpr ByteCount kDirectAlignment = 4096;

class ImageReader {
 public:
  // A regular file; a symbolic link as the last component is refused, since a file of a snapshot is
  // never one.  "direct" is a wish: file systems that refuse O_DIRECT are read through the cache.
  [[nodiscard]] static Result<ImageReader> OpenFile(const std::string& path, bool direct);

  // "name" is for messages.
  [[nodiscard]] static Result<ImageReader> FromDescriptor(storage_tiers::Descriptor file,
                                                          std::string name);

  // Reads "length" bytes from "offset" into the start of "room".  Direct where "offset", the memory
  // and the room allow it (a direct read of the end of a file asks for a whole block, so "room"
  // should have the length rounded up); other ranges are read through the cache.
  [[nodiscard]] Status Read(ByteCount offset, ByteCount length, MutableByteView room) const;

  // Of the file when it was opened.
  [[nodiscard]] ByteCount size() const { return size_; }

  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  ImageReader(storage_tiers::Descriptor buffered, std::string name, ByteCount size);

  storage_tiers::Descriptor buffered_;
  storage_tiers::Descriptor direct_;  // none: O_DIRECT was not asked for, or refused
  std::string name_;
  ByteCount size_ = 0;
};

}  // namespace holdfast::cli
