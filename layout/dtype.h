// Element types: size, name, and what the header of an image calls them.
//
// safetensors knows fewer types than training uses.  A type that it does not know stands in the
// header as "U8" with the shape [bytes], so that its library still opens the file; the true type
// and shape are in the sidecar (docs/format/image.md).
//
// Threads: any thread; pure functions.
// Errors:  values outside the enumeration (proto3 enums are open: any number can arrive) are
//          kInvalidArgument, never undefined behaviour.
#pragma once

#include <string_view>

#include "common/result.h"
#include "common/units.h"
#include "proto/manifest.pb.h"

namespace holdfast::layout {

// Bytes of one element.  F4_X2 packs two numbers a byte and counts as torch counts it: the element
// is the pair, the size is 1.
[[nodiscard]] Result<ByteCount> ElementBytes(proto::DataType dtype);

// "BF16": the name in the proto enumeration.  Stable: it is printed by the CLI and parsed below.
[[nodiscard]] Result<std::string_view> DataTypeName(proto::DataType dtype);

// The reverse of DataTypeName; exact spelling only.
[[nodiscard]] Result<proto::DataType> ParseDataType(std::string_view name);

// The name in an image's header: the type's own where safetensors has it, else "U8".
[[nodiscard]] Result<std::string_view> HeaderDataTypeName(proto::DataType dtype);

// Whether safetensors has the type.  Where not, the header's shape is [bytes].
[[nodiscard]] bool SafetensorsKnows(proto::DataType dtype);

// Reads a type from a header.  Only names that safetensors has: "C128" in a header is refused here
// because every other reader of the file would refuse it too.
[[nodiscard]] Result<proto::DataType> ParseHeaderDataType(std::string_view name);

}  // namespace holdfast::layout
