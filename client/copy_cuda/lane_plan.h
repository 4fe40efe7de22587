// What the snapshots of one layout do on one device, decided once: which tensors are gathered, in
// which windows the others are copied, where they are sampled, which ranges are digested.
//
//   device memory            one room for each snapshot on its way          slot (host, pinned)
//   small tensors ──gather─▶ [small | before | sums | after] ──one copy──▶ (landing) ──▶ scattered
//   large tensors ──places─▶          before           after                             by
//   digesting large tensors ──────────────────── windows of whole copies ───────────────────────▶
//   in place
//
// Windows follow the order of the image, so that digesting can follow the copies from its start.
//
// Threads:   immutable after the constructor.
// Ownership: shares the plan.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "client/copy_plan.h"
#include "common/units.h"

namespace holdfast::client {

// A tensor that goes through the room; "at" is in its "small" area.
struct SmallTensor {
  std::size_t tensor = 0;
  ByteCount at = 0;
};

// A range of a large tensor.
struct TensorPiece {
  std::size_t tensor = 0;
  ByteCount offset = 0;  // in the tensor
  ByteCount bytes = 0;
};

// A block that is read before and after the copies; "at" is in the room's areas for that.
struct SamplePlace {
  TensorPiece piece;  // where a step may put the block: the whole range that it stands for
  ByteCount block = 0;
  ByteCount at = 0;
};

struct CopyWindow {
  std::size_t first = 0;  // in Pieces()
  std::size_t end = 0;
  ByteCount bytes = 0;
  ByteCount image_offset = 0;  // of its first byte
};

// Areas of a room, in bytes from its start; what is copied to the host first lies first.
struct RoomLayout {
  ByteCount small = 0;
  ByteCount before = 0;
  ByteCount sums = 0;
  ByteCount after = 0;  // end of what the first copy takes
  ByteCount end = 0;
};

class LanePlan {
 public:
  // "window_bytes": what is issued at a time.
  LanePlan(std::shared_ptr<const CopyPlan> plan, std::int32_t device, ByteCount window_bytes);

  [[nodiscard]] const CopyPlan& Plan() const { return *plan_; }

  [[nodiscard]] const std::vector<SmallTensor>& Smalls() const { return smalls_; }

  [[nodiscard]] const std::vector<TensorPiece>& Pieces() const { return pieces_; }

  [[nodiscard]] const std::vector<CopyWindow>& Windows() const { return windows_; }

  [[nodiscard]] const std::vector<SamplePlace>& Places() const { return places_; }

  // Of all windows.
  [[nodiscard]] ByteCount WindowBytes() const { return all_window_bytes_; }

  // Every device tensor cut where the image's digest chunks are cut, in the image's order.
  [[nodiscard]] const std::vector<TensorPiece>& Segments() const { return segments_; }

  [[nodiscard]] const RoomLayout& Room() const { return room_; }

  // Of tensor "index": its place in the room's small area; kNotSmall for one that is copied by
  // windows.
  static constexpr ByteCount kNotSmall = ~ByteCount{0};

  [[nodiscard]] ByteCount SmallAt(std::size_t index) const { return small_at_[index]; }

  // Of tensor "index": the first of its segments.
  [[nodiscard]] std::size_t FirstSegment(std::size_t index) const { return first_segment_[index]; }

  // Where the block of "place" lies in its tensor at "step": it moves, so that a writer of a small
  // part is found sooner or later.
  [[nodiscard]] ByteCount PlaceOffset(std::size_t place, std::int64_t step) const;

 private:
  void AddTensor(std::size_t index, const PlannedTensor& tensor, ByteCount window_bytes);
  void AddSegmentsAndPlaces(std::size_t index, const PlannedTensor& tensor);

  const std::shared_ptr<const CopyPlan> plan_;
  std::vector<SmallTensor> smalls_;
  std::vector<TensorPiece> pieces_;
  std::vector<CopyWindow> windows_;
  std::vector<SamplePlace> places_;
  std::vector<TensorPiece> segments_;
  std::vector<ByteCount> small_at_;
  std::vector<std::size_t> first_segment_;
  RoomLayout room_;
  ByteCount all_window_bytes_ = 0;
  ByteCount small_bytes_ = 0;
  ByteCount sample_bytes_ = 0;
};

}  // namespace holdfast::client
