// An image, in a file of a persistent tier or in a slot file, which may be longer than it; mapped
// for reading: what PersistentTier::FlushShard takes.
//
// A file that is truncated under a mapping raises SIGBUS; the guard of storage_tiers/ turns that
// into zeros, which cannot match the digests that the flush checks (I5).
//
// Threads:   any thread for the bytes; made and destroyed by one.
// Ownership: owns mapping and guard; bytes() lives as long as this object.
// Errors:    kCorruption where the file is shorter than its sidecar says; else errno's.
#pragma once

#include <string>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "storage_tiers/mapping_guard.h"

namespace holdfast::cli {

class MappedImage {
 public:
  [[nodiscard]] static Result<MappedImage> Open(const std::string& path, ByteCount length);

  MappedImage(MappedImage&& other) noexcept;
  MappedImage& operator=(MappedImage&&) = delete;
  MappedImage(const MappedImage&) = delete;
  MappedImage& operator=(const MappedImage&) = delete;
  ~MappedImage();

  [[nodiscard]] ByteView bytes() const { return bytes_; }

 private:
  MappedImage(MutableByteView mapping, ByteView bytes, storage_tiers::GuardedRange guard);

  MutableByteView mapping_;  // whole pages; empty after a move
  ByteView bytes_;
  storage_tiers::GuardedRange guard_;
};

}  // namespace holdfast::cli
