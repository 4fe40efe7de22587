// Byte counts: constants, alignment, text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace holdfast {

using ByteCount = std::uint64_t;

inline constexpr ByteCount kKiB = 1024;
inline constexpr ByteCount kMiB = 1024 * kKiB;
inline constexpr ByteCount kGiB = 1024 * kMiB;

// The smallest multiple of "alignment" (a power of two) that is not below "value".
// "value" must be at most 2^64 - alignment.
constexpr ByteCount AlignUp(ByteCount value, ByteCount alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

// "1.5 GiB", "512 B": three significant digits, for people.
std::string FormatBytes(ByteCount bytes);

// Reads "4096", "512MiB", "1.5 GiB", "64k" (binary units; case and a trailing B are free).
// kInvalidArgument names the text and the accepted forms.
Result<ByteCount> ParseBytes(std::string_view text);

}  // namespace holdfast
