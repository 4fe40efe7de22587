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

}  // namespace holdfast::daemon
