#include "daemon/config_values.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <limits>
#include <utility>

#include "daemon/config.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;

struct DurationUnit {
  std::string_view name;
  std::uint64_t milliseconds;
};

// Longest first: FormatDuration takes the first that divides.
constexpr DurationUnit kDurationUnits[] = {
    {"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}, {"ms", 1}};

std::vector<std::string> SplitList(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    std::string_view part = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const std::size_t begin = part.find_first_not_of(' ');
    if (begin != std::string_view::npos) {
      parts.emplace_back(part.substr(begin, part.find_last_not_of(' ') - begin + 1));
    }
  }
  return parts;
}

// ADDRESS:PORT: an IPv4 address, or an IPv6 address in brackets.
Status CheckAddress(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  const bool shape = colon != std::string::npos && colon > 0;
  const auto port = shape ? ParseCount(std::string_view(address).substr(colon + 1))
                          : Result<std::uint64_t>(std::uint64_t{65'536});
  const std::string host = shape ? address.substr(0, colon) : "";
  if (!port.has_value() || port.value() > 65'535 || host.size() > 64 ||
      host.find_first_not_of("0123456789abcdefABCDEF.:[]") != std::string::npos) {
    return Error(Errc::kInvalidArgument,
                 "\"" + address.substr(0, 64) + "\" is no ADDRESS:PORT such as 127.0.0.1:9464");
  }
  return Ok();
}

}  // namespace

Result<std::uint64_t> ParseCount(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Error(Errc::kInvalidArgument, "\"" + std::string(text) + "\" is no whole number");
  }
  return value;
}

Result<std::vector<std::uint32_t>> ParseUids(std::string_view text) {
  std::vector<std::uint32_t> uids;
  for (const std::string& part : SplitList(text)) {
    HF_TRY(const std::uint64_t uid, ParseCount(part));
    // The highest is "no user" to the kernel.
    if (uid >= std::numeric_limits<std::uint32_t>::max()) {
      return Error(Errc::kInvalidArgument, part + " is no uid");
    }
    uids.push_back(static_cast<std::uint32_t>(uid));
  }
  return uids;
}

Result<std::vector<std::string>> ParsePaths(std::string_view text) {
  std::vector<std::string> paths;
  for (const std::string& part : SplitList(text)) {
    HF_TRY(std::string path, NormalPath(part));
    paths.push_back(std::move(path));
  }
  return paths;
}

Result<std::string> ParseName(std::string_view text) {
  constexpr std::size_t kMaxName = 128;
  const bool printable =
      std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  if (text.size() > kMaxName || !printable) {
    return Error(Errc::kInvalidArgument, "a name has at most 128 printable bytes and no blanks");
  }
  return text == "off" ? std::string() : std::string(text);
}

Result<std::string> ParseAddress(std::string_view text) {
  std::string address = text == "off" ? std::string() : std::string(text);
  if (!address.empty()) {
    HF_TRYV(CheckAddress(address));
  }
  return address;
}

Result<std::vector<std::string>> ParseAddresses(std::string_view text) {
  std::vector<std::string> addresses = SplitList(text);
  for (const std::string& address : addresses) {
    HF_TRYV(CheckAddress(address));
  }
  return addresses;
}

Result<std::vector<std::string>> ParsePlanes(std::string_view text) {
  constexpr std::size_t kMaxProvider = 64;
  std::vector<std::string> planes = SplitList(text);
  for (auto plane = planes.begin(); plane != planes.end(); ++plane) {
    const bool is_name = std::all_of(plane->begin(), plane->end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == ';' || c == '-' ||
             c == '.';
    });
    if (plane->size() > kMaxProvider || !is_name) {
      return Error(Errc::kInvalidArgument,
                   "\"" + plane->substr(0, kMaxProvider) +
                       "\" is no data plane; write tls, or a provider of libfabric such as "
                       "verbs;ofi_rxm, efa or tcp;ofi_rxm");
    }
    if (std::find(planes.begin(), plane, *plane) != plane) {
      return Error(Errc::kInvalidArgument, *plane + " stands twice");
    }
  }
  return planes;
}

Result<milliseconds> ParseDuration(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (error == std::errc()) {
    for (const DurationUnit& known : kDurationUnits) {
      if (unit == known.name && number <= std::uint64_t{1} << 40 && known.milliseconds != 0) {
        return milliseconds(number * known.milliseconds);
      }
    }
  }
  return Error(Errc::kInvalidArgument,
               "\"" + std::string(text.substr(0, 64)) +
                   "\" is no duration; write a number and ms, s, m, h or d, such as \"30s\"");
}

std::string FormatDuration(milliseconds duration) {
  const auto count = static_cast<std::uint64_t>(std::max<std::int64_t>(0, duration.count()));
  for (const DurationUnit& unit : kDurationUnits) {
    if (count % unit.milliseconds == 0 && (count != 0 || unit.milliseconds == 1'000)) {
      return std::to_string(count / unit.milliseconds) + std::string(unit.name);
    }
  }
  return std::to_string(count) + "ms";
}

Result<std::string> NormalPath(std::string_view path) {
  const auto refuse = [&](std::string_view why) {
    return Error(Errc::kInvalidArgument,
                 "path \"" + std::string(path.substr(0, 128)) + "\" " + std::string(why));
  };
  if (path.empty() || path.front() != '/') {
    return refuse("is not absolute");
  }
  if (path.size() > 1024) {
    return refuse("is longer than 1024 bytes");
  }
  std::string normal;
  while (!path.empty()) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (part == "." || part == "..") {
      return Error(Errc::kInvalidArgument, "a path must not contain \".\" or \"..\"");
    }
    if (std::any_of(part.begin(), part.end(), [](char c) {
          return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
        })) {
      return Error(Errc::kInvalidArgument, "a path must not contain control characters");
    }
    if (!part.empty()) {
      normal += "/" + std::string(part);
    }
  }
  return normal.empty() ? std::string("/") : normal;
}

}  // namespace holdfast::daemon
