#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
// toml++ asserts on "[%]" before it reports it: a mistake in the file must not end the program.
#define TOML_ASSERT(expr) static_assert(true)
#include <toml++/toml.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/config_keys.h"
#include "layout/utf8.h"

namespace holdfast::daemon {
namespace {

constexpr std::size_t kMaxFileBytes = kMiB;

// A derived budget is a round number.
constexpr ByteCount kBudgetStep = 64 * kMiB;

// toml++ 3.3 has undefined behaviour for many letters where it expects a blank (U+00A0 to U+0499
// and more).  So it never sees them: each byte of a letter travels as a character that is safe,
// U+E0xx.
std::string HideLetters(std::string_view text) {
  std::string hidden;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      hidden += c;
    } else {
      hidden +=
          {'\xee', static_cast<char>(0x80 | byte >> 6), static_cast<char>(0x80 | (byte & 0x3f))};
    }
  }
  return hidden;
}

std::string ShowLetters(std::string_view hidden) {
  std::string text;
  for (std::size_t i = 0; i < hidden.size(); ++i) {
    if (hidden[i] == '\xee' && i + 2 < hidden.size()) {
      text += static_cast<char>((hidden[i + 1] & 0x3f) << 6 | (hidden[i + 2] & 0x3f));
      i += 2;
    } else {
      text += hidden[i];
    }
  }
  return text;
}

// The value of one key, in the notation of SetFromText; nothing for a type that no key has.
std::optional<std::string> TextOf(const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) {
    return ShowLetters(*text);
  }
  if (const auto number = node.value_exact<std::int64_t>()) {
    return std::to_string(*number);
  }
  if (const auto yes = node.value_exact<bool>()) {
    return *yes ? "true" : "false";
  }
  if (const toml::array* list = node.as_array()) {
    std::string joined;
    for (const toml::node& item : *list) {
      const auto part = item.is_array() ? std::nullopt : TextOf(item);
      // A comma is the separator of the text notation; no key needs one in an item.
      if (!part.has_value() || part->find(',') != std::string::npos) {
        return std::nullopt;
      }
      joined += (joined.empty() ? "" : ",") + *part;
    }
    return joined;
  }
  return std::nullopt;
}

Error At(const toml::node& node, const std::string& source, std::string message) {
  return Error(
      Errc::kInvalidArgument,
      source + " line " + std::to_string(node.source().begin.line) + ": " + std::move(message));
}

// Whether a value of that kind, a list or not, may stand there: one data plane needs no brackets.
bool Fits(const toml::node& node, const KeyField& field) {
  const bool is_list = std::holds_alternative<UidListField>(field) ||
                       std::holds_alternative<PathListField>(field) ||
                       std::holds_alternative<AddressListField>(field);
  const bool either =
      std::holds_alternative<PlaneListField>(field) && (node.is_array() || node.is_string());
  return either || (!std::holds_alternative<PlaneListField>(field) && node.is_array() == is_list);
}

Status ApplyNode(const std::string& name,
                 const toml::node& node,
                 const std::string& source,
                 Config* config) {
  const KeySpec* key = FindKey(name);
  if (key == nullptr) {
    return At(node,
              source,
              "there is no key \"" + name.substr(0, 64) + "\"; did you mean \"" +
                  std::string(NearestKey(name)) + "\"?");
  }
  const auto text = TextOf(node);
  if (!text.has_value() || !Fits(node, key->field)) {
    return At(node,
              source,
              name + " has a value of the wrong type; it is a " +
                  std::string(UnitText(key->field)) + " (" + RangeText(key->field) + ")");
  }
  Status status = SetFromText(*key, *text, config);
  if (!status.has_value()) {
    return At(node, source, status.error().message);
  }
  return Ok();
}

// Free bytes of the file system that "path" is, or will be, on.
Result<ByteCount> FreeOn(std::string path) {
  struct statfs info {};

  while (::statfs(path.c_str(), &info) != 0) {
    if (errno != ENOENT || path.size() <= 1) {
      return ErrnoError(errno, "look at the file system of arena.dir " + path);
    }
    path.resize(std::max<std::size_t>(path.rfind('/'), 1));
  }
  return static_cast<ByteCount>(info.f_bavail) * static_cast<ByteCount>(info.f_bsize);
}

