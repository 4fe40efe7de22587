// The header of an image: writes it for a layout, reads it from bytes that nobody vouches for.
//
// The header lets a stranger with the safetensors library alone read what Holdfast wrote.  Holdfast
// itself places tensors by the sidecar and needs the header only to write it and to verify it
// (build it again and compare), or to import a file that has no sidecar.
//
// Threads:   any thread; pure functions.
// Ownership: values in, values out; views are not kept.
// Errors:    writing: kInvalidArgument for a layout that ValidateLayout would refuse.  Reading:
//            kCorruption with what is wrong and where; never an exception, never more memory than
//            a small multiple of the header.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "layout/tensor_box.h"
#include "proto/manifest.pb.h"

namespace holdfast::layout {

// Tensor bytes start at a multiple of this, so that O_DIRECT and page mappings reach them aligned.
inline constexpr ByteCount kHeaderAlignment = 4096;
// The u64 in front of the JSON text.
inline constexpr ByteCount kHeaderLengthBytes = 8;
// safetensors' own limit for the JSON text.
inline constexpr ByteCount kMaxHeaderJsonBytes = 100'000'000;

// Exactly header_bytes of "kind": length, JSON, spaces.  Deterministic.  kNotFound where the layout
// has no static image.
[[nodiscard]] Result<std::string> BuildImageHeader(const proto::Layout& layout,
                                                   proto::ImageKind kind);

// A tensor as a header describes it: of the file, not of the training (dtype "U8" may hide a type
// that safetensors does not have).
struct HeaderTensor {
  std::string name;
  proto::DataType dtype = proto::DATA_TYPE_UNSPECIFIED;
  Shape shape;
  ByteCount offset_bytes = 0;  // from the start of the image, header included
  ByteCount length_bytes = 0;
};

// How many bytes a reader of the whole header needs, from the first kHeaderLengthBytes of a file of
// "image_bytes".  Checked against the limit and the file's size: safe to allocate.
[[nodiscard]] Result<ByteCount> HeaderBytesFromPrefix(ByteView prefix, ByteCount image_bytes);

// Reads a header; "head" holds at least the whole header, "image_bytes" is the length of the file
// that it describes.  Tensors come in the order of their bytes.  Refused: text that is not UTF-8,
// names that occur twice, keys that are unknown, missing or occur twice, unknown dtypes, lengths
// that are not dtype times shape, holes, overlaps, bytes of the file that no tensor has.
// "__metadata__" (text to text) is allowed and ignored, as safetensors allows it.
[[nodiscard]] Result<std::vector<HeaderTensor>> ReadImageHeader(ByteView head,
                                                                ByteCount image_bytes);

}  // namespace holdfast::layout
