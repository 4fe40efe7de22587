// The placement of a rank's tensors in an image, and the check of a placement that somebody else
// computed.
//
// An image is a valid safetensors file (docs/format/image.md): header, then the tensors' bytes by
// falling element size, without holes.  The same bytes stand in the slot and on disk, so a flush is
// one copy of the whole and `safetensors.torch.load_file` opens what it wrote.  The placement is a
// function of the tensors alone: a layout received from a client, a peer or a file is checked by
// planning it again and comparing.
//
// Threads:   any thread; pure functions.
// Ownership: values in, values out.
// Errors:    kInvalidArgument names the tensor and what is wrong with it; kVersionMismatch for a
//            layout of newer software.  A layout read from a file that fails here is damaged; the
//            decoders turn the code into kCorruption.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "common/result.h"
#include "common/units.h"
#include "layout/image_header.h"  // the header's bytes belong to the same format
#include "layout/layout_hash.h"
#include "layout/tensor_box.h"
#include "proto/manifest.pb.h"

namespace holdfast::layout {

inline constexpr std::uint32_t kLayoutFormatVersion = 1;
inline constexpr std::size_t kMaxTensors = 1'000'000;
inline constexpr std::size_t kMaxBoxes = 1'000'000;  // in all parts of a layout
inline constexpr std::size_t kMaxNameBytes = 1024;
// Images stay below it: JSON readers that keep numbers as doubles read every offset exactly.
inline constexpr ByteCount kMaxImageBytes = ByteCount{1} << 53;

// A tensor as a rank registers it: TensorEntry without a place.
struct TensorSpec {
  std::string name;
  proto::DataType dtype = proto::DATA_TYPE_UNSPECIFIED;
  Shape global_shape;
  Shape local_shape;
  proto::Part part;
  proto::TensorClass tensor_class = proto::TENSOR_CLASS_UNSPECIFIED;
  std::uint32_t replica_id = 0;
  // Name of another, non-alias spec whose storage this one shares entirely (tied weights); the byte
  // lengths must be equal, dtype and shape may differ.
  std::string alias_of;
  // STATIC needs tensor_class CONSTANT.  Without meaning for an alias: it lies where its target is.
  proto::ImageKind image = proto::DYNAMIC;
};

// Places every tensor.  The result lists the tensors of the dynamic image, then of the static one,
// each by falling element size and then in the order given; aliases last, in the order given, with
// their target's image, offset and length (so reading through an alias needs no look-up; who sums
// or copies bytes must leave out entries with alias_of).  There is always a dynamic image, even
// without tensors; the static one exists where a spec asks for it.
[[nodiscard]] Result<proto::Layout> PlanImage(std::span<const TensorSpec> specs);

// That "layout" is one that PlanImage computes, bit for bit, and that its tensors are sound.  After
// Ok all arithmetic on the layout is safe: lengths, offsets and parts fit.
[[nodiscard]] Status ValidateLayout(const proto::Layout& layout);

// Whole length of an image, header included; 0 where there is no static image.
[[nodiscard]] ByteCount ImageBytes(const proto::Layout& layout, proto::ImageKind kind);

// Bytes before the first tensor.
[[nodiscard]] ByteCount ImageHeaderBytes(const proto::Layout& layout, proto::ImageKind kind);

}  // namespace holdfast::layout
