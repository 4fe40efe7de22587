// A coordinator on another node that is out of sight: who waits for it is told, in time.

#include "daemon/core/first_few.h"
#include "daemon/core/member.h"

namespace holdfast::daemon {
namespace {

// A switch that fails takes many nodes at once.
constexpr std::size_t kNamed = 4;

}  // namespace

// Only silence that somebody waits through counts: one who asks again gets the whole time again.
void Member::OnCoordinatorSilent(bool silent) {
  coordinator_is_silent_ = silent;
  bool waits = false;
  for (const auto& [rank, state] : ranks_) {
    waits = waits || state.restore_request.has_value() || state.loaded_request.has_value();
  }
  if (!silent || !waits) {
    silent_since_.reset();
    return;
  }
  silent_since_ = silent_since_.value_or(context_->now);
  if (context_->now - *silent_since_ < context_->options.restore_wait) {
    return;
  }
  for (auto& [rank, state] : ranks_) {
    if (state.restore_request.has_value() || state.loaded_request.has_value()) {
      GiveUpRestore(rank,
                    &state,
                    Error(Errc::kUnavailable,
                          "node " + NodeText(job_->CoordinatorNode()) +
                              ", which serves rank 0, has been silent for " +
                              ToText(context_->options.restore_wait) +
                              " (restore.wait): " + WhatIsMissing(rank, state) +
                              "; see why it cannot be reached, then start the job again"));
    }
  }
}

std::string Member::WhoIsSilent() const {
  if (coordinator_is_silent_) {
    return "node " + NodeText(job_->CoordinatorNode()) +
           ", which serves rank 0, is silent: nothing becomes complete without it";
  }
  FirstFew nodes(", ", kNamed);
  for (const std::string& node : command_.silent) {
    nodes.Add("node " + NodeText(node));
  }
  const std::string names = nodes.Text();
  return names.empty() ? "" : names + " is silent: nothing becomes complete without it";
}

std::string Member::WhatIsMissing(Rank rank, const RankSession& state) const {
  const std::string who = "rank " + std::to_string(rank) + " waits for ";
  if (state.loaded_request.has_value()) {
    const bool known = heard() && command_.choice.has_value();
    return who + "the word that all ranks have loaded " +
           (known ? ToText(*command_.choice) : std::string("the snapshot"));
  }
  return who + (heard() ? "the choice of a snapshot, attempt " + std::to_string(command_.attempt)
                        : std::string("the first word of this start"));
}

// The rank has been told that this attempt failed: it must not count as one that has loaded, and
// the others must not wait for it when the coordinator is back (L, I11).
void Member::GiveUpRestore(Rank rank, RankSession* state, const Error& error) {
  FailRestore(rank, Source{}, false, error.message);
  failures_.back().fatal = true;
  failures_.back().code = error.code;
  AnswerWaiting(state, error);
  ReleaseRestore(state);
  state->loaded = 0;
  state->asked_after = std::max(state->asked_after, heard() ? command_.attempt : 0);
}

}  // namespace holdfast::daemon
