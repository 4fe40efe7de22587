// Flush: a sealed shard from its slot to a persistent tier, straight from the mapping.
//
// Threads:   the io thread; the writing on the root's own threads.
// Ownership: keeps slot and layout until the last request into the file system has ended, also of a
//            try that was abandoned because the file system hangs.
// Errors:    kCorruption: the slot's bytes are not what was sealed (I5), they and nothing else;
//            nothing of them was published.  kIoError: also what is damaged on the tier itself.
//            kCancelled.  Else the tier's.
// Durability: after Ok image and sidecar are there under their final names and survive a power cut.
#pragma once

#include <atomic>
#include <memory>

#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "daemon/core/action.h"
#include "daemon/pipeline/context.h"

namespace holdfast::daemon {

// "cancel" may be set at any time; the flush then ends at the next block, or, where a worker is
// stuck in the file system, after a second without it: the key of the flush stays held until it is
// back.  "*bad_image" says whose bytes they were, after kCorruption.
[[nodiscard]] boost::asio::awaitable<Status> Flush(PipelineContext context,
                                                   FlushShard action,
                                                   std::shared_ptr<std::atomic<bool>> cancel,
                                                   proto::ImageKind* bad_image);

}  // namespace holdfast::daemon
