// Which bytes of an image a region of a tensor is.
//
// Restore into another parallel layout, partial reads by a peer and export all ask the same: here
// is a rank's TensorEntry, there is a box of the global tensor; which bytes of the rank's image are
// in that box, and where do they go in a row-major array of the box?  A column of a large matrix is
// millions of short runs, so the answer is produced one run at a time, in constant memory.
//
// The other direction, placing what arrives into a local tensor that is itself several boxes or a
// flat range, needs no second mechanism: HeldBoxes() lists the destination's boxes in image order,
// each is asked of every source, and its run destinations are added to HeldBox::image_offset.
//
// Threads:   a RegionRuns is used by one thread at a time; it is a value and may be copied to try
//            the same runs again.
// Ownership: nothing of the entry or the box is borrowed after construction.
// Errors:    kInvalidArgument for an entry or a box that does not fit, before the first run.  Every
//            run that is handed out lies inside the entry's bytes and inside the destination.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/result.h"
#include "common/units.h"
#include "layout/tensor_box.h"
#include "proto/manifest.pb.h"

namespace holdfast::layout {

// Bytes that are contiguous in the image and in the destination.
struct ByteRun {
  ByteCount image_offset = 0;        // from the start of the image, header included
  ByteCount destination_offset = 0;  // from the start of the row-major array of the region
  ByteCount length = 0;              // never 0

  friend bool operator==(const ByteRun&, const ByteRun&) = default;
};

// A box of the global tensor whose row-major elements are "length" bytes from "image_offset".
struct HeldBox {
  TensorBox box;
  ByteCount image_offset = 0;
  ByteCount length = 0;
};

// What the entry's bytes are, as boxes of the global tensor in the order of the bytes; flat ranges
// are split into boxes.  Together they are exactly the entry's bytes; none is empty.  An opaque
// part is kInvalidArgument: only its own layout can read it.
[[nodiscard]] Result<std::vector<HeldBox>> HeldBoxes(const proto::TensorEntry& entry);

// The runs of one region, coalesced: no two successive runs could be one.  Runs come by rising
// image offset, share no byte of the image and, since a part's boxes share no element, no byte of
// the destination.
class RegionRuns {
 public:
  // "wanted" is a box of the global tensor; the part of it that the entry does not hold is simply
  // not in any run (CoveredBytes tells).
  [[nodiscard]] static Result<RegionRuns> OfGlobal(const proto::TensorEntry& entry,
                                                   const TensorBox& wanted);

  // "wanted" is a box of the local tensor, by its local shape; works for opaque parts too.
  [[nodiscard]] static Result<RegionRuns> OfLocal(const proto::TensorEntry& entry,
                                                  const TensorBox& wanted);

  // The next run; false when there is none.
  [[nodiscard]] bool Next(ByteRun* run);

  // Size of the row-major array of the whole region.
  [[nodiscard]] ByteCount DestinationBytes() const { return destination_bytes_; }

  // How many bytes of it the entry holds: the sum of the lengths of all runs, known in advance.
  [[nodiscard]] ByteCount CoveredBytes() const { return covered_bytes_; }

 private:
  // The elements that one held box and the region share, as a loop nest over contiguous runs.
  struct Nest {
    ByteCount image_offset = 0;        // of the first run
    ByteCount destination_offset = 0;  // of the first run
    ByteCount run_bytes = 0;
    // One number for each outer dimension, outermost first: how often, and how far a step moves.
    Shape count;
    Shape image_step;
    Shape destination_step;
  };

  RegionRuns(const std::vector<HeldBox>& held, const TensorBox& wanted, ByteCount element_bytes);

  static Nest MakeNest(const HeldBox& held,
                       const TensorBox& wanted,
                       const TensorBox& common,
                       ByteCount element_bytes);

  // The next run of the loop nests, not yet joined with its neighbours.
  bool NextOfNests(ByteRun* run);

  std::vector<Nest> nests_;
  std::size_t nest_ = 0;  // index into nests_
  Shape position_;        // of the next run in the current nest
  ByteRun pending_;       // read ahead to be joined; length 0: none
  ByteCount destination_bytes_ = 0;
  ByteCount covered_bytes_ = 0;
};

// All runs of "runs" in one vector.  kNoSpace when there are more than "max_runs": read such a
// region run by run, or by larger boxes.
[[nodiscard]] Result<std::vector<ByteRun>> CollectRuns(RegionRuns runs, std::size_t max_runs);

}  // namespace holdfast::layout
