// The life of a snapshot in a Session: slot, copy, fence, seal.
#include <algorithm>
#include <utility>

#include "client/session.h"
#include "common/failpoint.h"

namespace holdfast::client {
namespace {

// The client was closed or fenced: whoever waits learns that, not the fate of one snapshot.
bool SaysNothing(const Error& error) {
  return error.code == Errc::kCancelled || error.code == Errc::kFenced;
}

void Name(const SlotRef& ref, auto* message) {
  message->set_slot(ref.slot);
  message->set_generation(ref.generation);
}

}  // namespace

Status Session::CheckSnapshot(const SnapshotInput& input) {
  if (fenced_.has_value()) {
    return *fenced_;
  }
  if (plan_ == nullptr) {
    return Error(Errc::kInvalidArgument, "no layout is in force: call hf_set_layout first");
  }
  return CheckStep(input.step);
}

Status Session::CheckStep(std::int64_t step) {
  if (step <= last_step_) {
    return Error(Errc::kInvalidArgument,
                 "step " + std::to_string(step) + " is not above the last one, " +
                     std::to_string(last_step_));
  }
  return Ok();
}

Status Session::Miss(std::int64_t step, const std::string& reason) {
  {
    MutexLock lock(mutex_);
    if (fenced_.has_value()) {
      return *fenced_;
    }
    HF_TRYV(CheckStep(step));
    last_step_ = step;
  }
  Skip(step, reason);
  return Ok();
}

Result<SnapshotStart> Session::Snapshot(SnapshotInput input) {
  const MonotonicTime began = SystemClock().Now();
  std::shared_ptr<const CopyPlan> plan;
  {
    MutexLock lock(mutex_);
    HF_TRYV(CheckSnapshot(input));
    plan = plan_;
  }
  HF_TRY(auto sources, MakeSources(*plan, input.pointers, input.strides));
  HF_TRY(auto frozen_sources, FrozenSources(*plan, input));
  SnapshotStart start;
  HF_TRY(const auto shot, TakeSlot(input, &start.reason));
  if (shot == nullptr) {
    Skip(input.step, start.reason);
    return start;
  }
  start.bytes = plan->ImageBytes();
  if (shot->job->frozen.has_value()) {
    shot->job->frozen->sources = std::move(frozen_sources);
    const bool fills = shot->job->frozen->work == FrozenPart::Work::kFill;
    start.static_bytes = fills ? plan->Frozen()->ImageBytes() : 0;
  }
  shot->job->plan = std::move(plan);
  shot->job->sources = std::move(sources);
  shot->job->streams = std::move(input.streams);
  shot->job->sample_fraction = options_.sample_fraction;
  shot->state = std::move(input.state);
  // Before the copy: its end may come at any moment after Start, and a seal follows its begin.
  TellBegin(shot);
  const Status started = engine_->Start(
      shot->job, [this, shot](const std::shared_ptr<CopyJob>&) { OnCopyDone(shot); });
  const auto duration = SystemClock().Now() - began;
  if (started.has_error()) {
    shot->job->outcome = CopyOutcome{CopyOutcome::Kind::kFailed, started.error().message, {}, {}};
    OnCopyDone(shot);
    start.reason = started.error().message;
    return start;
  }
  MutexLock lock(mutex_);
  stats_.snapshot += duration;
  stats_.last_snapshot = duration;
  start.started = true;
  return start;
}

Result<std::shared_ptr<Session::Shot>> Session::TakeSlot(const SnapshotInput& input,
                                                         std::string* why_not) {
  const MonotonicTime deadline = SystemClock().Now() + options_.begin_wait;
  MutexLock lock(mutex_);
  last_step_ = input.step;
  if (std::string busy = engine_->Busy(); !busy.empty()) {
    *why_not = std::move(busy);
    return std::shared_ptr<Shot>();
  }
  while (true) {
    if (fenced_.has_value()) {
      return *fenced_;
    }
    const bool in_force = registered_ != nullptr && registered_->hash == plan_hash_;
    const auto ref = connected_ && in_force && WhyNoFrozen().empty()
                         ? slots_.Take(registered_->generation, plan_->ImageBytes(), input.step)
                         : std::optional<SlotRef>();
    if (ref.has_value()) {
      auto shot = std::make_shared<Shot>();
      shot->slot = *ref;
      shot->registered = registered_;
      shot->must_be_zero = must_be_zero_;
      shot->job = std::make_shared<CopyJob>();
      shot->job->step = input.step;
      shot->job->slot = slots_.MappingOf(*ref);
      LendFrozen(shot.get());
      current_ = shot;
      ledger_.Set(input.step, StepState::kCopying);
      ++stats_.begun;
      stats_.last_begun_step = input.step;
      return shot;
    }
    if (SystemClock().Now() >= deadline) {
      *why_not = WhyNoSlot();
      return std::shared_ptr<Shot>();
    }
    changed_.WaitUntil(lock, deadline);
  }
}

void Session::Skip(std::int64_t step, const std::string& reason) {
  bool known = false;
  {
    MutexLock lock(mutex_);
    ++stats_.skipped;
    ledger_.Set(step, StepState::kGivenUp, "skipped: " + reason);
    changed_.NotifyAll();
    known = registered_ != nullptr;
  }
  if (known) {  // else the first registration tells it, by its last_begun_step
    TellMissed(step, reason);
  }
}

FenceResult Session::Fence(std::span<const DeviceStream> streams) {
  const MonotonicTime began = SystemClock().Now();
  std::shared_ptr<Shot> shot;
  {
    MutexLock lock(mutex_);
    shot = current_;
  }
  if (shot == nullptr) {
    return {};
  }
  const bool ended = engine_->WaitFence(streams);
  const auto waited = SystemClock().Now() - began;
  MutexLock lock(mutex_);
  stats_.fence_wait += waited;
  stats_.last_fence_wait = waited;
  if (ended) {
    Account(shot);
  }
  FenceResult result;
  if (shot->accounted) {
    result = FenceResult{shot->job->outcome.kind, shot->job->outcome.reason};
  }
  if (current_ == shot) {
    current_.reset();
  }
  if (result.kind == CopyOutcome::Kind::kCopied && untold_.has_value()) {
    result = *std::exchange(untold_, std::nullopt);
  }
  return result;
}

Status Session::ExpectZero(std::span<const std::uint32_t> indices) {
  MutexLock lock(mutex_);
  if (plan_ == nullptr) {
    return Error(Errc::kInvalidArgument, "hf_set_layout comes before hf_expect_zero");
  }
  std::vector<std::size_t> found;
  for (const std::uint32_t index : indices) {
    const auto tensors = plan_->Tensors();
    const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const PlannedTensor& tensor) {
      return tensor.spec == index;
    });
    if (it == tensors.end()) {
      return Error(Errc::kInvalidArgument,
                   "tensor " + std::to_string(index) +
                       " has no bytes of its own in a snapshot: it cannot be expected to be zero");
    }
    found.push_back(static_cast<std::size_t>(it - tensors.begin()));
  }
  must_be_zero_ = std::move(found);
  return Ok();
}

