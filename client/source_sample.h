// The torn-copy check: finds a trainer that wrote its state while it was copied.
//
// Tensor versions cannot tell (fused optimizers and .data writes do not raise them), so the content
// itself is asked.  A 64-byte block in every chunk of every tensor that nothing may write is read
// when the snapshot begins; after the last copy, before the fence opens, the same places are read
// again from the tensors and from the slot, and all three must be equal.  Then a block in
// every 128 KiB is compared between tensors and slot, at other places, within the fraction in all.
// A write that was missed by
// the fence differs at a place that was read before if it has passed one when the copy ends,
// whatever moment it chose: before the copy reached the place the slot differs, after it the source
// does; and one that is still under way differs at the other places, where the source has moved on.
// The places change from step to step: a writer of a small part that is missed once is found sooner
// or later.
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
  // Chooses the places that are read at once: of each checked lazy tensor at least one element in
  // each chunk of the image, at most "fraction" of the bytes beyond that, a handful of blocks where
  // it lies in few chunks (more where "fraction" is above the default).  "seed" moves the places:
  // the step.
  SourceSample(const CopyPlan& plan, double fraction, std::uint64_t seed);

  // Other places of the same plan, in the memory that is there already: choosing and new pages
  // take longer than Take.
  void ChooseAnew(const CopyPlan& plan, std::uint64_t seed);

  // Reads the places for the first time.  Well below a millisecond for 1,200 tensors.
  void Take(std::span<const SourceView> sources);

  // Reads them again, the whole of every checked staged tensor, and further places within the
  // fraction, and compares with the slot.
  // Index of the first planned tensor that differs.
  [[nodiscard]] std::optional<std::size_t> Check(const CopyPlan& plan,
                                                 std::span<const SourceView> sources,
                                                 const std::byte* slot) const;

  // Without Take: the planned tensors, rising, of which a place is not what the slot holds.  For
  // tensors of a static image, whose places change from step to step like all others'.
  [[nodiscard]] std::vector<std::size_t> Differences(const CopyPlan& plan,
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

  void Choose(const CopyPlan& plan);
  void AddPlaces(std::size_t index,
                 const PlannedTensor& tensor,
                 ByteCount begin,
                 ByteCount end,
                 std::uint64_t count);
  [[nodiscard]] bool LatePlacesAreUnchanged(const PlannedTensor& tensor,
                                            ByteCount taken,
                                            const SourceView& source,
                                            const std::byte* in_slot) const;

  double fraction_;
  std::uint64_t seed_;
  std::vector<Place> places_;  // by tensor
  std::vector<std::byte> taken_;
};

}  // namespace holdfast::client
