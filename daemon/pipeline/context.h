// What the pipeline's steps work with.
//
// Threads:   the io thread only.
// Ownership: borrows all of it; outlives every step (the runtime's order of destruction).
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "common/result.h"
#include "daemon/core/ids.h"
#include "daemon/layout_store.h"
#include "daemon/slot_store.h"
#include "daemon/tier_set.h"

namespace holdfast::daemon {

struct PipelineContext {
  TierSet& tiers;
  SlotStore& slots;
  LayoutStore& layouts;
};

// Of Tier::TakeKey: a flush under way holds the key of this prefix and its rank.
inline std::string FlushKeyPrefix(const JobUid& job, const SnapshotKey& id) {
  return "flush " + ToText(id) + " " + job + " ";
}

}  // namespace holdfast::daemon
