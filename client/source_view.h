// A tensor's bytes in a trainer's memory, read in the order in which an image holds them.
//
// An image is row-major; a trainer's tensor may be a transposed, sliced or expanded view.  The view
// is reduced once to runs of contiguous bytes and a loop nest over them, so that a contiguous
// tensor costs nothing and a strided one is gathered from any byte on (a digest chunk may start in
// the middle of a row).
//
// Threads:   a value; reading is safe from any number of threads.
// Ownership: borrows the tensor's memory; it must stay valid for as long as the view is read.
// Errors:    kInvalidArgument where strides do not fit the shape or leave the address space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"

namespace holdfast::client {

class SourceView {
 public:
  SourceView() = default;

  // "bytes" from "base" on.  "base" may be nullptr where bytes is 0.
  static SourceView Contiguous(const void* base, ByteCount bytes);

  // Element (i, j, ...) of "shape" lies "element_bytes" * (i*strides[0] + j*strides[1] + ...)
  // behind "base".  Strides are in elements and not negative; 0 repeats an element.
  [[nodiscard]] static Result<SourceView> Strided(const void* base,
                                                  std::span<const std::uint64_t> shape,
                                                  std::span<const std::int64_t> strides,
                                                  ByteCount element_bytes);

  [[nodiscard]] ByteCount Size() const { return bytes_; }

  // Of element (0, 0, ...); for memory that the host cannot read.
  [[nodiscard]] const std::byte* Base() const { return base_; }

  // Every byte range of at most this length that starts at a multiple of it is contiguous.
  [[nodiscard]] ByteCount RunBytes() const { return run_bytes_; }

  // The contiguous bytes from "offset" (below Size()) to the end of its run.
  [[nodiscard]] ByteView RunAt(ByteCount offset) const;

  // Copies [offset, offset + to.size()) of the row-major order; the range must lie in Size().
  void Gather(ByteCount offset, MutableByteView to) const;

 private:
  struct Dimension {
    std::uint64_t count;
    ByteCount step;  // bytes from one index to the next
  };

  [[nodiscard]] const std::byte* RunAddress(std::uint64_t run) const;

  const std::byte* base_ = nullptr;
  ByteCount bytes_ = 0;
  ByteCount run_bytes_ = 0;
  std::vector<Dimension> outer_;  // outermost first; empty: one run
};

}  // namespace holdfast::client