void Session::CheckZeros(const Shot& shot) {
  CopyOutcome& outcome = shot.job->outcome;
  if (outcome.kind != CopyOutcome::Kind::kCopied) {
    return;
  }
  for (const std::size_t index : shot.must_be_zero) {
    const PlannedTensor& tensor = shot.job->plan->Tensors()[index];
    const std::byte* bytes = shot.job->slot->Data() + tensor.offset;
    if (std::any_of(bytes, bytes + tensor.length, [](std::byte b) { return b != std::byte{0}; })) {
      outcome.kind = CopyOutcome::Kind::kTorn;
      outcome.reason = "tensor \"" + tensor.name + "\" must be zero and is not";
      return;
    }
  }
}

// By whichever is first, the fence or the engine's callback: after the fence the numbers are right.
void Session::Account(const std::shared_ptr<Shot>& shot) {
  if (std::exchange(shot->accounted, true)) {
    return;
  }
  CheckZeros(*shot);
  const CopyOutcome& outcome = shot->job->outcome;
  AccountFrozen(shot.get());
  stats_.copy += outcome.duration;
  stats_.last_copy = outcome.duration;
  stats_.device_wait += outcome.device_wait;
  stats_.last_device_wait = outcome.device_wait;
  switch (outcome.kind) {
    case CopyOutcome::Kind::kCopied:
      stats_.copied_bytes += shot->job->plan->ImageBytes();
      ledger_.Set(shot->job->step, StepState::kSealing);
      break;
    case CopyOutcome::Kind::kTorn:
      ++stats_.torn;
      ledger_.Set(shot->job->step, StepState::kGivenUp, outcome.reason);
      break;
    case CopyOutcome::Kind::kFailed:
      ++stats_.failed;
      ledger_.Set(shot->job->step, StepState::kGivenUp, outcome.reason);
      break;
  }
  if (current_ != shot && outcome.kind != CopyOutcome::Kind::kCopied) {
    untold_ = FenceResult{outcome.kind, outcome.reason};
  }
  changed_.NotifyAll();
}

