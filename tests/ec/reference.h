// The code as its definition says it, slowly: no tables, no logarithms, no ISA-L.  What ec/ gives
// is compared with this.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/bytes.h"

namespace holdfast::ec {

using Bytes = std::vector<std::byte>;

// Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1: without carries, bit by bit.
std::uint8_t SlowMultiply(std::uint8_t a, std::uint8_t b);

// The number whose product with "a" (not 0) is 1, by trying all.
std::uint8_t SlowInverse(std::uint8_t a);

// Entry of the parity matrix: 1 / (x_row + y_column), scaled as matrix.h says.
std::uint8_t SlowEntry(std::uint32_t row, std::uint32_t column);

// Row "row" of the parity of "segments", as long as the longest of them.
Bytes SlowRow(std::uint32_t row, const std::vector<Bytes>& segments);

// "size" bytes that "seed" decides.
Bytes RandomBytes(std::size_t size, std::uint64_t seed);

inline std::vector<ByteView> Views(const std::vector<Bytes>& vectors) {
  return {vectors.begin(), vectors.end()};
}

inline std::vector<MutableByteView> MutableViews(std::vector<Bytes>& vectors) {
  return {vectors.begin(), vectors.end()};
}

// Calls "visit" with each ascending choice of "count" out of 0 to n - 1.
template <class Visit>
void ForEachChoice(std::uint32_t n, std::uint32_t count, const Visit& visit) {
  std::vector<std::uint32_t> choice(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    choice[i] = i;
  }
  while (count <= n) {
    visit(choice);
    std::uint32_t i = count;
    while (i > 0 && choice[i - 1] == n - count + i - 1) {
      --i;
    }
    if (i == 0) {
      return;
    }
    ++choice[i - 1];
    for (; i < count; ++i) {
      choice[i] = choice[i - 1] + 1;
    }
  }
}

// The ascending rest of 0 to n - 1.
inline std::vector<std::uint32_t> Others(std::uint32_t n, std::span<const std::uint32_t> chosen) {
  std::vector<std::uint32_t> rest;
  for (std::uint32_t i = 0; i < n; ++i) {
    if (std::find(chosen.begin(), chosen.end(), i) == chosen.end()) {
      rest.push_back(i);
    }
  }
  return rest;
}

}  // namespace holdfast::ec
