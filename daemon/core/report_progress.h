// Whether a report says no more than that work goes on.
//
// A node in the middle of a snapshot changes with each begin, seal and row, and nothing is decided
// by any of them alone: thousands of nodes that told each would keep their coordinator busy.  What
// is not progress (a miss, something gone or bad, an error, a wish) is news, and is told at once.
//
// Threads: pure; any thread.
#pragma once

#include "daemon/core/messages.h"

namespace holdfast::daemon {

// What a node is in the middle of: its next report will say more.
struct UnderWay {
  bool rows = false;  // and sidecars
  bool files = false;
};

// Reports of one node and phase, "last" the older one.  True where all that "last" says still
// stands, but that slots are filled which were not, filled ones are sealed, and more rows,
// sidecars, files and complete ids are known; where every step that was begun since is held; and
// where nothing is done with: no id sealed by the last of the node's ranks, no last row or file.
[[nodiscard]] bool IsMereProgress(const Report& last, const Report& now, const UnderWay& makes);

}  // namespace holdfast::daemon
