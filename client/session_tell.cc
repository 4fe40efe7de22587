// What a Session tells its daemon of steps that are not sealed, and the requests of a snapshot that
// the daemon refuses without having done anything.
#include <algorithm>
#include <utility>

#include "client/session.h"

namespace holdfast::client {
namespace {

constexpr std::chrono::milliseconds kRepeatMin{20};
constexpr int kMostDoublings = 5;  // up to 640 ms

}  // namespace

// Steps that are missed while one is being told of need no message of their own: a later step that
// was begun or missed tells of all before it, and a stalled daemon is not buried.
void Session::TellMissed(std::int64_t step, const std::string& reason) {
  MissedStep missed{step, reason};
  {
    MutexLock lock(mutex_);
    missed.skipped_total = stats_.skipped;
    if (std::exchange(missed_told_, true)) {
      missed_next_ = std::move(missed);
      return;
    }
  }
  SubmitMissed(missed);
}

// The step is that of the submission, not of the sending: begins that were submitted after it are
// of later steps.
void Session::SubmitMissed(const MissedStep& missed) {
  Connection::Request request;
  request.make = [missed]() -> std::optional<proto::ClientMessage> {
    proto::ClientMessage message;
    message.mutable_missed()->set_step(missed.step);
    message.mutable_missed()->set_reason(missed.reason);
    message.mutable_missed()->set_skipped_total(missed.skipped_total);
    return message;
  };
  request.on_reply = [this, total = missed.skipped_total](const Result<Reply>& reply) {
    const bool counted = reply.has_value() && reply.value().message.has_missed();
    OnMissedAnswered(counted ? total : 0);
  };
  if (connection_.Submit(std::move(request)).has_error()) {
    // The resume's last_begun_step, or the next begin, tells it as well.
    MutexLock lock(mutex_);
    missed_told_ = false;
    missed_next_.reset();
  }
}

void Session::OnMissedAnswered(std::uint64_t told) {
  std::optional<MissedStep> next;
  {
    MutexLock lock(mutex_);
    skips_told_ = std::max(skips_told_, told);
    next = std::exchange(missed_next_, std::nullopt);
    missed_told_ = next.has_value();
  }
  if (next.has_value()) {
    SubmitMissed(*next);
  }
}

void Session::TellTorn(const std::shared_ptr<Shot>& shot) {
  proto::ClientMessage message;
  auto* torn = message.mutable_torn();
  torn->set_step(shot->job->step);
  torn->set_slot(shot->slot.slot);
  torn->set_generation(shot->slot.generation);
  torn->set_reason(shot->job->outcome.reason);
  // The engine reports the end of a job only when nothing of it can land any more.
  torn->set_copies_done(true);
  TellEnd(shot, message);
}

void Session::TellCopiesDone(const std::shared_ptr<Shot>& shot) {
  proto::ClientMessage message;
  message.mutable_copies_done()->set_slot(shot->slot.slot);
  message.mutable_copies_done()->set_generation(shot->slot.generation);
  TellEnd(shot, message);
}

void Session::TellEnd(const std::shared_ptr<Shot>& shot, const proto::ClientMessage& message) {
  {
    MutexLock lock(mutex_);
    shot->end_told = true;
    slots_.MarkDraining(shot->slot, shot->job->step);
  }
  Connection::Request request;
  request.make = [this, shot, message]() -> std::optional<proto::ClientMessage> {
    MutexLock lock(mutex_);
    // After a resume that did not keep the slot it may be granted anew: not to be given back by an
    // old message.
    if (std::exchange(shot->end_sent, true) && !slots_.IsDraining(shot->slot, shot->job->step)) {
      return std::nullopt;
    }
    return message;
  };
  request.on_reply = [this, shot, message](const Result<Reply>& reply) {
    if (Refused(shot.get(), reply)) {
      TellEnd(shot, message);
    } else {
      LendSlot(*shot);
    }
  };
  Submit(shot, std::move(request));
}

// The daemon did nothing of what was asked and may do it later: the slot stays what it is on both
// sides, and the request is to be repeated.
bool Session::Refused(Shot* shot, const Result<Reply>& reply) {
  if (!reply.has_error() || reply.error().code != Errc::kUnavailable) {
    return false;
  }
  MutexLock lock(mutex_);
  // Never shorter than before: a seal that is put off must not overtake its begin.
  shot->not_before =
      SystemClock().Now() + kRepeatMin * (1 << std::min(shot->refusals, kMostDoublings));
  ++shot->refusals;
  return true;
}

void Session::LendSlot(const Shot& shot) {
  std::shared_ptr<SlotMapping> mapping;
  {
    MutexLock lock(mutex_);
    mapping = slots_.MarkLent(shot.slot, shot.job->step);
  }
  if (mapping != nullptr) {
    // Where the kernel refuses, the digests still tell of a stray write (I2).
    [[maybe_unused]] const Status protected_now = mapping->SetWritable(false);
  }
}

void Session::Submit(const std::shared_ptr<Shot>& shot, Connection::Request request) {
  {
    MutexLock lock(mutex_);
    request.not_before = shot->not_before;
  }
  const auto ticket = connection_.Submit(std::move(request));
  const bool ended = ticket.has_error() && (ticket.error().code == Errc::kCancelled ||
                                            ticket.error().code == Errc::kFenced);
  if (ticket.has_error() && !ended) {
    GiveUp(shot->job->step, ticket.error().message);
  }
}

}  // namespace holdfast::client
