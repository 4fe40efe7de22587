// The table of configuration keys: how each is read, written and bounded.
//
// Threads: constants and pure functions; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "daemon/config.h"

namespace holdfast::daemon {

// What a key points to in Config; the type decides notation and check.
struct CountField {
  std::uint64_t Config::*member;
  std::uint64_t least;
  std::uint64_t most;
};

// A count of bytes: "512MiB".
struct BytesField {
  ByteCount Config::*member;
  ByteCount least;  // 0 is accepted besides where "zero_is_special"
  ByteCount most;
  bool zero_is_special;
};

struct DurationField {
  std::chrono::milliseconds Config::*member;
  std::chrono::milliseconds least;
  std::chrono::milliseconds most;
};

// "off_is_empty": the key may be left out, and "off" is the same.
struct PathField {
  std::string Config::*member;
  bool off_is_empty = false;
};

// Free text without control characters, at most 128 bytes, or off.
struct NameField {
  std::string Config::*member;
};

// An ADDRESS:PORT, or off.
struct AddressField {
  std::string Config::*member;
};

struct AddressListField {
  std::vector<std::string> Config::*member;
};

// Ways to read the bytes of other nodes, the best first.
struct PlaneListField {
  std::vector<std::string> Config::*member;
};

struct LevelField {
  LogLevel Config::*member;
};

struct BoolField {
  bool Config::*member;
};

struct UidListField {
  std::vector<std::uint32_t> Config::*member;
};

struct PathListField {
  std::vector<std::string> Config::*member;
};

using KeyField = std::variant<CountField,
                              BytesField,
                              DurationField,
                              PathField,
                              NameField,
                              AddressField,
                              AddressListField,
                              PlaneListField,
                              LevelField,
                              BoolField,
                              UidListField,
                              PathListField>;

struct KeySpec {
  std::string_view name;  // "section.key"
  KeyField field;
  std::string_view why;
};

// In the order of the file.
[[nodiscard]] const std::vector<KeySpec>& ConfigKeys();

// nullptr: no such key.
[[nodiscard]] const KeySpec* FindKey(std::string_view name);

// The key whose name is nearest by edit distance, for messages.
[[nodiscard]] std::string_view NearestKey(std::string_view name);

// The range as people read it ("1 to 64", "10ms to 1h", "0 (derived), or 64 MiB to 1 PiB").
[[nodiscard]] std::string RangeText(const KeyField& field);
[[nodiscard]] std::string_view UnitText(const KeyField& field);
[[nodiscard]] std::string ValueText(const KeyField& field, const Config& config);

// kInvalidArgument where the value is out of its range.
[[nodiscard]] Status CheckRange(const KeySpec& key, const Config& config);

// The list "a, b" or one value, in the notation of a flag.
[[nodiscard]] Status SetFromText(const KeySpec& key, std::string_view text, Config* config);

}  // namespace holdfast::daemon
