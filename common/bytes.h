// Views of bytes, little-endian integers, hexadecimal text.
//
// Views never own: the callee must not keep one longer than the call unless its comment says so.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "common/result.h"

namespace holdfast {

using ByteView = std::span<const std::byte>;
using MutableByteView = std::span<std::byte>;

inline ByteView AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline std::string_view AsText(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Unaligned little-endian access; "from"/"to" must have room for the integer.
inline std::uint32_t LoadLe32(const void* from) {
  std::uint32_t v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline std::uint64_t LoadLe64(const void* from) {
  std::uint64_t v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void StoreLe32(void* to, std::uint32_t v) {
  std::memcpy(to, &v, sizeof v);
}

inline void StoreLe64(void* to, std::uint64_t v) {
  std::memcpy(to, &v, sizeof v);
}

static_assert(std::endian::native == std::endian::little, "Holdfast supports little-endian hosts");

// Big-endian text of 8 bytes: sorts as the number does, for catalog keys.
std::string BigEndianKey(std::uint64_t value);

// Lower-case hexadecimal.
std::string ToHex(ByteView bytes);

// kInvalidArgument when the length is odd or a character is not hexadecimal.
Result<std::string> FromHex(std::string_view hex);

}  // namespace holdfast
