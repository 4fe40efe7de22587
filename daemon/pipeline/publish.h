// Publish and delete: making a snapshot durable for everybody, and taking one away.
//
// Threads:   the io thread; the work on the root's own threads.
// Errors:    kFenced: a newer incarnation exists.  kNotFound, kCorruption: a rank's files are not
// as
//            they must be; nothing was published.  Else the tier's.
// Durability: after Ok the manifest names only what was synced before (I6).
#pragma once

#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "daemon/core/action.h"
#include "daemon/pipeline/context.h"

namespace holdfast::daemon {

// The manifest is built from the sidecars that the ranks' daemons left on the tier.
[[nodiscard]] boost::asio::awaitable<Status> Publish(PipelineContext context,
                                                     PublishManifest action);

[[nodiscard]] boost::asio::awaitable<Status> Delete(PipelineContext context, DeleteDurable action);

}  // namespace holdfast::daemon
