// Names that tests which run at the same time do not share.  A process number is none: test
// sandboxes have number spaces of their own over one /tmp.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace holdfast::tests {

// "prefix-<16 hex digits>", another one at each call.
inline std::string UniqueName(const std::string& prefix) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::random_device source;
  std::string name = prefix + "-";
  for (int i = 0; i < 16; ++i) {
    name += kDigits[source() % 16];
  }
  return name;
}

}  // namespace holdfast::tests
