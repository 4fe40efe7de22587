#include "client/copy_engine.h"

#include "client/chunk_copy.h"

namespace holdfast::client {

void Conclude(CopyJob* job,
              const std::optional<std::string>& failure,
              std::optional<std::size_t> torn) {
  CopyOutcome& outcome = job->outcome;
  if (failure.has_value()) {
    outcome.kind = CopyOutcome::Kind::kFailed;
    outcome.reason = *failure;
  } else if (torn.has_value()) {
    outcome.kind = CopyOutcome::Kind::kTorn;
    outcome.reason = TornText(job->step, job->plan->Tensors()[*torn].name);
  } else if (job->frozen.has_value() && !job->frozen->good) {
    outcome.kind = job->frozen->work == FrozenPart::Work::kCompare ? CopyOutcome::Kind::kFailed
                                                                   : CopyOutcome::Kind::kTorn;
    outcome.reason = NotFrozenText(job->step, *job->frozen);
  } else {
    outcome.kind = CopyOutcome::Kind::kCopied;
  }
}

}  // namespace holdfast::client
