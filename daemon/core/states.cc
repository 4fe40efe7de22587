#include "daemon/core/states.h"

namespace holdfast::daemon {
namespace {

using P = SlotPhase;
using E = SlotEvent;

constexpr std::array kTransitions = {
    SlotTransition{P::kPreparing, E::kPrepared, P::kFree},
    SlotTransition{P::kFree, E::kPrepareAgain, P::kPreparing},
    SlotTransition{P::kFree, E::kGrant, P::kGranted},
    SlotTransition{P::kFree, E::kSpoilt, P::kQuarantined},
    SlotTransition{P::kFree, E::kMake, P::kMaking},
    SlotTransition{P::kMaking, E::kSealRecorded, P::kSealed},
    SlotTransition{P::kMaking, E::kMakeEnded, P::kFree},
    SlotTransition{P::kGranted, E::kReturned, P::kFree},
    SlotTransition{P::kGranted, E::kBegin, P::kFilling},
    SlotTransition{P::kGranted, E::kOwnerGone, P::kQuarantined},
    SlotTransition{P::kFilling, E::kFinal, P::kSealing},
    SlotTransition{P::kFilling, E::kSealRecorded, P::kSealed},
    SlotTransition{P::kFilling, E::kGivenUp, P::kDraining},
    SlotTransition{P::kFilling, E::kOwnerGone, P::kQuarantined},
    SlotTransition{P::kSealing, E::kSealRecorded, P::kSealed},
    // The client declared the bytes final: its death changes nothing, but an abandoned id does.
    SlotTransition{P::kSealing, E::kGivenUp, P::kDraining},
    SlotTransition{P::kDraining, E::kCopiesDone, P::kFree},
    SlotTransition{P::kDraining, E::kOwnerGone, P::kQuarantined},
    SlotTransition{P::kSealed, E::kRetire, P::kFree},
    SlotTransition{P::kLimbo, E::kVouchedIdle, P::kGranted},
    SlotTransition{P::kLimbo, E::kVouchedFilling, P::kFilling},
    SlotTransition{P::kLimbo, E::kVouchedDraining, P::kDraining},
    SlotTransition{P::kLimbo, E::kReturned, P::kFree},
    SlotTransition{P::kLimbo, E::kOwnerGone, P::kQuarantined},
};

}  // namespace

std::span<const SlotTransition> SlotTransitions() {
  return kTransitions;
}

std::optional<SlotPhase> Next(SlotPhase from, SlotEvent event) {
  for (const SlotTransition& row : kTransitions) {
    if (row.from == from && row.event == event) {
      return row.to;
    }
  }
  return std::nullopt;
}

std::string_view Name(SlotPhase phase) {
  constexpr std::array<std::string_view, 10> kNames = {"preparing",
                                                       "free",
                                                       "granted",
                                                       "filling",
                                                       "sealing",
                                                       "sealed",
                                                       "draining",
                                                       "limbo",
                                                       "quarantined",
                                                       "making"};
  return kNames[static_cast<std::size_t>(phase)];
}

std::string_view Name(SlotEvent event) {
  constexpr std::array<std::string_view, 17> kNames = {"prepared",
                                                       "prepare_again",
                                                       "grant",
                                                       "returned",
                                                       "begin",
                                                       "final",
                                                       "seal_recorded",
                                                       "given_up",
                                                       "copies_done",
                                                       "owner_gone",
                                                       "vouched_idle",
                                                       "vouched_filling",
                                                       "vouched_draining",
                                                       "retire",
                                                       "spoilt",
                                                       "make",
                                                       "make_ended"};
  return kNames[static_cast<std::size_t>(event)];
}

std::string_view Name(Phase phase) {
  constexpr std::array<std::string_view, 5> kNames = {"collect", "prepare", "go", "run", "error"};
  return kNames[static_cast<std::size_t>(phase)];
}

}  // namespace holdfast::daemon
