// Bytes by the megabyte: made, compared and searched as fast as memory is.
//
// Tests are not optimised (bazel/optimize.bzl), and a sanitizer looks at each access: what a test
// does byte by byte would take longer than what it tests.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/bytes.h"

namespace holdfast {

// Byte i becomes what "seed" and i decide, the same on every machine.
void FillPattern(MutableByteView memory, std::uint64_t seed = 0);

// The first byte of "memory" that is not that of FillPattern, whose byte "offset" is its first; the
// size of "memory" where all are.
[[nodiscard]] std::size_t FirstOdd(ByteView memory, std::uint64_t offset, std::uint64_t seed = 0);

[[nodiscard]] bool AllAre(ByteView memory, std::byte value);

[[nodiscard]] bool SameBytes(ByteView a, ByteView b);

// Every byte becomes another one; done twice, it is what it was.
void FlipAll(MutableByteView memory);

}  // namespace holdfast
