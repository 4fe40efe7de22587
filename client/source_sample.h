// The torn-copy check: finds a trainer that wrote its state while it was copied.
//
// Tensor versions cannot tell (fused optimizers and .data writes do not raise them), so the content
// itself is asked.  A few 64-byte blocks of every tensor that nothing may write are read when the
// snapshot begins; after the last copy, before the fence opens, the same places are read again from
// the tensors and from the slot, and all three must be equal.  An update that was missed by the
// fence writes every tensor, so it is found whatever moment it chose: before the copy reached a
// place the slot differs, after it the source does.  The places change from step to step: a writer
// of a small part that is missed once is found sooner or later.
//
// Bytes are compared, not numbers: a NaN equals itself here, and -0.0 is not 0.0.
//
// Tensors on devices are not its business: their engine samples them there.
//
// Threads:   Take on the training thread, then Check on a copy thread, once each.
// Ownership: borrows plan and sources for each call only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "client/copy_plan.h"
#include "client/source_view.h"
#include "common/bytes.h"

namespace holdfast::client {

inline constexpr double kDefaultSampleFraction = 0.01;

class SourceSample {
 public:
  // Chooses the places: of each checked lazy tensor at most "fraction" of the bytes, at least one
  // element, at most a handful of blocks (more where "fraction" is above the default).  "seed"
  // moves the places: the step.
  SourceSample(const CopyPlan& plan, double fraction, std::uint64_t seed);

  // Reads the places for the first time.  Well below a millisecond for 1,200 tensors.
  void Take(std::span<const SourceView> sources);

  // Reads them again, and the whole of every checked staged tensor, and compares with the slot.
  // Index of the first planned tensor that differs.
  [[nodiscard]] std::optional<std::size_t> Check(const CopyPlan& plan,
                                                 std::span<const SourceView> sources,
                                                 const std::byte* slot) const;

  [[nodiscard]] ByteCount SampledBytes() const { return taken_.size(); }

 private:
  struct Place {
    std::size_t tensor;
    ByteCount offset;  // in the tensor
    std::size_t bytes;
    std::size_t at;  // in taken_
  };

  std::vector<Place> places_;  // by tensor
  std::vector<std::byte> taken_;
};

}  // namespace holdfast::client
