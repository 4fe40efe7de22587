// The end of a restore whose time is over: on all ranks, with what was missing and where it was
// last seen (I11, L).  The clients wait no longer either, but know nothing of other nodes.

#include <optional>
#include <set>
#include <string>

#include "daemon/core/coordinator.h"
#include "daemon/core/first_few.h"

namespace holdfast::daemon {
namespace {

// Ids whose failures are told; of each all sources are.
constexpr std::size_t kToldFailures = 3;
// Ranks that did not ask, and ranks that are waited for.
constexpr std::size_t kNamed = 16;

// Who had what a shard is decoded from: the node that decodes it may still be trying one after the
// other, and has not said yet which of them it cannot reach.
std::string PiecesOf(const ShardOrder& order) {
  std::set<std::string> nodes;
  for (const std::optional<HeldSet>* image : {&order.held, &order.static_held}) {
    const std::size_t count = image->has_value() ? (*image)->holders.size() : 0;
    for (std::size_t position = 0; position < count; ++position) {
      const CodeHolder& holder = (*image)->holders[position];
      if (!holder.shard_node.empty()) {
        nodes.insert(holder.shard_node);
      }
      if (!holder.rows.empty()) {
        nodes.insert((*image)->set.geometry.members[position]);
      }
    }
  }
  FirstFew named(", ", kNamed);
  for (const std::string& node : nodes) {
    named.Add("node " + NodeText(node));
  }
  return " (pieces of it were on " + named.Text() + ")";
}

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
  FailAttempt("nothing could be restored within " + ToText(*given) +
                  ", which is what restore() gave it: " + WhatIsMissing(),
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
      const auto order = orders_.find(rank);
      std::string from = source == plan_.sources.end() ? "" : " from " + source->second.Text();
      if (!from.empty() && source->second.kind == Source::Kind::kRebuild &&
          order != orders_.end() && order->second.held.has_value()) {
        from += PiecesOf(order->second);
      }
      ranks.Add("attempt " + std::to_string(attempt()) + " waits for the shard of rank " +
                std::to_string(rank) + " of " + ToText(*plan_.choice) + from);
    }
  }
  std::string text = ranks.Text();
  const auto add = [&text](const std::string& more) { text += (text.empty() ? "" : "; ") + more; };
  FirstFew silent(", ", kNamed);
  for (const std::string& node : Silent()) {
    silent.Add("node " + NodeText(node));
  }
  if (const std::string nodes = silent.Text(); !nodes.empty()) {
    add(nodes + " is silent");
  }
  std::size_t told = 0;
  for (auto it = last_failures_.rbegin(); it != last_failures_.rend() && told < kToldFailures;
       ++it, ++told) {
    add(ToText(it->first) + " failed: " + it->second);
  }
  return text.empty() ? "no node said why" : text;
}

}  // namespace holdfast::daemon
