// What every part of the core shares: options, identity, slots, and the Ready under construction.
//
// Threads:   io thread only.
// Ownership: owned by NodeState; parts keep a reference for their life.
#pragma once

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "common/clock.h"
#include "daemon/core/action.h"
#include "daemon/core/node_core.h"
#include "daemon/core/slot_table.h"

namespace holdfast::daemon {

// A text from a client, cut (between characters) to what a record may hold.
inline std::string Shortened(std::string text) {
  constexpr std::size_t kLongest = 1024;
  if (text.size() > kLongest) {
    std::size_t end = kLongest;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) {
      --end;
    }
    text.resize(end);
  }
  return text;
}

// When what failed may be tried again.
struct Retry {
  MonotonicTime not_before;
  std::chrono::milliseconds backoff{0};

  // Failures that come together, of several ranks, are one.
  void Failed(MonotonicTime now, const CoreOptions& options) {
    if (now >= not_before) {
      backoff = std::clamp(backoff * 2, options.flush_retry_min, options.flush_retry_max);
      not_before = now + backoff;
    }
  }
};

struct CoreContext {
  CoreOptions options;
  std::string node_uuid;
  SlotTable slots;
  MonotonicTime now;
  WallTime wall_now;
  Ready out;
  std::uint64_t next_sequence = 1;  // of messages
  std::uint64_t next_ticket = 1;

  storage_tiers::CatalogBatch* batch() { return &out.batch; }

  std::uint64_t boot_number() const { return slots.identity().boot_number; }

  std::uint64_t WallMs() const {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(wall_now.time_since_epoch()).count());
  }

  void Do(Action action) { out.actions.push_back(std::move(action)); }

  void Reply(SessionId session, RequestId request, proto::ServerMessage message) {
    message.set_request_id(request);
    Send send;
    send.session = session;
    send.message = std::move(message);
    Do(std::move(send));
  }

  void ReplyError(SessionId session, RequestId request, const Error& error) {
    proto::ServerMessage message;
    message.mutable_error()->set_code(static_cast<std::uint32_t>(error.code));
    message.mutable_error()->set_message(error.message);
    Reply(session, request, std::move(message));
  }
};

}  // namespace holdfast::daemon
