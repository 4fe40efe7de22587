// The daemon's and the CLI's log: one line an event, to stderr (systemd's journal or a file).
//
//   LogInfo("daemon.start", "node " + uuid + " boot 7");
//
// The first argument names the event ("flush.failed"): stable, for grep and alerts.  The only
// header behind which spdlog lives; libholdfast never logs through it (it is a guest in a trainer).
//
// Threads: any thread.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"

namespace holdfast {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Reads "debug", "info", "warning" or "error".
Result<LogLevel> ParseLogLevel(std::string_view text);

// Call once before the first thread starts.  "program" stands in every line.
void StartLog(std::string_view program, LogLevel level);

void Log(LogLevel level, std::string_view event, std::string_view message);

inline void LogDebug(std::string_view event, std::string_view message) {
  Log(LogLevel::kDebug, event, message);
}

inline void LogInfo(std::string_view event, std::string_view message) {
  Log(LogLevel::kInfo, event, message);
}

inline void LogWarning(std::string_view event, std::string_view message) {
  Log(LogLevel::kWarning, event, message);
}

inline void LogError(std::string_view event, std::string_view message) {
  Log(LogLevel::kError, event, message);
}

}  // namespace holdfast
