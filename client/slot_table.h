// Which slots of the arena this client maps, and what it may do with each.
//
//   grant ─▶ kPreparing ─▶ kGranted ─▶ kFilling ─▶ kLent ─▶ (granted again) kGranted
//                                         └─────▶ kDraining ─▶ kLent
//
// kLent is the daemon's: sealed, freed, or given to nobody; mapped, so that a second grant costs
// nothing, but read-only.  The table decides and remembers; it never waits, maps or protects.
//
// Threads:   none of its own; guarded by its owner's lock.
// Ownership: shares the mappings with the copies under way.  Functions that drop mappings hand them
//            back, so that the slow unmapping happens outside the owner's lock.
// Errors:    kCorruption where the daemon breaks the protocol: the connection must be dropped.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "client/slot_mapping.h"
#include "common/result.h"
#include "proto/client.pb.h"

namespace holdfast::client {

// A slot's name: its number, and which file of that number.
struct SlotRef {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;

  friend auto operator<=>(const SlotRef&, const SlotRef&) = default;
};

enum class SlotUse { kPreparing, kGranted, kFilling, kDraining, kLent };

class SlotTable {
 public:
  // Far above what a rank needs; a daemon that hands out more is not followed.
  static constexpr std::size_t kMaxSlots = 64;

  using Mappings = std::vector<std::shared_ptr<SlotMapping>>;

  struct Entry {
    std::shared_ptr<SlotMapping> mapping;
    SlotUse use = SlotUse::kPreparing;
    std::uint32_t layout_generation = 0;
    std::int64_t step = -1;  // of kFilling and kDraining
    bool was_ready = false;  // since its mapping was made
  };

  // A grant of a slot that came with a new mapping.  A file of the same number that it replaces
  // goes to "dropped".
  [[nodiscard]] Status AddGranted(SlotRef ref,
                                  std::uint32_t layout_generation,
                                  std::shared_ptr<SlotMapping> mapping,
                                  Mappings* dropped);

  // A grant of a slot that is mapped already.  The mapping to be made writable before MarkReady;
  // nullptr where the slot is in hand already and nothing is to be done.  kCorruption where the
  // slot is not mapped.
  [[nodiscard]] Result<std::shared_ptr<SlotMapping>> GrantAgain(SlotRef ref,
                                                                std::uint32_t layout_generation);

  struct Mapped {
    SlotRef ref;
    std::shared_ptr<SlotMapping> mapping;
  };

  // Granted slots that nobody has tried to pin, to be prepared once more: they are kPreparing now.
  [[nodiscard]] std::vector<Mapped> TakeUnpinned();

  // The mapping is ready to be copied into: kPreparing becomes kGranted.
  void MarkReady(SlotRef ref);

  // How far the slow work on new mappings has come.
  struct Progress {
    std::size_t ready = 0;      // slots that were ready once
    std::size_t preparing = 0;  // that never were
  };

  [[nodiscard]] Progress Readiness() const;

  // Takes a granted slot of that layout, at least "bytes" long, for "step".
  [[nodiscard]] std::optional<SlotRef> Take(std::uint32_t layout_generation,
                                            ByteCount bytes,
                                            std::int64_t step);

  // Whether Take would find one.
  [[nodiscard]] bool HasGranted(std::uint32_t layout_generation, ByteCount bytes) const;

  // The snapshot in the slot is given up; its copies may still land.
  void MarkDraining(SlotRef ref, std::int64_t step);

  // Whether the slot is still the one that MarkDraining named.
  [[nodiscard]] bool IsDraining(SlotRef ref, std::int64_t step) const;

  // The daemon has the slot that "step" filled.  The mapping to be made read-only; nullptr where
  // the slot is not that step's any more (dropped, or even granted anew, since).
  [[nodiscard]] std::shared_ptr<SlotMapping> MarkLent(SlotRef ref, std::int64_t step);

  // Forgets a slot; a copy under way keeps the mapping alive.
  void Drop(SlotRef ref, Mappings* dropped);

  void DropAll(Mappings* dropped);

  // What a resuming client vouches for: every slot that it may write to, now or when it begins. One
  // that is idle and was granted for another layout is not named: the daemon would keep it as
  // granted and never tell its new generation, if that grant was lost with the connection.
  [[nodiscard]] std::vector<proto::HeldSlot> Held(std::uint32_t layout_generation) const;

  // After a resume: all but "kept" is forgotten, sealed ones too, so that both sides agree about
  // what is mapped.  Slots kept idle belong to "new_generation" if they did to "old_generation".
  void KeepOnly(const google::protobuf::RepeatedPtrField<proto::HeldSlot>& kept,
                std::uint32_t old_generation,
                std::uint32_t new_generation,
                Mappings* dropped);

  [[nodiscard]] std::shared_ptr<SlotMapping> MappingOf(SlotRef ref) const;

  [[nodiscard]] std::size_t Size() const { return entries_.size(); }

 private:
  std::map<SlotRef, Entry> entries_;
};

}  // namespace holdfast::client
