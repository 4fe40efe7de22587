// Identity in the core: who, which start of the job, which snapshot, which slot.
//
// Threads: value types.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include "common/bytes.h"
#include "proto/manifest.pb.h"

namespace holdfast::daemon {

using Rank = std::uint32_t;
using Step = std::int64_t;
using JobUid = std::string;       // 16 raw bytes
using SessionId = std::uint64_t;  // one connection of a client; never reused in a process; 0: none
using RequestId = std::uint64_t;  // as in proto::ClientMessage
using SlotNumber = std::uint32_t;

inline constexpr Step kNoStep = -1;

// The incarnation that a message comes from.  The pair fences: two starts that took the same number
// (possible without a shared tier) differ in the token.
struct Epoch {
  std::uint64_t number = 0;
  std::uint64_t token = 0;

  friend bool operator==(const Epoch&, const Epoch&) = default;
};

// A snapshot of a known job, ordered as restores prefer them: by incarnation, then step.
struct SnapshotKey {
  std::uint64_t incarnation = 0;
  Step step = kNoStep;

  friend auto operator<=>(const SnapshotKey&, const SnapshotKey&) = default;
};

// A file of the arena.  A pair is never used twice: numbers rise within one run of the daemon, and
// the generation is the boot number at which the file was made.
struct SlotRef {
  SlotNumber slot = 0;
  std::uint64_t generation = 0;

  friend auto operator<=>(const SlotRef&, const SlotRef&) = default;
};

inline proto::SnapshotId ToProto(const JobUid& job, const SnapshotKey& key) {
  proto::SnapshotId id;
  id.set_job_uid(job);
  id.set_incarnation(key.incarnation);
  id.set_step(key.step);
  return id;
}

inline SnapshotKey KeyOf(const proto::SnapshotId& id) {
  return {id.incarnation(), id.step()};
}

// A node's uuid, 16 raw bytes, for messages and logs.
inline std::string NodeText(const std::string& uuid) {
  return ToHex(AsBytes(uuid));
}

// "18 s": whole seconds, for messages and logs.
inline std::string ToText(std::chrono::milliseconds time) {
  return std::to_string(std::chrono::floor<std::chrono::seconds>(time).count()) + " s";
}

// "step 120 of incarnation 2": for messages and logs.
inline std::string ToText(const SnapshotKey& key) {
  return "step " + std::to_string(key.step) + " of incarnation " + std::to_string(key.incarnation);
}

}  // namespace holdfast::daemon