void Session::OnCopyDone(const std::shared_ptr<Shot>& shot) {
  bool refused = false;
  bool refuses_frozen = false;
  {
    MutexLock lock(mutex_);
    Account(shot);
    refuses_frozen = shot->refuses_frozen;
    const auto entry = ledger_.Find(shot->job->step);
    refused = entry.has_value() && entry->state == StepState::kGivenUp;
  }
  if (refuses_frozen) {
    TellRefusal(shot);
  }
  if (shot->job->outcome.kind != CopyOutcome::Kind::kCopied) {
    TellTorn(shot);
  } else if (refused) {
    TellCopiesDone(shot);
  } else {
    HOLDFAST_FAILPOINT("client.before_seal");
    TellSeal(shot);
  }
}

void Session::TellBegin(const std::shared_ptr<Shot>& shot) {
  Connection::Request request;
  request.make = [this, shot]() -> std::optional<proto::ClientMessage> {
    MutexLock lock(mutex_);
    // The connection that took the seal took the begin before it, unless it refused the begin; and
    // of a refused one the daemon needs to hear no more when its copy is given up.
    if (shot->begin_refused ? shot->end_told : shot->seal_sent) {
      return std::nullopt;
    }
    proto::ClientMessage message;
    message.mutable_begin()->set_step(shot->job->step);
    Name(shot->slot, message.mutable_begin());
    return message;
  };
  request.on_reply = [this, shot](const Result<Reply>& reply) { OnBeginAnswered(shot, reply); };
  Submit(shot, std::move(request));
}

void Session::OnBeginAnswered(const std::shared_ptr<Shot>& shot, const Result<Reply>& reply) {
  if (Refused(shot.get(), reply)) {
    {
      MutexLock lock(mutex_);
      shot->begin_refused = true;
    }
    TellBegin(shot);
    return;
  }
  const bool failed = reply.has_error() && !SaysNothing(reply.error());
  {
    MutexLock lock(mutex_);
    shot->begin_refused = shot->begin_refused && reply.has_error() && !failed;
    shot->begin_failed = failed;
  }
  if (failed) {
    GiveUp(shot->job->step, reply.error().message);
  }
}

void Session::TellSeal(const std::shared_ptr<Shot>& shot) {
  Connection::Request request;
  request.make = [this, shot]() -> std::optional<proto::ClientMessage> {
    proto::ClientMessage message;
    auto* seal = message.mutable_seal();
    seal->set_step(shot->job->step);
    Name(shot->slot, seal);
    const auto& digests = shot->job->outcome.chunk_crc32c;
    seal->mutable_chunk_crc32c()->Add(digests.begin(), digests.end());
    seal->mutable_state()->Add(shot->state.begin(), shot->state.end());
    MutexLock lock(mutex_);
    // A daemon that restarted may count generations anew.
    seal->set_layout_generation(shot->registered->generation);
    AddStaticSeal(*shot, seal);
    shot->seal_sent = true;
    return message;
  };
  request.on_reply = [this, shot](const Result<Reply>& reply) { OnSealAnswered(shot, reply); };
  request.failpoint_after_sent = "client.after_seal_sent";
  Submit(shot, std::move(request));
}

void Session::OnSealAnswered(const std::shared_ptr<Shot>& shot, const Result<Reply>& reply) {
  if (reply.has_error() && SaysNothing(reply.error())) {
    return;  // the daemon may have sealed it or not
  }
  bool again = Refused(shot.get(), reply);
  bool unbegun = false;
  {
    MutexLock lock(mutex_);
    // It came before the begin that is to be repeated.
    again = again || (reply.has_error() && shot->begin_refused);
    unbegun = reply.has_error() && shot->begin_failed;
  }
  if (again) {
    TellSeal(shot);
    return;
  }
  if (reply.has_error()) {
    GiveUp(shot->job->step, reply.error().message);
  }
  if (unbegun) {
    TellCopiesDone(shot);  // the daemon may have the slot granted still
    return;
  }
  LendSlot(*shot);
  if (reply.has_error()) {
    return;
  }
  MutexLock lock(mutex_);
  OnFrozenSealed(*shot);
  ledger_.Set(shot->job->step, StepState::kSealed);
  ++stats_.sealed;
  stats_.last_sealed_step = std::max(stats_.last_sealed_step, shot->job->step);
  changed_.NotifyAll();
}

void Session::GiveUp(std::int64_t step, std::string reason) {
  MutexLock lock(mutex_);
  ledger_.Set(step, StepState::kGivenUp, std::move(reason));
  changed_.NotifyAll();
}

}  // namespace holdfast::client
