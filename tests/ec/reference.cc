#include "tests/ec/reference.h"

#include "common/mix64.h"

namespace holdfast::ec {

std::uint8_t SlowMultiply(std::uint8_t a, std::uint8_t b) {
  unsigned product = 0;
  for (unsigned bit = 0; bit < 8; ++bit) {
    product ^= ((b >> bit) & 1u) != 0 ? static_cast<unsigned>(a) << bit : 0u;
  }
  for (unsigned bit = 14; bit >= 8; --bit) {
    product ^= ((product >> bit) & 1u) != 0 ? 0x11du << (bit - 8) : 0u;
  }
  return static_cast<std::uint8_t>(product);
}

std::uint8_t SlowInverse(std::uint8_t a) {
  for (unsigned b = 1; b < 256; ++b) {
    if (SlowMultiply(a, static_cast<std::uint8_t>(b)) == 1) {
      return static_cast<std::uint8_t>(b);
    }
  }
  return 0;
}

std::uint8_t SlowEntry(std::uint32_t row, std::uint32_t column) {
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

Bytes SlowRow(std::uint32_t row, const std::vector<Bytes>& segments) {
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

Bytes RandomBytes(std::size_t size, std::uint64_t seed) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(Mix64(seed * 0x100000001b3ULL + i) >> 56);
  }
  return bytes;
}

}  // namespace holdfast::ec
