#include "common/failpoint.h"

#include <charconv>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

namespace holdfast {
namespace {

struct Failpoint {
  std::string action;
  std::string argument;
  std::uint64_t only_passage = 0;  // 0: every passage
  std::uint64_t passages = 0;
};

using Table = std::map<std::string, Failpoint, std::less<>>;

std::mutex table_mutex;

Table& ArmedTable() {
  static Table table;
  return table;
}

Result<std::uint64_t> ParseNumber(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Error(Errc::kInvalidArgument, "not a number: \"" + std::string(text) + "\"");
  }
  return value;
}

// One "name=action[:argument][@n]".
Status ParseOne(std::string_view text, Table* table) {
  const auto equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return Error(Errc::kInvalidArgument,
                 "failpoint \"" + std::string(text) + "\" is not of the form name=action");
  }
  Failpoint point;
  std::string_view action = text.substr(equals + 1);
  if (const auto at = action.rfind('@'); at != std::string_view::npos) {
    HF_TRY(point.only_passage, ParseNumber(action.substr(at + 1)));
    action = action.substr(0, at);
  }
  if (const auto colon = action.find(':'); colon != std::string_view::npos) {
    point.argument = action.substr(colon + 1);
    action = action.substr(0, colon);
  }
  point.action = action;
  const bool needs_argument = action == "error" || action == "wait" || action == "mark";
  const bool known = needs_argument || action == "kill" || action == "stall";
  if (!known || needs_argument == point.argument.empty()) {
    return Error(Errc::kInvalidArgument,
                 "failpoint \"" + std::string(text) +
                     "\": the action is one of kill, stall, error:N, wait:PATH, mark:PATH");
  }
  if (action == "error") {
    HF_TRYV(ParseNumber(point.argument));
  }
  table->insert_or_assign(std::string(text.substr(0, equals)), std::move(point));
  return Ok();
}

// The failpoint to act on in this passage, or an empty action.
Failpoint CountPassage(std::string_view name) {
  std::lock_guard lock(table_mutex);
  const auto it = ArmedTable().find(name);
  if (it == ArmedTable().end()) {
    return {};
  }
  Failpoint& point = it->second;
  ++point.passages;
  const bool acts = point.only_passage == 0 || point.only_passage == point.passages;
  return acts ? point : Failpoint{};
}

bool StillArmed(std::string_view name) {
  std::lock_guard lock(table_mutex);
  return ArmedTable().find(name) != ArmedTable().end();
}

void WaitWhileArmed(std::string_view name, const std::string& until_path) {
  while (StillArmed(name)) {
    if (!until_path.empty() && access(until_path.c_str(), F_OK) == 0) {
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void Act(std::string_view name, const Failpoint& point) {
  if (point.action == "kill") {
    kill(getpid(), SIGKILL);
    pause();
  } else if (point.action == "stall") {
    WaitWhileArmed(name, "");
  } else if (point.action == "wait") {
    WaitWhileArmed(name, point.argument);
  } else if (point.action == "mark") {
    const int fd = open(point.argument.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) {
      close(fd);
    }
  }
}

}  // namespace

namespace internal {

std::atomic<bool> failpoints_armed{false};

void HitFailpoint(std::string_view name) {
  Act(name, CountPassage(name));
}

Status HitFailpointStatus(std::string_view name) {
  const Failpoint point = CountPassage(name);
  if (point.action == "error") {
    return ErrnoError(std::atoi(point.argument.c_str()), "failpoint " + std::string(name));
  }
  Act(name, point);
  return Ok();
}

}  // namespace internal

Status ArmFailpoints(std::string_view specification) {
  Table table;
  while (!specification.empty()) {
    const auto end = specification.find(';');
    const auto one = specification.substr(0, end);
    if (!one.empty()) {
      HF_TRYV(ParseOne(one, &table));
    }
    specification = end == std::string_view::npos ? "" : specification.substr(end + 1);
  }
  std::lock_guard lock(table_mutex);
  ArmedTable() = std::move(table);
  internal::failpoints_armed.store(!ArmedTable().empty(), std::memory_order_release);
  return Ok();
}

}  // namespace holdfast
