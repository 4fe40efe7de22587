// Boxes of tensors, flat ranges of boxes, and the check that a part says what it claims.
//
// Every plan of reads (restore, redistribution, export) is arithmetic on boxes.  It may multiply
// lengths without fear only because the bounds below were checked first, here and once: at most
// kMaxDims dimensions, and the product of the non-zero lengths at most kMaxElements.  With 16 bytes
// an element, 1,024 boxes and 2^53 elements everything stays below 2^64.
//
// Threads:   any thread; pure functions over values.
// Ownership: results own their numbers; ShapeView borrows for the call only.
// Errors:    kInvalidArgument with the numbers that do not fit.  Functions that say "checked"
//            boxes rely on ValidateBox having passed; a wrong rank there is a bug and ends the
//            process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/result.h"
#include "proto/manifest.pb.h"

namespace holdfast::layout {

inline constexpr std::size_t kMaxDims = 16;
inline constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 53;
inline constexpr int kMaxBoxesPerPart = 1024;

using Shape = std::vector<std::uint64_t>;
using ShapeView = std::span<const std::uint64_t>;

// A half-open box in elements: dimension d covers [offset[d], offset[d] + length[d]).  Both vectors
// have one number for each dimension; none at all is the box of a scalar, which has one element.
struct TensorBox {
  Shape offset;
  Shape length;

  friend bool operator==(const TensorBox&, const TensorBox&) = default;
};

inline ShapeView ViewOf(const google::protobuf::RepeatedField<std::uint64_t>& dims) {
  return {dims.data(), static_cast<std::size_t>(dims.size())};
}

// "[2, 3]", for messages.
[[nodiscard]] std::string ShapeText(ShapeView shape);

// The product of the dimensions; 1 for a scalar, 0 if any dimension is 0.  Refuses more than
// kMaxDims dimensions, and non-zero dimensions whose product is above kMaxElements even where
// another dimension is 0: strides are products of them.
[[nodiscard]] Result<std::uint64_t> ElementCount(ShapeView shape);

// The box of all elements of a tensor of this shape.
[[nodiscard]] TensorBox WholeBox(ShapeView shape);

[[nodiscard]] TensorBox FromProto(const proto::Box& box);

// That "box" has the rank of "shape" and lies inside it.  "shape" must have passed ElementCount.
[[nodiscard]] Status ValidateBox(const TensorBox& box, ShapeView shape);

// Number of elements of a checked box.
[[nodiscard]] std::uint64_t ElementsOf(const TensorBox& box);

// What two checked boxes of one tensor have in common; nothing if that is empty.
[[nodiscard]] std::optional<TensorBox> Intersect(const TensorBox& a, const TensorBox& b);

// The elements [first, first + count) of the row-major order of a checked box, as boxes whose
// row-major concatenation is exactly that range: at most 2 * rank - 1 of them (1 for a scalar), in
// order, none empty.  The range must lie in the box.  This turns flat ranges (ZeRO) into boxes, so
// that only boxes need to be understood elsewhere.
[[nodiscard]] std::vector<TensorBox> SplitFlatRange(const TensorBox& box,
                                                    std::uint64_t first,
                                                    std::uint64_t count);

// That "part" of a tensor of "global_shape" can be what a local tensor of "local_shape" holds:
//   - every box lies in the global shape; no two boxes share an element (a plan that counts covered
//     bytes would else believe a region complete that has holes);
//   - the flat range lies in the concatenation of the boxes;
//   - the element counts of what is held and of local_shape are equal;
//   - an opaque part names neither boxes nor a range: nothing may guess at it.
[[nodiscard]] Status ValidatePart(const proto::Part& part,
                                  ShapeView global_shape,
                                  ShapeView local_shape);

}  // namespace holdfast::layout
