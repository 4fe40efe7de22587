// The static image of a rank, as one snapshot deals with it, and the comparisons that tell whether
// the frozen tensors are still frozen.
//
// Threads:   a value, and pure functions.
// Ownership: shares plan and slot; sources are borrowed until the fence of their job.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/copy_plan.h"
#include "client/slot_mapping.h"
#include "client/source_view.h"
#include "common/units.h"

namespace holdfast::client {

// What a snapshot does with the static image that it shares: the first one fills it, all others
// look whether the frozen tensors are still what it holds (I7).
struct FrozenPart {
  enum class Work {
    kFill,     // copies all of it into the slot
    kCompare,  // all of it against the slot, which others filled
    kSample,   // a sample against the slot, which this process filled or compared
  };
  Work work = Work::kSample;
  std::shared_ptr<const CopyPlan> plan;  // CopyPlan::Frozen of the job's
  std::shared_ptr<SlotMapping> slot;
  std::vector<SourceView> sources;  // by planned tensor

  // As CopyJob::outcome.
  bool good = false;                        // done, and the slot holds what the tensors do
  std::vector<std::uint32_t> chunk_crc32c;  // of the whole image, after kFill
  std::vector<std::size_t> changed;         // planned tensors that the slot does not hold; rising
};

// Whether [offset, offset + bytes) of a source in host memory is what "in_slot" holds.
[[nodiscard]] bool IsInSlot(const SourceView& source,
                            ByteCount offset,
                            const std::byte* in_slot,
                            ByteCount bytes);

// Of chunk "chunk" of the image: the planned tensors, rising, whose bytes are not what the slot
// holds.  Sources in host memory.
[[nodiscard]] std::vector<std::size_t> CompareChunk(const FrozenPart& frozen, std::uint64_t chunk);

// What the user is told of frozen tensors that are not what the static image holds.
[[nodiscard]] std::string NotFrozenText(std::int64_t step, const FrozenPart& frozen);

}  // namespace holdfast::client
