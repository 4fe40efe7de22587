// Messages of the client protocol to frames and back.
//
// One place decides what a payload may be, for the daemon, the client and the fuzzer alike.
//
// Threads:   any thread; pure functions.
// Errors:    kCorruption for a payload that is no such message; kInvalidArgument for a message that
//            is too large to send.
#pragma once

#include <cstddef>
#include <string>

#include "common/bytes.h"
#include "common/result.h"
#include "proto/client.pb.h"

namespace holdfast::transport {

// Strings and sub-messages that one payload may hold: three for each of 500,000 tensors.
inline constexpr std::size_t kMaxMessageParts = 2'000'000;

// Header and payload in one string, ready to be sent.
[[nodiscard]] Result<std::string> EncodeFrame(const proto::ClientMessage& message);
[[nodiscard]] Result<std::string> EncodeFrame(const proto::ServerMessage& message);

// A request without id or without body is kCorruption: no answer could name it.
[[nodiscard]] Result<proto::ClientMessage> ParseClientMessage(ByteView payload);

// A message without body is not an error: an older client meets an event that it does not know.
[[nodiscard]] Result<proto::ServerMessage> ParseServerMessage(ByteView payload);

// Whether a descriptor travels with this message.
[[nodiscard]] bool CarriesFd(const proto::ServerMessage& message);

}  // namespace holdfast::transport
