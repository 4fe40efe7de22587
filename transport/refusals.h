// Counts what peers did that they may not, and says it once for each of them.
//
// A broken peer tries again for ever, a hundred times a second: the log must name it and must not
// be filled by it; the counters show that it goes on.
//
// Threads: one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "common/error.h"

namespace holdfast::transport {

enum class Refusal : std::uint8_t {
  kTls,       // no certificate, another cluster's, expired, no TLS at all
  kVersion,   // another protocol version, a message that is not known here
  kIdentity,  // it says that it is another node, or speaks for one
  kGarbage,   // no frames, frames that are too large, no messages
  kLimit,     // more requests, or connections, than it may have
  kRequest,   // a request that nothing may act on
  kStale,     // of an epoch or a boot that is over
};

inline constexpr std::size_t kRefusals = 7;

// Stable: "tls", "version", ...: for logs and metrics.
[[nodiscard]] std::string_view Name(Refusal refusal);

class Refusals {
 public:
  // "peer": a node's uuid as text, or an address where no uuid is known.
  void Add(Refusal refusal, const std::string& peer, const Error& error);

  [[nodiscard]] std::uint64_t count(Refusal refusal) const {
    return counts_[static_cast<std::size_t>(refusal)];
  }

  // How many lines were logged.
  [[nodiscard]] std::uint64_t logged() const { return logged_; }

 private:
  std::array<std::uint64_t, kRefusals> counts_{};
  std::uint64_t logged_ = 0;
  std::set<std::pair<std::string, Refusal>> said_;  // bounded; beyond it nothing more is said
};

}  // namespace holdfast::transport
