#include "client/step_ledger.h"

#include <utility>

namespace holdfast::client {
namespace {

bool IsOpen(StepState state) {
  return state == StepState::kCopying || state == StepState::kSealing;
}

}  // namespace

void StepLedger::Set(std::int64_t step, StepState state, std::string reason) {
  const auto [entry, added] = entries_.try_emplace(step);
  if (!added && entry->second.state == StepState::kGivenUp) {
    return;
  }
  if (!added && entry->second.state == StepState::kSealed && state != StepState::kGivenUp) {
    return;
  }
  entry->second = Entry{state, std::move(reason)};
  for (auto old = entries_.begin(); entries_.size() > kKept && old != entries_.end();) {
    old = IsOpen(old->second.state) ? std::next(old) : entries_.erase(old);
  }
}

std::optional<StepLedger::Entry> StepLedger::Find(std::int64_t step) const {
  const auto found = entries_.find(step);
  return found == entries_.end() ? std::nullopt : std::optional<Entry>(found->second);
}

bool StepLedger::OpenUpTo(std::int64_t step) const {
  for (const auto& [number, entry] : entries_) {
    if (number > step) {
      return false;
    }
    if (IsOpen(entry.state)) {
      return true;
    }
  }
  return false;
}

}  // namespace holdfast::client
