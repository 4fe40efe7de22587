// Tells systemd how the daemon is (sd_notify's protocol, without its library).
//
// Threads:   any thread.
// Ownership: nothing; a datagram for each call.
// Errors:    none: who started us may not listen.  Without NOTIFY_SOCKET nothing happens.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace holdfast::daemon {

// "READY=1", "STOPPING=1", "STATUS=...", "WATCHDOG=1"; several are separated by newlines.
void NotifyService(std::string_view state);

// How often the watchdog wants to hear from us: half of what systemd was told; nothing if it does
// not watch this process.
[[nodiscard]] std::optional<std::chrono::milliseconds> WatchdogInterval();

}  // namespace holdfast::daemon
