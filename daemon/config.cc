#include "daemon/config.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <limits>
#include <utility>

#include "daemon/config_keys.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;

template <class... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

struct DurationUnit {
  std::string_view name;
  std::uint64_t milliseconds;
};

// Longest first: FormatDuration takes the first that divides.
constexpr DurationUnit kDurationUnits[] = {
    {"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}, {"ms", 1}};

// Bytes in the notation of the file, exactly: FormatBytes rounds.
std::string ExactBytes(ByteCount bytes) {
  for (const auto& [name, unit] : {std::pair("GiB", kGiB), std::pair("MiB", kMiB)}) {
    if (bytes != 0 && bytes % unit == 0) {
      return std::to_string(bytes / unit) + name;
    }
  }
  return std::to_string(bytes);
}

std::string Quoted(std::string_view text) {
  return "\"" + std::string(text) + "\"";
}

template <class List, class ToText>
std::string Bracketed(const List& list, ToText to_text) {
  std::string text = "[";
  for (const auto& item : list) {
    text += (text.size() > 1 ? ", " : "") + to_text(item);
  }
  return text + "]";
}

std::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "info";
}

Result<std::uint64_t> ParseCount(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Error(Errc::kInvalidArgument, "\"" + std::string(text) + "\" is no whole number");
  }
  return value;
}

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

template <class T>
Status Between(const T& value, const T& least, const T& most) {
  if (value < least || value > most) {
    return Error(Errc::kInvalidArgument, "out of range");
  }
  return Ok();
}

