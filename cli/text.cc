#include "cli/text.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>

#include "common/bytes.h"

namespace holdfast::cli {
namespace {

// Length of the UTF-8 sequence at the start of "text" if it is a printable code point, else 0.
std::size_t PrintableLength(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    return first >= 0x20 && first != 0x7f ? 1 : 0;
  }
  const std::size_t length = first >= 0xc2 && first < 0xe0   ? 2
                             : first >= 0xe0 && first < 0xf0 ? 3
                             : first >= 0xf0 && first < 0xf5 ? 4
                                                             : 0;
  if (length == 0 || text.size() < length) {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) {
      return 0;
    }
  }
  const unsigned char second = byte(1);
  const bool c1_control = first == 0xc2 && second < 0xa0;
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool surrogate = first == 0xed && second >= 0xa0;
  const bool too_large = first == 0xf4 && second >= 0x90;
  // U+202A-202E and U+2066-2069 turn the direction of text: "bad" could be shown as something else.
  const bool turns = first == 0xe2 && ((second == 0x80 && byte(2) >= 0xaa && byte(2) <= 0xae) ||
                                       (second == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9));
  return c1_control || overlong || surrogate || too_large || turns ? 0 : length;
}

std::string TwoUnits(std::int64_t large, char large_unit, std::int64_t small, char small_unit) {
  std::array<char, 48> text{};
  std::snprintf(text.data(),
                text.size(),
                "%lld%c %02lld%c",
                static_cast<long long>(large),
                large_unit,
                static_cast<long long>(small),
                small_unit);
  return text.data();
}

}  // namespace

std::string SafeText(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = PrintableLength(text);
    if (length == 0) {
      safe += "\\x" + ToHex(AsBytes(text.substr(0, 1)));
      text.remove_prefix(1);
    } else {
      safe += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return safe;
}

std::string ShortText(std::string_view text, std::size_t limit) {
  constexpr std::string_view kCut = "...";
  std::string safe = SafeText(text);
  if (DisplayWidth(safe) <= limit) {
    return safe;
  }
  const std::size_t keep = limit > kCut.size() ? limit - kCut.size() : 0;
  std::size_t end = 0;
  for (std::size_t width = 0; end < safe.size(); ++end) {
    const bool starts_character = (static_cast<unsigned char>(safe[end]) & 0xc0) != 0x80;
    if (starts_character && width++ == keep) {
      break;
    }
  }
  safe.resize(end);
  safe += kCut;
  return safe;
}

std::size_t DisplayWidth(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string FormatDuration(std::chrono::seconds duration) {
  constexpr std::int64_t kMinute = 60;
  constexpr std::int64_t kHour = 60 * kMinute;
  constexpr std::int64_t kDay = 24 * kHour;
  const std::int64_t seconds = std::max<std::int64_t>(duration.count(), 0);
  if (seconds < kMinute) {
    return std::to_string(seconds) + "s";
  }
  if (seconds < kHour) {
    return TwoUnits(seconds / kMinute, 'm', seconds % kMinute, 's');
  }
  if (seconds < kDay) {
    return TwoUnits(seconds / kHour, 'h', seconds % kHour / kMinute, 'm');
  }
  return TwoUnits(seconds / kDay, 'd', seconds % kDay / kHour, 'h');
}

std::string IdText(const proto::SnapshotId& id) {
  return std::to_string(id.step()) + "@" + std::to_string(id.incarnation());
}

std::string NodeName(std::string_view uuid) {
  constexpr std::size_t kShownDigits = 12;
  return ToHex(AsBytes(uuid)).substr(0, kShownDigits);
}

std::string TimeText(std::uint64_t unix_ms) {
  constexpr std::uint64_t kYear10000 = 253402300800;  // seconds
  const std::uint64_t seconds = unix_ms / 1000;
  if (unix_ms == 0 || seconds >= kYear10000) {
    return "unknown";
  }
  const auto time = static_cast<std::time_t>(seconds);
  std::tm parts{};
  std::array<char, 32> text{};
  if (gmtime_r(&time, &parts) == nullptr ||
      std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts) == 0) {
    return "unknown";
  }
  return text.data();
}

std::string Bar(ByteCount used, ByteCount total, std::size_t width) {
  const double share =
      total == 0 ? (used == 0 ? 0.0 : 1.0) : static_cast<double>(used) / static_cast<double>(total);
  auto filled = static_cast<std::size_t>(std::min(share, 1.0) * static_cast<double>(width));
  filled = used < total && filled == width && width > 0 ? width - 1 : filled;
  return "[" + std::string(filled, '#') + std::string(width - filled, '.') + "]";
}

std::string RankRanges(std::vector<std::uint32_t> ranks) {
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  std::string text;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) {
      ++last;
    }
    text += (text.empty() ? "" : ", ") + std::to_string(ranks[i]);
    text += last > i ? "-" + std::to_string(ranks[last]) : "";
    i = last + 1;
  }
  return text;
}

std::string InsteadText(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 8;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kShown; ++i) {
    text += (i == 0 ? (names.size() == 1 ? "; there is " : "; there are ") : ", ") + names[i];
  }
  return text + (names.size() > kShown ? ", ..." : "");
}

std::string Count(std::uint64_t number, std::string_view singular) {
  return std::to_string(number) + " " + std::string(singular) + (number == 1 ? "" : "s");
}

}  // namespace holdfast::cli
