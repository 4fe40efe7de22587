#include "layout/tensor_box.h"

#include <algorithm>
#include <numeric>

#include "common/check.h"

namespace holdfast::layout {
namespace {

// Intersect without making the box: parts can have many pairs.
bool ShareElements(const TensorBox& a, const TensorBox& b) {
  for (std::size_t d = 0; d < a.offset.size(); ++d) {
    if (a.offset[d] >= b.offset[d] + b.length[d] || b.offset[d] >= a.offset[d] + a.length[d]) {
      return false;
    }
  }
  return true;
}

// The dimension along which the boxes are spread most: where their lengths add up to the least.
std::size_t WidestSpread(const std::vector<const TensorBox*>& boxes, ShapeView shape) {
  std::size_t best = 0;
  double least = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    double covered = 0;
    for (const TensorBox* box : boxes) {
      covered += static_cast<double>(box->length[d]) / static_cast<double>(shape[d]);
    }
    if (d == 0 || covered < least) {
      best = d;
      least = covered;
    }
  }
  return best;
}

Status CheckNoOverlap(const std::vector<TensorBox>& boxes, ShapeView shape) {
  std::vector<const TensorBox*> by_start;
  by_start.reserve(boxes.size());
  for (const TensorBox& box : boxes) {
    if (ElementsOf(box) != 0) {
      by_start.push_back(&box);
    }
  }
  if (by_start.size() < 2) {
    return Ok();
  }
  if (shape.empty()) {
    return Error(Errc::kInvalidArgument, "a scalar can have only one box");
  }
  // Sorted along one dimension: only those that start before a box ends can share elements with it.
  const std::size_t along = WidestSpread(by_start, shape);
  std::sort(by_start.begin(), by_start.end(), [along](const TensorBox* a, const TensorBox* b) {
    return a->offset[along] < b->offset[along];
  });
  for (std::size_t i = 0; i < by_start.size(); ++i) {
    const TensorBox& box = *by_start[i];
    const std::uint64_t end = box.offset[along] + box.length[along];
    for (std::size_t k = i + 1; k < by_start.size() && by_start[k]->offset[along] < end; ++k) {
      if (ShareElements(box, *by_start[k])) {
        return Error(Errc::kInvalidArgument,
                     "two boxes of the part share elements: offset " + ShapeText(box.offset) +
                         " length " + ShapeText(box.length) + " and offset " +
                         ShapeText(by_start[k]->offset) + " length " +
                         ShapeText(by_start[k]->length));
      }
    }
  }
  return Ok();
}

// Elements in the concatenation of the part's boxes.
Result<std::uint64_t> ConcatenatedElements(const proto::Part& part, ShapeView global_shape) {
  if (part.boxes_size() == 0) {
    return ElementCount(global_shape);
  }
  if (part.boxes_size() > kMaxBoxesPerPart) {
    return Error(Errc::kInvalidArgument,
                 "the part has " + std::to_string(part.boxes_size()) + " boxes, at most " +
                     std::to_string(kMaxBoxesPerPart) + " are allowed: register it as opaque");
  }
  std::vector<TensorBox> boxes;
  boxes.reserve(static_cast<std::size_t>(part.boxes_size()));
  std::uint64_t total = 0;
  for (const proto::Box& box : part.boxes()) {
    boxes.push_back(FromProto(box));
    HF_TRYV(ValidateBox(boxes.back(), global_shape));
    total += ElementsOf(boxes.back());
  }
  HF_TRYV(CheckNoOverlap(boxes, global_shape));
  return total;
}

Status CheckOpaque(const proto::Part& part) {
  if (part.boxes_size() != 0 || part.has_flat_range() || part.flat_offset() != 0 ||
      part.flat_length() != 0) {
    return Error(Errc::kInvalidArgument, "an opaque part must have no boxes and no flat range");
  }
  return Ok();
}

}  // namespace

