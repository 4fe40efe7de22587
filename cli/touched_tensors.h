// Which tensors lie in the chunks that are bad: what an operator has to know about a flipped bit is
// whether it hit a weight or an optimizer moment, not that chunk 517 is wrong.
//
// Threads: any thread; pure.
// Errors:  none: a layout was validated with the sidecar that carries it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "proto/manifest.pb.h"

namespace holdfast::cli {

// How the bytes before the first tensor are called in a report.
inline constexpr const char* kImageHeaderName = "(image header)";

// Names in image order, aliases behind what they share bytes with.  "chunks" ascending.
[[nodiscard]] std::vector<std::string> TouchedTensors(const proto::Layout& layout,
                                                      proto::ImageKind kind,
                                                      const std::vector<std::uint64_t>& chunks);

}  // namespace holdfast::cli
