// Claim: takes the number of a new incarnation on every tier of the job.
//
// Two starts of a job that race must get different numbers where they share a tier: the number is
// taken by creating its record exclusively.  A tier that cannot be written, or of a job whose uid
// is known not be read, is logged and left out, since a full disk must never stop a training from
// starting.  A job of another uid under the same name is an error, since two jobs would mix (I8);
// so is a root that cannot be read while the uid is not known, since it may hold the job.
//
// Threads:   the io thread; the work on the roots' own threads.
// Errors:    kAlreadyExists: another job has the name; names the root.  kUnavailable: the
//            number was taken again and again, or a root of an unknown job cannot be read.
#pragma once

#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "daemon/core/action.h"
#include "daemon/core/node_core.h"
#include "daemon/pipeline/context.h"

namespace holdfast::daemon {

[[nodiscard]] boost::asio::awaitable<Result<ClaimedIncarnation>> Claim(PipelineContext context,
                                                                       ClaimIncarnation action);

// Writes the decision into the incarnation's record on each tier.  The first error, after all were
// tried.
[[nodiscard]] boost::asio::awaitable<Status> RecordDecision(PipelineContext context,
                                                            WriteIncarnation action);

// The published snapshots of the job on one tier; none where the job is not there.  kUnavailable
// where it is expected and not there.
[[nodiscard]] boost::asio::awaitable<Result<std::vector<TierSnapshot>>> List(
    PipelineContext context, ListTier action);

}  // namespace holdfast::daemon
