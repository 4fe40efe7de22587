// Refuses a serialised protobuf message that would take far more memory than it has bytes.
//
// An empty sub-message takes two bytes on the wire and a hundred in memory: a file of a few hundred
// megabytes could drive the daemon, and the snapshots that it guards, into the kernel's OOM killer.
// What takes memory of its own is therefore counted on the wire, before anything is parsed.
//
// Threads: any thread; a pure function.
// Errors:  kCorruption for more than "max_elements", for nesting too deep and for bytes that are no
//          protobuf message at all.  Ok does not mean that parsing will succeed.
#pragma once

#include <cstdint>

#include <google/protobuf/descriptor.h>

#include "common/bytes.h"
#include "common/result.h"

namespace holdfast::layout {

// Counts elements of repeated strings, bytes and messages, and unknown fields, at every depth of a
// message of "type".  Numbers in repeated fields are not counted: at most eight bytes of memory for
// each byte on the wire are bearable.
[[nodiscard]] Status CheckWireBudget(const google::protobuf::Descriptor& type,
                                     ByteView bytes,
                                     std::uint64_t max_elements);

}  // namespace holdfast::layout
