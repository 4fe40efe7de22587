// The code as its definition says it, slowly: no tables, no logarithms, no ISA-L.  What ec/ gives
// is compared with this.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "common/mix64.h"

namespace holdfast::ec {

using Bytes = std::vector<std::byte>;

// Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1: without carries, bit by bit.
inline std::uint8_t SlowMultiply(std::uint8_t a, std::uint8_t b) {
  unsigned product = 0;
  for (unsigned bit = 0; bit < 8; ++bit) {
    product ^= ((b >> bit) & 1u) != 0 ? static_cast<unsigned>(a) << bit : 0u;
  }
  for (unsigned bit = 14; bit >= 8; --bit) {
    product ^= ((product >> bit) & 1u) != 0 ? 0x11du << (bit - 8) : 0u;
  }
  return static_cast<std::uint8_t>(product);
}

// The number whose product with "a" (not 0) is 1, by trying all.
inline std::uint8_t SlowInverse(std::uint8_t a) {
  for (unsigned b = 1; b < 256; ++b) {
    if (SlowMultiply(a, static_cast<std::uint8_t>(b)) == 1) {
      return static_cast<std::uint8_t>(b);
    }
  }
  return 0;
}

// Entry of the parity matrix: 1 / (x_row + y_column), scaled as matrix.h says.
inline std::uint8_t SlowEntry(std::uint32_t row, std::uint32_t column) {
  const auto cauchy = [](std::uint32_t i, std::uint32_t j) {
    return SlowInverse(static_cast<std::uint8_t>((255 - i) ^ j));
  };
  const auto divide = [](std::uint8_t a, std::uint8_t b) {
    return SlowMultiply(a, SlowInverse(b));
  };
  const std::uint8_t column_scaled = divide(cauchy(row, column), cauchy(0, column));
  const std::uint8_t column_scaled_first = divide(cauchy(row, 0), cauchy(0, 0));
  return divide(column_scaled, column_scaled_first);
}

// Row "row" of the parity of "segments", as long as the longest of them.
inline Bytes SlowRow(std::uint32_t row, const std::vector<Bytes>& segments) {
  Bytes parity;
  for (std::uint32_t j = 0; j < segments.size(); ++j) {
    const std::uint8_t factor = SlowEntry(row, j);
    parity.resize(std::max(parity.size(), segments[j].size()));
    for (std::size_t p = 0; p < segments[j].size(); ++p) {
      parity[p] ^= std::byte{SlowMultiply(factor, static_cast<std::uint8_t>(segments[j][p]))};
    }
  }
  return parity;
}

// "size" bytes that "seed" decides.
inline Bytes RandomBytes(std::size_t size, std::uint64_t seed) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(Mix64(seed * 0x100000001b3ULL + i) >> 56);
  }
  return bytes;
}

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
