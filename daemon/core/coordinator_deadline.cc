// The end of a restore whose time is over: on all ranks, with what was missing and where it was
// last seen (I11, L).  The clients wait no longer either, but know nothing of other nodes.

#include <string>

#include "daemon/core/coordinator.h"
#include "daemon/core/first_few.h"

namespace holdfast::daemon {
namespace {

// Ids whose failures are told; of each all sources are.
constexpr std::size_t kToldFailures = 3;
// Ranks that did not ask, and ranks that are waited for.
constexpr std::size_t kNamed = 16;

}  // namespace

bool Coordinator::EndOverdue() {
  if (phase_ != Phase::kCollect && phase_ != Phase::kPrepare) {
    return false;
  }
  std::optional<std::chrono::milliseconds> given;
  for (Rank rank = 0; rank < world_size(); ++rank) {
    const RankReport* state = RankOf(rank);
    if (state == nullptr || !state->asked || state->restore_limit.count() == 0) {
      asked_at_.erase(rank);
      continue;
    }
    const MonotonicTime since = asked_at_.try_emplace(rank, context_->now).first->second;
    if (context_->now - since >= state->restore_limit) {
      given = state->restore_limit;
    }
  }
  if (!given.has_value()) {
    return false;
  }
  asked_at_.clear();
  FailAttempt("nothing could be restored within " +
                  std::to_string(std::chrono::duration_cast<std::chrono::seconds>(*given).count()) +
                  " s, which is what restore() gave it: " + WhatIsMissing(),
              Errc::kTimeout);
  return true;
}

std::string Coordinator::WhatIsMissing() const {
  FirstFew ranks("; ", kNamed);
  for (Rank rank = 0; rank < world_size(); ++rank) {
    const RankReport* state = RankOf(rank);
    if (state == nullptr || !state->asked) {
      ranks.Add("rank " + std::to_string(rank) + " did not ask");
    } else if (phase_ == Phase::kPrepare && state->prepared != attempt()) {
      const auto source = plan_.sources.find(rank);
      ranks.Add("attempt " + std::to_string(attempt()) + " waits for the shard of rank " +
                std::to_string(rank) + " of " + ToText(*plan_.choice) +
                (source == plan_.sources.end() ? "" : " from " + source->second.Text()));
    }
  }
  std::string text = ranks.Text();
  const auto add = [&text](const std::string& more) { text += (text.empty() ? "" : "; ") + more; };
  FirstFew silent(", ", kNamed);
  for (const std::string& node : Silent()) {
    silent.Add("node " + NodeText(node));
  }
  if (!silent.Text().empty()) {
    add(silent.Text() + " is silent");
  }
  std::size_t told = 0;
  for (auto it = last_failures_.rbegin(); it != last_failures_.rend() && told < kToldFailures;
       ++it, ++told) {
    add(ToText(it->first) + " failed: " + it->second);
  }
  return text.empty() ? "no node said why" : text;
}

}  // namespace holdfast::daemon