// ADDRESS:PORT as the exposer takes it: an IPv4 address, or an IPv6 address in brackets.
Status CheckMetricsAddress(const std::string& address) {
  if (address.empty()) {
    return Ok();
  }
  const std::size_t colon = address.rfind(':');
  const bool shape = colon != std::string::npos && colon > 0;
  const auto port = shape ? ParseCount(std::string_view(address).substr(colon + 1))
                          : Result<std::uint64_t>(std::uint64_t{65'536});
  const std::string host = shape ? address.substr(0, colon) : "";
  if (!port.has_value() || port.value() > 65'535 || host.size() > 64 ||
      host.find_first_not_of("0123456789abcdefABCDEF.:[]") != std::string::npos) {
    return Error(Errc::kInvalidArgument,
                 "daemon.metrics: \"" + address + "\" is no ADDRESS:PORT such as 127.0.0.1:9464");
  }
  return Ok();
}

}  // namespace

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

std::string_view UnitText(const KeyField& field) {
  return std::visit(Overloaded{[](const CountField&) { return "count"; },
                               [](const BytesField&) { return "bytes"; },
                               [](const DurationField&) { return "duration"; },
                               [](const PathField&) { return "path"; },
                               [](const TextField&) { return "text"; },
                               [](const LevelField&) { return "level"; },
                               [](const BoolField&) { return "true/false"; },
                               [](const UidListField&) { return "list of uids"; },
                               [](const PathListField&) { return "list of paths"; }},
                    field);
}

std::string RangeText(const KeyField& field) {
  const auto bytes = [](const BytesField& f) {
    return std::string(f.zero_is_special ? "0, or " : "") + ExactBytes(f.least) + " to " +
           ExactBytes(f.most);
  };
  return std::visit(
      Overloaded{[](const CountField& f) {
                   return std::to_string(f.least) + " to " + std::to_string(f.most);
                 },
                 bytes,
                 [](const DurationField& f) {
                   return FormatDuration(f.least) + " to " + FormatDuration(f.most);
                 },
                 [](const PathField&) { return std::string("absolute"); },
                 [](const TextField&) { return std::string("ADDRESS:PORT or off"); },
                 [](const LevelField&) { return std::string("debug, info, warning, error"); },
                 [](const BoolField&) { return std::string("true, false"); },
                 [](const UidListField&) { return std::string("at most 1024"); },
                 [](const PathListField&) { return std::string("absolute, at most 1024"); }},
      field);
}

std::string ValueText(const KeyField& field, const Config& config) {
  return std::visit(
      Overloaded{
          [&](const CountField& f) { return std::to_string(config.*f.member); },
          [&](const BytesField& f) { return Quoted(ExactBytes(config.*f.member)); },
          [&](const DurationField& f) { return Quoted(FormatDuration(config.*f.member)); },
          [&](const PathField& f) { return Quoted(config.*f.member); },
          [&](const TextField& f) {
            return Quoted((config.*f.member).empty() ? "off" : config.*f.member);
          },
          [&](const LevelField& f) { return Quoted(LevelName(config.*f.member)); },
          [&](const BoolField& f) { return std::string(config.*f.member ? "true" : "false"); },
          [&](const UidListField& f) {
            return Bracketed(config.*f.member,
                             [](std::uint32_t uid) { return std::to_string(uid); });
          },
          [&](const PathListField& f) { return Bracketed(config.*f.member, Quoted); }},
      field);
}

Status CheckRange(const KeySpec& key, const Config& config) {
  const Status in_range = std::visit(
      Overloaded{[&](const CountField& f) { return Between(config.*f.member, f.least, f.most); },
                 [&](const BytesField& f) -> Status {
                   if (f.zero_is_special && config.*f.member == 0) {
                     return Ok();
                   }
                   return Between(config.*f.member, f.least, f.most);
                 },
                 [&](const DurationField& f) { return Between(config.*f.member, f.least, f.most); },
                 [&](const UidListField& f) {
                   return Between((config.*f.member).size(), std::size_t{0}, std::size_t{1024});
                 },
                 [&](const PathListField& f) {
                   return Between((config.*f.member).size(), std::size_t{0}, std::size_t{1024});
                 },
                 [](const auto&) -> Status { return Ok(); }},
      key.field);
  if (!in_range.has_value()) {
    return Error(Errc::kInvalidArgument,
                 std::string(key.name) + " = " + ValueText(key.field, config) +
                     " is out of range: " + RangeText(key.field));
  }
  return Ok();
}

Status SetFromText(const KeySpec& key, std::string_view text, Config* config) {
  const auto set = [](auto* to, auto parsed) -> Status {
    if (!parsed.has_value()) {
      return parsed.error();
    }
    *to = std::move(parsed).value();
    return Ok();
  };
  Status status = std::visit(
      Overloaded{
          [&](const CountField& f) { return set(&(config->*f.member), ParseCount(text)); },
          [&](const BytesField& f) { return set(&(config->*f.member), ParseBytes(text)); },
          [&](const DurationField& f) { return set(&(config->*f.member), ParseDuration(text)); },
          [&](const PathField& f) { return set(&(config->*f.member), NormalPath(text)); },
          [&](const TextField& f) -> Status {
            config->*f.member = text == "off" ? std::string() : std::string(text);
            return Ok();
          },
          [&](const LevelField& f) { return set(&(config->*f.member), ParseLogLevel(text)); },
          [&](const BoolField& f) -> Status {
            if (text != "true" && text != "false") {
              return Error(Errc::kInvalidArgument, "is neither true nor false");
            }
            config->*f.member = text == "true";
            return Ok();
          },
          [&](const UidListField& f) { return set(&(config->*f.member), ParseUids(text)); },
          [&](const PathListField& f) { return set(&(config->*f.member), ParsePaths(text)); }},
      key.field);
  if (!status.has_value()) {
    return std::move(status).error().WithContext(key.name);
  }
  return CheckRange(key, *config);
}

Status ApplyValue(std::string_view key, std::string_view text, Config* config) {
  const KeySpec* spec = FindKey(key);
  if (spec == nullptr) {
    return Error(Errc::kInvalidArgument,
                 "there is no key \"" + std::string(key.substr(0, 64)) + "\"; did you mean \"" +
                     std::string(NearestKey(key)) + "\"?");
  }
  return SetFromText(*spec, text, config);
}

std::vector<ConfigKey> DescribeConfig(const Config& config) {
  std::vector<ConfigKey> rows;
  for (const KeySpec& key : ConfigKeys()) {
    ConfigKey row;
    row.name = key.name;
    row.unit = UnitText(key.field);
    row.range = RangeText(key.field);
    row.value = ValueText(key.field, config);
    row.why = key.why;
    rows.push_back(std::move(row));
  }
  return rows;
}

Status ValidateConfig(const Config& config) {
  for (const KeySpec& key : ConfigKeys()) {
    HF_TRYV(CheckRange(key, config));
  }
  const std::pair<std::string_view, const std::string&> paths[] = {
      {"daemon.state_dir", config.state_dir},
      {"arena.dir", config.arena_dir},
      {"clients.socket", config.socket}};
  for (const auto& [key, path] : paths) {
    if (path.empty()) {
      return Error(Errc::kInvalidArgument, std::string(key) + " is not set");
    }
  }
  if (config.state_dir == config.arena_dir) {
    return Error(Errc::kInvalidArgument,
                 "daemon.state_dir and arena.dir are the same folder; the one must survive a "
                 "reboot, the other is memory");
  }
  if (config.flush_retry_min > config.flush_retry_max) {
    return Error(Errc::kInvalidArgument, "flush.retry_min is above flush.retry_max");
  }
  if (config.flush_block_bytes % kMiB != 0) {
    return Error(Errc::kInvalidArgument, "flush.block must be a whole number of MiB");
  }
  return CheckMetricsAddress(config.metrics_address);
}

}  // namespace holdfast::daemon
