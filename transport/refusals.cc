#include "transport/refusals.h"

#include "common/log.h"

namespace holdfast::transport {
namespace {

// Strangers have as many addresses as they like.
constexpr std::size_t kMaxSaid = 4'096;

}  // namespace

std::string_view Name(Refusal refusal) {
  switch (refusal) {
    case Refusal::kTls:
      return "tls";
    case Refusal::kVersion:
      return "version";
    case Refusal::kIdentity:
      return "identity";
    case Refusal::kGarbage:
      return "garbage";
    case Refusal::kLimit:
      return "limit";
    case Refusal::kRequest:
      return "request";
    case Refusal::kStale:
      return "stale";
  }
  return "unknown";
}

void Refusals::Add(Refusal refusal, const std::string& peer, const Error& error) {
  ++counts_[static_cast<std::size_t>(refusal)];
  if (said_.size() >= kMaxSaid || !said_.emplace(peer, refusal).second) {
    return;
  }
  ++logged_;
  LogWarning("peer.refused",
             peer + " (" + std::string(Name(refusal)) + "): " + error.ToString() +
                 "; said once for each peer, counted always");
}

}  // namespace holdfast::transport
