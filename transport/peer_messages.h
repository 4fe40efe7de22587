// Messages between daemons to frames and back, and what may be in them.
//
// A peer has a certificate of the cluster, but it may be broken, old, or somebody's who stole one:
// what it says is checked here before anything acts on it, the same way for daemon, tests and
// fuzzer.
//
// Threads:   any thread; pure functions.
// Errors:    kCorruption for a payload that is no message; kInvalidArgument, kPermission,
//            kVersionMismatch for one that says what it may not.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "common/bytes.h"
#include "common/error.h"
#include "common/result.h"
#include "common/units.h"
#include "proto/peer.pb.h"

namespace holdfast::transport {

inline constexpr std::uint32_t kPeerProtocolVersion = 2;
// Strings and sub-messages that one payload may hold: three for each of 100,000 ranks.
inline constexpr std::size_t kMaxPeerParts = 300'000;
inline constexpr ByteCount kMaxReadRangeBytes = 4 * kMiB;
inline constexpr std::chrono::milliseconds kMaxDeadline{3'600'000};
inline constexpr std::size_t kUuidBytes = 16;
inline constexpr std::uint64_t kMaxScrubChunks = 1'024;  // of one request
inline constexpr std::size_t kMaxJobNameBytes = 128;
// What a peer may send before its hello was accepted.
inline constexpr std::size_t kMaxHelloBytes = 64 * kKiB;

[[nodiscard]] Result<std::string> EncodePeerFrame(const proto::PeerMessage& message);
[[nodiscard]] Result<proto::PeerMessage> ParsePeerMessage(ByteView payload);

// Whether the other side is one that this side can talk to.  kVersionMismatch names both versions.
[[nodiscard]] Status CheckHello(const proto::PeerHello& hello);

// Whether a request of the node "sender_uuid" is one that may be acted on.  kVersionMismatch: its
// body is not known here.  kPermission: it speaks for another node.
[[nodiscard]] Status CheckRequest(const proto::PeerRequest& request,
                                  const std::string& sender_uuid);

// What must be kept of a request to know whether a reply fits it.
struct AskedFor {
  AskedFor() = default;
  explicit AskedFor(const proto::PeerRequest& request);

  proto::PeerRequest::BodyCase kind = proto::PeerRequest::BODY_NOT_SET;
  std::uint32_t read_bytes = 0;  // of a ReadRange
};

// Whether a reply fits its request; not its digests.
[[nodiscard]] Status CheckReply(const AskedFor& asked, const proto::PeerReply& reply);

// One digest for each MiB of "data", as ReadRangeReply has them.
void AddDigests(proto::ReadRangeReply* reply);

// Compares; kCorruption names the first chunk that differs.  A worker's job where there is much.
[[nodiscard]] Status VerifyDigests(const proto::ReadRangeReply& reply);

[[nodiscard]] proto::PeerError ToPeerError(const Error& error);

// A code that is not known here is kInternal; the text is cut at 4 KiB.
[[nodiscard]] Error FromPeerError(std::uint32_t code, const std::string& message);

// "01234567-89ab-cdef-0123-456789abcdef".  Anything that has not 16 bytes is shown in hexadecimal.
[[nodiscard]] std::string UuidText(const std::string& uuid);

// The reverse; hyphens are optional, case does not matter.  kInvalidArgument.
[[nodiscard]] Result<std::string> ParseUuid(std::string_view text);

}  // namespace holdfast::transport
