// The state that is copied, flushed and restored here: a model with its Adam, as a trainer has it.
//
// The mix matters: equal tensors at round addresses would hide what costs time.  For each parameter
// there are four tensors, weight, step, exp_avg and exp_avg_sq; a third of the parameters are small
// (biases, norms); and the steps, four bytes each, shift whatever follows them in the image, so
// most tensors lie there at odd multiples of four.
//
// Threads:   pure functions.
// Ownership: values.
// Errors:    kInvalidArgument where the bytes do not give each tensor at least a few KiB.
#pragma once

#include <cstddef>
#include <vector>

#include "bench/pages.h"
#include "common/result.h"
#include "common/units.h"
#include "layout/image.h"

namespace holdfast::bench {

// In the order in which the Python face registers them; "tensors" is a multiple of four, and all of
// them together have "bytes", less what rounding takes.
[[nodiscard]] Result<std::vector<layout::TensorSpec>> AdamSpecs(std::size_t tensors,
                                                                ByteCount bytes);

// Memory of a trainer for them: each tensor at a multiple of 64, as torch allocates.
struct AdamMemory {
  Pages pages;
  std::vector<std::byte*> tensors;  // by spec
};

[[nodiscard]] Result<AdamMemory> AllocateAdam(const std::vector<layout::TensorSpec>& specs);

}  // namespace holdfast::bench
