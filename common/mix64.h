// Spreads neighbouring numbers over all 64 bits (the output function of SplitMix64; Steele, Lea and
// Flood, "Fast splittable pseudorandom number generators", 2014).  Not for secrets.
#pragma once

#include <cstdint>

namespace holdfast {

constexpr std::uint64_t Mix64(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

}  // namespace holdfast