std::string ShapeText(ShapeView shape) {
  // A hostile message can carry millions of dimensions; the text must not.
  constexpr std::size_t kMostShown = kMaxDims;
  std::string text = "[";
  for (std::size_t i = 0; i < std::min(shape.size(), kMostShown); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  if (shape.size() > kMostShown) {
    text += ", ... " + std::to_string(shape.size()) + " in all";
  }
  return text + "]";
}

Result<std::uint64_t> ElementCount(ShapeView shape) {
  if (shape.size() > kMaxDims) {
    return Error(Errc::kInvalidArgument,
                 "shape " + ShapeText(shape) + " has " + std::to_string(shape.size()) +
                     " dimensions, at most " + std::to_string(kMaxDims) + " are allowed");
  }
  std::uint64_t product = 1;
  bool empty = false;
  for (std::uint64_t dim : shape) {
    if (dim == 0) {
      empty = true;
      continue;
    }
    if (dim > kMaxElements / product) {
      return Error(Errc::kInvalidArgument,
                   "shape " + ShapeText(shape) + " has more than 2^53 elements");
    }
    product *= dim;
  }
  return empty ? 0 : product;
}

TensorBox WholeBox(ShapeView shape) {
  return {Shape(shape.size(), 0), Shape(shape.begin(), shape.end())};
}

TensorBox FromProto(const proto::Box& box) {
  const ShapeView offset = ViewOf(box.offset());
  const ShapeView length = ViewOf(box.length());
  return {Shape(offset.begin(), offset.end()), Shape(length.begin(), length.end())};
}

Status ValidateBox(const TensorBox& box, ShapeView shape) {
  if (box.offset.size() != shape.size() || box.length.size() != shape.size()) {
    return Error(Errc::kInvalidArgument,
                 "a box with " + std::to_string(box.offset.size()) + " offsets and " +
                     std::to_string(box.length.size()) + " lengths cannot be in shape " +
                     ShapeText(shape));
  }
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (box.length[d] > shape[d] || box.offset[d] > shape[d] - box.length[d]) {
      return Error(Errc::kInvalidArgument,
                   "the box at offset " + ShapeText(box.offset) + " of length " +
                       ShapeText(box.length) + " leaves shape " + ShapeText(shape) +
                       " in dimension " + std::to_string(d));
    }
  }
  return Ok();
}

std::uint64_t ElementsOf(const TensorBox& box) {
  return std::accumulate(
      box.length.begin(), box.length.end(), std::uint64_t{1}, std::multiplies<>());
}

std::optional<TensorBox> Intersect(const TensorBox& a, const TensorBox& b) {
  HOLDFAST_CHECK(a.offset.size() == b.offset.size());
  TensorBox common{Shape(a.offset.size()), Shape(a.offset.size())};
  for (std::size_t d = 0; d < a.offset.size(); ++d) {
    const std::uint64_t begin = std::max(a.offset[d], b.offset[d]);
    const std::uint64_t end = std::min(a.offset[d] + a.length[d], b.offset[d] + b.length[d]);
    if (begin >= end) {
      return std::nullopt;
    }
    common.offset[d] = begin;
    common.length[d] = end - begin;
  }
  return common;
}

std::vector<TensorBox> SplitFlatRange(const TensorBox& box,
                                      std::uint64_t first,
                                      std::uint64_t count) {
  const std::uint64_t elements = ElementsOf(box);
  HOLDFAST_CHECK(first <= elements && count <= elements - first);
  std::vector<TensorBox> pieces;
  if (count == 0) {
    return pieces;
  }
  const std::size_t rank = box.length.size();
  if (rank == 0) {
    pieces.push_back(box);
    return pieces;
  }
  // unit[d]: elements in one step along dimension d.  No length is 0 here, since count > 0.
  Shape unit(rank, 1);
  for (std::size_t d = rank - 1; d > 0; --d) {
    unit[d - 1] = unit[d] * box.length[d];
  }
  const std::uint64_t end = first + count;
  for (std::uint64_t at = first; at < end;) {
    // The outermost dimension along which whole steps fit: short rows first, then planes, then rows
    // again, which gives at most 2 * rank - 1 pieces.
    std::size_t along = 0;
    while (at % unit[along] != 0 || unit[along] > end - at) {
      ++along;
    }
    TensorBox piece = box;
    for (std::size_t d = 0; d <= along; ++d) {
      piece.offset[d] = box.offset[d] + at / unit[d] % box.length[d];
      piece.length[d] = 1;
    }
    const std::uint64_t room = box.length[along] - (piece.offset[along] - box.offset[along]);
    piece.length[along] = std::min((end - at) / unit[along], room);
    at += piece.length[along] * unit[along];
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

Status ValidatePart(const proto::Part& part, ShapeView global_shape, ShapeView local_shape) {
  HF_TRYV(ElementCount(global_shape));
  HF_TRY(const std::uint64_t local, ElementCount(local_shape));
  if (part.opaque()) {
    return CheckOpaque(part);
  }
  HF_TRY(const std::uint64_t concatenated, ConcatenatedElements(part, global_shape));
  std::uint64_t held = concatenated;
  if (part.has_flat_range()) {
    if (part.flat_length() > concatenated ||
        part.flat_offset() > concatenated - part.flat_length()) {
      return Error(Errc::kInvalidArgument,
                   "the flat range of " + std::to_string(part.flat_length()) + " elements from " +
                       std::to_string(part.flat_offset()) + " leaves the part's " +
                       std::to_string(concatenated) + " elements");
    }
    held = part.flat_length();
  } else if (part.flat_offset() != 0 || part.flat_length() != 0) {
    return Error(Errc::kInvalidArgument, "flat_offset or flat_length without has_flat_range");
  }
  if (held != local) {
    return Error(Errc::kInvalidArgument,
                 "the part of shape " + ShapeText(global_shape) + " has " + std::to_string(held) +
                     " elements but the local shape " + ShapeText(local_shape) + " has " +
                     std::to_string(local));
  }
  return Ok();
}

}  // namespace holdfast::layout
