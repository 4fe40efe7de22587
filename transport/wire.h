// What every protocol of ours does with Protobuf messages: put them into frames, and look at bytes
// of others before Protobuf does.
//
// Threads:   any thread; pure functions.
// Errors:    kInvalidArgument for a message that is too large to send; kCorruption for a payload
//            that is no such message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <google/protobuf/message.h>

#include "common/bytes.h"
#include "common/result.h"

namespace holdfast::transport {

// Header and payload in one string, ready to be sent.
[[nodiscard]] Result<std::string> EncodeMessage(const google::protobuf::Message& message,
                                                std::uint32_t magic);

// Fills "message", which must be empty.  A payload of 64 MiB can hold 32 million empty messages,
// each some hundred bytes once parsed: so strings and sub-messages are counted on the wire first,
// and more than "max_parts", nesting deeper than 16, or groups are refused.
[[nodiscard]] Status ParseMessage(ByteView payload,
                                  std::size_t max_parts,
                                  google::protobuf::Message* message);

}  // namespace holdfast::transport