// Memory that the files of an arena of a former daemon hold already.
ByteCount HeldByArena(const std::string& arena_dir) {
  const std::string slots = arena_dir + "/slots";
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(slots.c_str()), ::closedir);
  ByteCount held = 0;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own
  while (const dirent* entry = folder == nullptr ? nullptr : ::readdir(folder.get())) {
    struct stat info {};

    if (::fstatat(::dirfd(folder.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISREG(info.st_mode)) {
      held += static_cast<ByteCount>(info.st_blocks) * 512;
    }
  }
  return held;
}

// What the kernel thinks can be had without swapping.
Result<ByteCount> AvailableMemory() {
  std::ifstream meminfo("/proc/meminfo");
  std::string word;
  while (meminfo >> word) {
    ByteCount kilobytes = 0;
    if (word == "MemAvailable:" && meminfo >> kilobytes) {
      return kilobytes * kKiB;
    }
  }
  return Error(Errc::kIoError, "/proc/meminfo does not say MemAvailable; set arena.budget");
}

Result<ByteCount> DerivedBudget(const std::string& arena_dir) {
  HF_TRY(const ByteCount on_tmpfs, FreeOn(arena_dir));
  HF_TRY(const ByteCount in_memory, AvailableMemory());
  const ByteCount budget = BudgetFor(on_tmpfs, in_memory, HeldByArena(arena_dir));
  if (budget == 0) {
    return Error(Errc::kNoSpace,
                 "there is no memory for an arena: " + FormatBytes(on_tmpfs) + " free on " +
                     arena_dir + ", " + FormatBytes(in_memory) +
                     " of memory available; free some, or set arena.budget");
  }
  return budget;
}

Result<std::string> HomeFolder() {
  const std::string home = EnvironmentVariable("HOME");
  if (!home.empty()) {
    return home;
  }
  passwd entry{};
  passwd* found = nullptr;
  char buffer[4096];
  if (::getpwuid_r(::getuid(), &entry, buffer, sizeof buffer, &found) == 0 && found != nullptr) {
    return std::string(found->pw_dir);
  }
  return Error(Errc::kNotFound, "this user has no home folder; set HOME or use --state-dir");
}

}  // namespace

std::string EnvironmentVariable(const char* name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets variables
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

Status ApplyToml(std::string_view toml, const std::string& source, Config* config) {
  if (toml.size() > kMaxFileBytes) {
    return Error(Errc::kInvalidArgument, source + " is larger than 1 MiB: no configuration");
  }
  if (!layout::IsUtf8(toml)) {
    return Error(Errc::kInvalidArgument, source + " is not UTF-8");
  }
  const toml::parse_result parsed = toml::parse(HideLetters(toml), source);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return Error(Errc::kInvalidArgument,
                 source + " line " + std::to_string(error.source().begin.line) + ": " +
                     std::string(error.description()));
  }
  for (const auto& [section, node] : parsed.table()) {
    const toml::table* keys = node.as_table();
    if (keys == nullptr) {
      return At(node,
                source,
                "key \"" + std::string(section.str().substr(0, 64)) +
                    "\" is in no section; did you mean \"" +
                    std::string(NearestKey(section.str())) + "\"?");
    }
    for (const auto& [key, value] : *keys) {
      const std::string name = std::string(section.str()) + "." + std::string(key.str());
      HF_TRYV(ApplyNode(name, value, source, config));
    }
  }
  return Ok();
}

Status ApplyConfigFile(const std::string& path, Config* config) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return ErrnoError(errno, "open the configuration " + path);
  }
  std::string text;
  char block[4096];
  ssize_t count = 0;
  while (text.size() <= kMaxFileBytes && (count = ::read(fd, block, sizeof block)) > 0) {
    text.append(block, static_cast<std::size_t>(count));
  }
  const int number = errno;
  ::close(fd);
  if (count < 0) {
    return ErrnoError(number, "read the configuration " + path);
  }
  return ApplyToml(text, path, config);
}

Result<Places> UserPlaces() {
  std::string base = EnvironmentVariable("XDG_STATE_HOME");
  if (base.empty() || base.front() != '/') {
    HF_TRY(const std::string home, HomeFolder());
    base = home + "/.local/state";
  }
  HF_TRY(base, NormalPath(base));
  Places places;
  places.state_dir = base + "/holdfast";
  places.socket = places.state_dir + "/holdfastd.sock";
  places.arena_dir = "/dev/shm/holdfast-" + std::to_string(::getuid());
  return places;
}

Places SystemPlaces() {
  Places places;
  places.state_dir = "/var/lib/holdfast";
  places.socket = "/run/holdfast/holdfastd.sock";
  places.arena_dir = "/dev/shm/holdfast";
  return places;
}

ByteCount BudgetFor(ByteCount on_tmpfs, ByteCount in_memory, ByteCount held) {
  const ByteCount half = (std::min(on_tmpfs, in_memory) + held) / 2;
  return std::max(half / kBudgetStep * kBudgetStep, AlignUp(held, kBudgetStep));
}

Status ApplyDerivedDefaults(const Places& places, Config* config) {
  const bool state_given = !config->state_dir.empty();
  if (!state_given) {
    config->state_dir = places.state_dir;
  }
  if (config->arena_dir.empty()) {
    config->arena_dir = places.arena_dir;
  }
  if (config->socket.empty()) {
    // Who moves the state wants a second daemon, not a fight over one socket.
    config->socket = state_given ? config->state_dir + "/holdfastd.sock" : places.socket;
  }
  if (config->cpu_threads == 0) {
    const std::uint64_t processors = std::thread::hardware_concurrency();
    config->cpu_threads = std::clamp<std::uint64_t>(processors / 4, 1, 8);
  }
  if (config->budget_bytes == 0) {
    HF_TRY(config->budget_bytes, DerivedBudget(config->arena_dir));
  }
  return Ok();
}

}  // namespace holdfast::daemon
