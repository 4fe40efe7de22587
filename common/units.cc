#include "common/units.h"

#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace holdfast {
namespace {

constexpr std::array<const char*, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};

Error BadSize(std::string_view text) {
  return Error(Errc::kInvalidArgument,
               "not a size: \"" + std::string(text) +
                   "\"; write bytes (4096) or a binary unit (512MiB, 1.5 GiB)");
}

// The power of 1024 that a suffix stands for, or -1.
int PowerOfSuffix(std::string_view suffix) {
  std::string lower;
  for (char c : suffix) {
    if (c != ' ') {
      lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  if (lower.empty() || lower == "b") {
    return 0;
  }
  const std::string_view letters = "kmgtp";
  const auto power = letters.find(lower[0]);
  const std::string rest = lower.substr(1);
  const bool known_rest = rest.empty() || rest == "b" || rest == "i" || rest == "ib";
  return power == std::string_view::npos || !known_rest ? -1 : static_cast<int>(power) + 1;
}

}  // namespace

std::string FormatBytes(ByteCount bytes) {
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  std::array<char, 32> text{};
  const char* format =
      unit == 0 || value >= 100 ? "%.0f %s" : (value >= 10 ? "%.1f %s" : "%.2f %s");
  std::snprintf(text.data(), text.size(), format, value, kUnits[unit]);
  return text.data();
}

Result<ByteCount> ParseBytes(std::string_view text) {
  const std::string copy(text);
  if (copy.empty() || !std::isdigit(static_cast<unsigned char>(copy[0]))) {
    return BadSize(text);
  }
  char* end = nullptr;
  const double number = std::strtod(copy.c_str(), &end);
  const int power = PowerOfSuffix(std::string_view(end));
  const double bytes = power < 0 ? -1.0 : number * std::pow(1024.0, power);
  if (power < 0 || !std::isfinite(bytes) || bytes > 9.0e18) {
    return BadSize(text);
  }
  return static_cast<ByteCount>(bytes);
}

}  // namespace holdfast
