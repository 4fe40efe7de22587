// The bytes that fabric_lender lends.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/bytes.h"
#include "common/mix64.h"

namespace holdfast::transport {

[[nodiscard]] inline std::byte PatternAt(std::uint64_t i) {
  return static_cast<std::byte>(Mix64(i / 8) >> (8 * (i % 8)));
}

inline void FillPattern(MutableByteView memory) {
  std::size_t i = 0;
  for (; i + 8 <= memory.size(); i += 8) {
    StoreLe64(memory.data() + i, Mix64(i / 8));
  }
  for (; i < memory.size(); ++i) {
    memory[i] = PatternAt(i);
  }
}

// The first byte of "memory" that is not the pattern's from "offset" on; its size where all are.
[[nodiscard]] inline std::size_t FirstOdd(ByteView memory, std::uint64_t offset) {
  for (std::size_t i = 0; i < memory.size(); ++i) {
    if (memory[i] != PatternAt(offset + i)) {
      return i;
    }
  }
  return memory.size();
}

}  // namespace holdfast::transport
