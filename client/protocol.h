// What every client says and checks alike: the hello, the daemon's errors, how long it waits.
//
// Threads: any thread; pure functions.
// Errors:  CheckHello: kVersionMismatch names both versions; kCorruption for another message.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "common/clock.h"
#include "common/result.h"
#include "proto/client.pb.h"

namespace holdfast::client {

inline constexpr std::uint32_t kProtocolVersion = 1;

[[nodiscard]] proto::HelloRequest MakeHello(const std::string& program);

[[nodiscard]] Status CheckHello(const proto::ServerMessage& reply);

// Until then, rounded up; 0: it is over.
[[nodiscard]] std::chrono::milliseconds TimeLeft(MonotonicTime deadline);

// A code of a newer daemon that is not known here becomes kInternal.
[[nodiscard]] Error DaemonError(const proto::ErrorReply& reply);

}  // namespace holdfast::client
