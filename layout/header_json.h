// Private to layout/: the JSON text of an image's header, without length and padding.
//
// PlanImage needs the text's length before it knows where the data starts; BuildImageHeader writes
// the same text.  One function serves both, so the two cannot disagree.
#pragma once

#include <string>

#include "common/result.h"
#include "common/units.h"
#include "proto/manifest.pb.h"

namespace holdfast::layout {

// "data_start" is what the entries' offset_bytes count from, less the tensor data: 0 while a plan
// is being made, header_bytes in a finished layout.  kInvalidArgument above safetensors' limit.
[[nodiscard]] Result<std::string> HeaderJson(const proto::Layout& layout,
                                             proto::ImageKind kind,
                                             ByteCount data_start);

}  // namespace holdfast::layout
