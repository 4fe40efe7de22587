#include "layout/region.h"

#include <algorithm>
#include <string>

#include "layout/dtype.h"
#include "layout/image.h"
#include "layout/utf8.h"

namespace holdfast::layout {
namespace {

// Facts of an entry that were checked against each other.
struct CheckedEntry {
  ByteCount element_bytes = 0;
};

Error Refuse(const proto::TensorEntry& entry, const std::string& what) {
  return Error(Errc::kInvalidArgument, "tensor " + Quoted(entry.name()) + ": " + what);
}

// Offsets computed from a checked entry stay inside its bytes, and its bytes below 2^53.
Result<CheckedEntry> Check(const proto::TensorEntry& entry) {
  HF_TRY(const ByteCount element_bytes, ElementBytes(entry.dtype()));
  const ShapeView local_shape = ViewOf(entry.local_shape());
  if (const Status part = ValidatePart(entry.part(), ViewOf(entry.global_shape()), local_shape);
      !part) {
    return Refuse(entry, part.error().message);
  }
  HF_TRY(const std::uint64_t elements, ElementCount(local_shape));
  if (entry.length_bytes() != elements * element_bytes || entry.length_bytes() >= kMaxImageBytes ||
      entry.offset_bytes() >= kMaxImageBytes) {
    return Refuse(entry,
                  "its place, " + std::to_string(entry.length_bytes()) + " bytes at " +
                      std::to_string(entry.offset_bytes()) + ", does not fit its shape " +
                      ShapeText(local_shape));
  }
  return CheckedEntry{element_bytes};
}

// The boxes of the concatenation, before the flat range is applied.
std::vector<TensorBox> PartBoxes(const proto::TensorEntry& entry) {
  std::vector<TensorBox> boxes;
  if (entry.part().boxes_size() == 0) {
    boxes.push_back(WholeBox(ViewOf(entry.global_shape())));
    return boxes;
  }
  boxes.reserve(static_cast<std::size_t>(entry.part().boxes_size()));
  for (const proto::Box& box : entry.part().boxes()) {
    boxes.push_back(FromProto(box));
  }
  return boxes;
}

std::vector<HeldBox> HeldBoxesOfChecked(const proto::TensorEntry& entry, ByteCount element_bytes) {
  const proto::Part& part = entry.part();
  const std::uint64_t first = part.has_flat_range() ? part.flat_offset() : 0;
  const std::uint64_t end = part.has_flat_range() ? first + part.flat_length() : kMaxElements;
  std::vector<HeldBox> held;
  std::uint64_t at = 0;  // elements of the concatenation before the current box
  ByteCount image_offset = entry.offset_bytes();
  for (const TensorBox& box : PartBoxes(entry)) {
    const std::uint64_t box_end = at + ElementsOf(box);
    const std::uint64_t from = std::clamp(first, at, box_end);
    const std::uint64_t to = std::clamp(end, from, box_end);
    for (TensorBox& piece : SplitFlatRange(box, from - at, to - from)) {
      const ByteCount length = ElementsOf(piece) * element_bytes;
      held.push_back({std::move(piece), image_offset, length});
      image_offset += length;
    }
    at = box_end;
  }
  return held;
}

// Row-major strides in bytes.
Shape Strides(ShapeView lengths, ByteCount element_bytes) {
  Shape strides(lengths.size());
  ByteCount stride = element_bytes;
  for (std::size_t d = lengths.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= lengths[d];
  }
  return strides;
}

}  // namespace

Result<std::vector<HeldBox>> HeldBoxes(const proto::TensorEntry& entry) {
  HF_TRY(const CheckedEntry checked, Check(entry));
  if (entry.part().opaque()) {
    return Refuse(entry,
                  "its part is opaque: it can be restored only into the layout that it was "
                  "taken from");
  }
  return HeldBoxesOfChecked(entry, checked.element_bytes);
}

Result<RegionRuns> RegionRuns::OfGlobal(const proto::TensorEntry& entry, const TensorBox& wanted) {
  HF_TRY(const std::vector<HeldBox> held, HeldBoxes(entry));
  if (const Status box = ValidateBox(wanted, ViewOf(entry.global_shape())); !box) {
    return Refuse(entry, box.error().message);
  }
  HF_TRY(const ByteCount element_bytes, ElementBytes(entry.dtype()));
  return RegionRuns(held, wanted, element_bytes);
}

Result<RegionRuns> RegionRuns::OfLocal(const proto::TensorEntry& entry, const TensorBox& wanted) {
  HF_TRY(const CheckedEntry checked, Check(entry));
  const ShapeView local_shape = ViewOf(entry.local_shape());
  if (const Status box = ValidateBox(wanted, local_shape); !box) {
    return Refuse(entry, box.error().message);
  }
  std::vector<HeldBox> held;
  held.push_back({WholeBox(local_shape), entry.offset_bytes(), entry.length_bytes()});
  return RegionRuns(held, wanted, checked.element_bytes);
}

RegionRuns::RegionRuns(const std::vector<HeldBox>& held,
                       const TensorBox& wanted,
                       ByteCount element_bytes)
    : destination_bytes_(ElementsOf(wanted) * element_bytes) {
  for (const HeldBox& one : held) {
    if (const auto common = Intersect(one.box, wanted)) {
      nests_.push_back(MakeNest(one, wanted, *common, element_bytes));
      covered_bytes_ += ElementsOf(*common) * element_bytes;
    }
  }
  if (!nests_.empty()) {
    position_.assign(nests_.front().count.size(), 0);
  }
}

RegionRuns::Nest RegionRuns::MakeNest(const HeldBox& held,
                                      const TensorBox& wanted,
                                      const TensorBox& common,
                                      ByteCount element_bytes) {
  const Shape image_strides = Strides(held.box.length, element_bytes);
  const Shape destination_strides = Strides(wanted.length, element_bytes);
  Nest nest;
  nest.image_offset = held.image_offset;
  for (std::size_t d = 0; d < common.offset.size(); ++d) {
    nest.image_offset += (common.offset[d] - held.box.offset[d]) * image_strides[d];
    nest.destination_offset += (common.offset[d] - wanted.offset[d]) * destination_strides[d];
  }
  // Inner dimensions that both sides have in full are one contiguous stretch; the first that either
  // side has only in part still is, but ends the run.
  std::size_t outer = common.length.size();
  nest.run_bytes = element_bytes;
  while (outer > 0) {
    --outer;
    nest.run_bytes *= common.length[outer];
    if (common.length[outer] != held.box.length[outer] ||
        common.length[outer] != wanted.length[outer]) {
      break;
    }
  }
  const auto cut = static_cast<std::ptrdiff_t>(outer);
  nest.count.assign(common.length.begin(), common.length.begin() + cut);
  nest.image_step.assign(image_strides.begin(), image_strides.begin() + cut);
  nest.destination_step.assign(destination_strides.begin(), destination_strides.begin() + cut);
  return nest;
}

bool RegionRuns::NextOfNests(ByteRun* run) {
  if (nest_ == nests_.size()) {
    return false;
  }
  const Nest& nest = nests_[nest_];
  *run = {nest.image_offset, nest.destination_offset, nest.run_bytes};
  for (std::size_t d = 0; d < position_.size(); ++d) {
    run->image_offset += position_[d] * nest.image_step[d];
    run->destination_offset += position_[d] * nest.destination_step[d];
  }
  // Counts up, innermost digit first.
  std::size_t d = position_.size();
  while (d > 0) {
    --d;
    if (++position_[d] < nest.count[d]) {
      return true;
    }
    position_[d] = 0;
  }
  ++nest_;
  position_.assign(nest_ < nests_.size() ? nests_[nest_].count.size() : 0, 0);
  return true;
}

bool RegionRuns::Next(ByteRun* run) {
  if (pending_.length == 0 && !NextOfNests(&pending_)) {
    return false;
  }
  *run = pending_;
  pending_ = {};
  // Pieces of a flat range, and boxes that lie one behind the other on both sides, join here.
  while (NextOfNests(&pending_)) {
    if (pending_.image_offset != run->image_offset + run->length ||
        pending_.destination_offset != run->destination_offset + run->length) {
      return true;
    }
    run->length += pending_.length;
    pending_ = {};
  }
  return true;
}

Result<std::vector<ByteRun>> CollectRuns(RegionRuns runs, std::size_t max_runs) {
  std::vector<ByteRun> all;
  ByteRun run;
  while (runs.Next(&run)) {
    if (all.size() == max_runs) {
      return Error(Errc::kNoSpace,
                   "the region is more than " + std::to_string(max_runs) +
                       " runs of bytes: read it run by run or by larger boxes");
    }
    all.push_back(run);
  }
  return all;
}

}  // namespace holdfast::layout
