// The name of a layout: 16 bytes computed from every field of it.
//
// A layout of 100,000 tensors is megabytes and equal in thousands of snapshots, so it is kept once
// under its hash, and sidecars, catalog and manifest carry the hash.  It is computed over a
// serialisation of our own, field by field (docs/format/sidecar.md), because protobuf does not
// promise equal bytes for equal messages across versions, and a name must never drift.
//
// Threads: any thread; a pure function.
// Errors:  none; any layout, also a hostile one, has a hash.
#pragma once

#include <cstddef>
#include <string>

#include "proto/manifest.pb.h"

namespace holdfast::layout {

inline constexpr std::size_t kLayoutHashBytes = 16;

// Fields that this software does not know are not covered: a field that matters must raise
// Layout.format_version, which is.
[[nodiscard]] std::string LayoutHash(const proto::Layout& layout);

// The name of the static image of a layout, whatever else the layout has: two layouts with the same
// one place the same tensors at the same bytes of it.  Empty where there is no static image.
[[nodiscard]] std::string StaticHash(const proto::Layout& layout);

}  // namespace holdfast::layout
