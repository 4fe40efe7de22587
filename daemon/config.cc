#include "daemon/config.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "daemon/config_keys.h"
#include "daemon/config_values.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;

// A node tells its peers so many at most (peer.proto).
constexpr std::size_t kMaxEndpoints = 8;
constexpr std::size_t kMaxPlanes = 8;  // of data

template <class... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

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

template <class T>
Status Between(const T& value, const T& least, const T& most) {
  if (value < least || value > most) {
    return Error(Errc::kInvalidArgument, "out of range");
  }
  return Ok();
}

// Those that are given.
Status CheckAddresses(const std::vector<std::string>& addresses) {
  for (const std::string& address : addresses) {
    HF_TRYV(ParseAddress(address));
  }
  return Ok();
}

std::string OrOff(const std::string& value) {
  return Quoted(value.empty() ? "off" : value);
}

Status CheckPeerKeys(const Config& config) {
  const auto given = [](const std::string& value) { return value.empty() ? 0 : 1; };
  const int files =
      given(config.peer_authority) + given(config.peer_certificate) + given(config.peer_key);
  if (files != 0 && files != 3) {
    return Error(Errc::kInvalidArgument,
                 "peer.authority, peer.certificate and peer.key go together: all three, or none");
  }
  if (config.peer_listen.empty() && (files != 0 || !config.peer_advertise.empty())) {
    return Error(Errc::kInvalidArgument,
                 "peer.listen is off, but other keys of [peer] are set; they would do nothing");
  }
  return Ok();
}

}  // namespace

std::string_view UnitText(const KeyField& field) {
  return std::visit(Overloaded{[](const CountField&) { return "count"; },
                               [](const BytesField&) { return "bytes"; },
                               [](const DurationField&) { return "duration"; },
                               [](const PathField&) { return "path"; },
                               [](const NameField&) { return "name"; },
                               [](const AddressField&) { return "address"; },
                               [](const AddressListField&) { return "list of addresses"; },
                               [](const PlaneListField&) { return "list of planes"; },
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
                 [](const PathField& f) {
                   return std::string(f.off_is_empty ? "absolute, or off" : "absolute");
                 },
                 [](const NameField&) { return std::string("at most 128 bytes, or off"); },
                 [](const AddressField&) { return std::string("ADDRESS:PORT or off"); },
                 [](const AddressListField&) { return std::string("ADDRESS:PORT, at most 8"); },
                 [](const PlaneListField&) { return std::string("1 to 8 of tls, PROVIDER"); },
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
          [&](const PathField& f) {
            return f.off_is_empty ? OrOff(config.*f.member) : Quoted(config.*f.member);
          },
          [&](const NameField& f) { return OrOff(config.*f.member); },
          [&](const AddressField& f) { return OrOff(config.*f.member); },
          [&](const AddressListField& f) { return Bracketed(config.*f.member, Quoted); },
          [&](const PlaneListField& f) { return Bracketed(config.*f.member, Quoted); },
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
                 [&](const AddressField& f) { return CheckAddresses({config.*f.member}); },
                 [&](const AddressListField& f) -> Status {
                   HF_TRYV(Between((config.*f.member).size(), std::size_t{0}, kMaxEndpoints));
                   return CheckAddresses(config.*f.member);
                 },
                 [&](const PlaneListField& f) {
                   return Between((config.*f.member).size(), std::size_t{1}, kMaxPlanes);
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
          [&](const PathField& f) {
            return set(&(config->*f.member),
                       f.off_is_empty && text == "off" ? Result<std::string>(std::string())
                                                       : NormalPath(text));
          },
          [&](const NameField& f) { return set(&(config->*f.member), ParseName(text)); },
          [&](const AddressField& f) { return set(&(config->*f.member), ParseAddress(text)); },
          [&](const AddressListField& f) {
            return set(&(config->*f.member), ParseAddresses(text));
          },
          [&](const PlaneListField& f) { return set(&(config->*f.member), ParsePlanes(text)); },
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
  return CheckPeerKeys(config);
}

}  // namespace holdfast::daemon
