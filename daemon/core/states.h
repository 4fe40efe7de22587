// States of a slot and of a job's restore, and the one table of what may follow what.
//
// Every change of a slot's state goes through Next(): a pair that is not in the table is a bug of
// the core, or input of a client that must be refused before (SlotTable::Allows).
//
// Threads: constants.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace holdfast::daemon {

enum class SlotPhase : std::uint8_t {
  kPreparing,    // the runtime creates or pre-faults the file
  kFree,         // pre-faulted; nobody else writes; bytes mean nothing
  kGranted,      // a client may begin to write at any moment
  kFilling,      // a client has begun to copy a snapshot
  kSealing,      // the client declared the bytes final; the daemon digests
  kSealed,       // a shard record names it
  kDraining,     // given up while copies may still land
  kLimbo,        // was handed out when the last daemon died; its client has not spoken yet
  kQuarantined,  // its client is dead or fenced and may still write: never reused
  kMaking,       // the daemon itself writes: a parity row, or a shard from elsewhere
};

enum class SlotEvent : std::uint8_t {
  kPrepared,         // the file is there, pre-faulted, with its header
  kPrepareAgain,     // another header is due
  kGrant,            // recorded as handed out (same batch), then told to the client
  kReturned,         // the live client says that it has not touched it
  kBegin,            // the client has begun to copy
  kFinal,            // the client says that the bytes are final, without digests
  kSealRecorded,     // digests known, the shard record is in this batch
  kGivenUp,          // torn, abandoned, refused: copies may still land
  kCopiesDone,       // nothing can land any more
  kOwnerGone,        // the client died or was fenced
  kVouchedIdle,      // after a restart: the client has not touched it
  kVouchedFilling,   // after a restart: the client goes on filling it
  kVouchedDraining,  // after a restart: the client gave it up, copies may still land
  kRetire,           // the shard record is deleted in this batch
  kSpoilt,           // its file is not what the daemon made: nobody may get it again
  kMake,             // the daemon begins to write; its bytes mean nothing until they are recorded
  kMakeEnded,        // nothing writes any more, and what came of it is nothing
};

struct SlotTransition {
  SlotPhase from;
  SlotEvent event;
  SlotPhase to;
};

// The table, in the order of a slot's life (docs/ARCHITECTURE.md shows it).
std::span<const SlotTransition> SlotTransitions();

// What follows, or nothing if the event is impossible in that state.
std::optional<SlotPhase> Next(SlotPhase from, SlotEvent event);

std::string_view Name(SlotPhase phase);
std::string_view Name(SlotEvent event);

// The restore of one incarnation, as its coordinator drives it.
enum class Phase : std::uint8_t {
  kCollect,  // an inventory is taken
  kPrepare,  // each daemon makes sure of what its ranks need
  kGo,       // ranks load
  kRun,      // the commit is recorded; training goes on
  kError,    // nothing can be restored; the ranks were told
};

std::string_view Name(Phase phase);

}  // namespace holdfast::daemon
