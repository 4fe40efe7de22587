#include "client/session.h"

#include <algorithm>
#include <iomanip>
#include <sstream>
#include <utility>

namespace holdfast::client {
namespace {

// Opening an incarnation reads and writes every tier; a slow one is not a dead daemon.
constexpr int kTierPatience = 6;
// Who draws progress must not keep waiting who has drained.
constexpr std::chrono::milliseconds kTiersWait{2'000};

Error NotInForce(const char* what) {
  return Error(Errc::kInvalidArgument, std::string(what));
}

}  // namespace

Session::Session(SessionOptions options, std::unique_ptr<CopyEngine> engine)
    : options_(std::move(options)),
      engine_(std::move(engine)),
      connection_(options_.connection, this, &guard_) {}

Session::~Session() {
  Close();
}

Status Session::Connect(MonotonicTime deadline) {
  HF_TRYV(connection_.Start());
  return connection_.WaitConnected(deadline);
}

Result<proto::NodeCard> Session::MakeCard(const std::string& job_name) {
  proto::ClientMessage message;
  message.mutable_status()->set_job_name(job_name);
  HF_TRY(const Reply reply,
         connection_.Call(message, SystemClock().Now() + options_.request_timeout));
  const proto::StatusReply& status = reply.message.status();
  proto::NodeCard card;
  card.set_node_uuid(status.node_uuid());
  *card.mutable_endpoints() = status.peer_endpoints();
  for (const proto::JobStatus& job : status.jobs()) {
    if (job.name() == job_name) {
      card.set_known_job_uid(job.job_uid());
      card.set_known_number(job.incarnation());
    }
  }
  return card;
}

Status Session::SetNodes(JobNodes nodes, TierPolicies tiers) {
  const MutexLock lock(mutex_);
  if (joined_) {
    return NotInForce("this client has joined an incarnation: its nodes are given before");
  }
  nodes_ = std::move(nodes);
  tiers_ = std::move(tiers);
  return Ok();
}

Result<Incarnation> Session::OpenIncarnation(const proto::OpenIncarnationRequest& request) {
  proto::ClientMessage message;
  *message.mutable_open_incarnation() = request;
  {
    const MutexLock lock(mutex_);
    message.mutable_open_incarnation()->set_known_job_uid(nodes_.known_job_uid);
    message.mutable_open_incarnation()->set_known_number(nodes_.known_number);
  }
  HF_TRY(const Reply reply,
         connection_.Call(message, SystemClock().Now() + kTierPatience * options_.request_timeout));
  const auto& opened = reply.message.open_incarnation();
  if (!reply.message.has_open_incarnation() || opened.job_uid().size() != 16) {
    return Error(Errc::kCorruption, "holdfastd answered with no incarnation");
  }
  return Incarnation{opened.job_uid(), opened.number(), opened.token()};
}

Status Session::Join(const std::string& job_name,
                     const Incarnation& incarnation,
                     std::uint32_t rank,
                     std::uint32_t world_size) {
  if (incarnation.job_uid.size() != 16 || rank >= world_size) {
    return Error(Errc::kInvalidArgument,
                 "rank " + std::to_string(rank) + " of a world of " + std::to_string(world_size) +
                     ", or a job uid that is not 16 bytes");
  }
  MutexLock lock(mutex_);
  if (joined_) {
    return NotInForce("this client has joined an incarnation already: use a new client");
  }
  joined_ = true;
  job_name_ = job_name;
  incarnation_ = incarnation;
  rank_ = rank;
  world_size_ = world_size;
  return Ok();
}

// "3 slots of 10.0 GiB so far, for 2.1 s".
std::string Session::SlotFigures() {
  const std::chrono::duration<double> waited = SystemClock().Now() - slots_wait_since_;
  std::ostringstream text;
  text << slots_admitted_ << " slots of " << FormatBytes(plan_ == nullptr ? 0 : plan_->ImageBytes())
       << " so far, for " << std::fixed << std::setprecision(1) << waited.count() << " s";
  return text.str();
}

// A daemon that is there and does not take this client back is away too, but with its reason: to
// start one does not help then.
std::string Session::Away() {
  const auto refusal = connection_.Refusal();
  if (!refusal.has_value()) {
    return "holdfastd is away";
  }
  // Its records are gone, and only a start opens an incarnation.
  const bool needs_start = refusal->code == Errc::kNotFound;
  return "holdfastd is away: " + refusal->message +
         (needs_start ? ": start the training again" : "");
}

std::string Session::WhyAway() {
  MutexLock lock(mutex_);
  return connected_ || fenced_.has_value() ? "" : Away();
}

std::string Session::WhyNoSlot() {
  if (!connected_) {
    return Away();
  }
  if (!slot_seen_) {
    return "holdfastd is making the slots of this layout: none of " + SlotFigures();
  }
  if (std::string why = WhyNoFrozen(); !why.empty()) {
    return why;
  }
  if (const auto progress = slots_.Readiness(); progress.preparing > 0) {
    const bool on_device = plan_ != nullptr && !plan_->AllDevices().empty();
    return std::string("a new slot is being ") +
           (on_device ? "registered with CUDA: " : "mapped: ") + std::to_string(progress.ready) +
           " of " + SlotFigures();
  }
  return "no slot is free: protecting or flushing the snapshots before lags behind";
}

Status Session::WaitReady(MonotonicTime deadline) {
  MutexLock lock(mutex_);
  while (true) {
    if (fenced_.has_value()) {
      return *fenced_;
    }
    if (plan_ == nullptr || registered_ == nullptr) {
      return NotInForce("no layout is in force: call hf_set_layout first");
    }
    if (connected_ && slots_.HasGranted(registered_->generation, plan_->ImageBytes()) &&
        WhyNoFrozen().empty()) {
      return Ok();
    }
    if (!changed_.WaitUntil(lock, deadline) && SystemClock().Now() >= deadline) {
      return Error(Errc::kTimeout, "no slot is ready: " + WhyNoSlot());
    }
  }
}

Status Session::WaitSealed(std::int64_t step, MonotonicTime deadline) {
  MutexLock lock(mutex_);
  while (ledger_.OpenUpTo(step)) {
    if (fenced_.has_value()) {
      return *fenced_;
    }
    if (!changed_.WaitUntil(lock, deadline) && SystemClock().Now() >= deadline) {
      return Error(Errc::kTimeout,
                   connected_ ? "holdfastd has not sealed step " + std::to_string(step) + " yet"
                              : "step " + std::to_string(step) + " is not sealed: " + Away());
    }
  }
  const auto entry = ledger_.Find(step);
  if (!entry.has_value()) {
    return Error(Errc::kNotFound, "no snapshot of step " + std::to_string(step) + " was begun");
  }
  if (entry->state == StepState::kGivenUp) {
    return Error(
        Errc::kAbandoned,
        "the snapshot of step " + std::to_string(step) + " was given up: " + entry->reason);
  }
  return Ok();
}

Result<proto::DrainReply> Session::Drain(MonotonicTime deadline) {
  std::int64_t last = -1;
  {
    MutexLock lock(mutex_);
    last = last_step_;
  }
  // The daemon drains what it has on record: first the snapshot under way must be on it.
  const Status sealed = WaitSealed(last, deadline);
  if (sealed.has_error() && sealed.error().code != Errc::kAbandoned &&
      sealed.error().code != Errc::kNotFound) {
    return sealed.error();
  }
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - SystemClock().Now());
  proto::ClientMessage message;
  message.mutable_drain()->set_timeout_ms(
      static_cast<std::uint64_t>(std::max<std::int64_t>(left.count(), 0)));
  HF_TRY(const Reply reply,
         connection_.Call(message,
                          std::max(deadline, SystemClock().Now()) + options_.request_timeout));
  if (!reply.message.has_drain()) {
    return Error(Errc::kCorruption, "holdfastd answered a drain with something else");
  }
  return reply.message.drain();
}

Result<std::vector<proto::TierStatus>> Session::Tiers() {
  proto::ClientMessage message;
  {
    const MutexLock lock(mutex_);
    message.mutable_status()->set_job_name(job_name_);
  }
  HF_TRY(const Reply reply, connection_.Call(message, SystemClock().Now() + kTiersWait));
  std::vector<proto::TierStatus> tiers;
  for (const proto::JobStatus& job : reply.message.status().jobs()) {
    if (job.name() == message.status().job_name()) {
      tiers.assign(job.tiers().begin(), job.tiers().end());
    }
  }
  return tiers;
}

Result<std::uint64_t> Session::Finish() {
  proto::ClientMessage message;
  message.mutable_finish();
  HF_TRY(const Reply reply,
         connection_.Call(message, SystemClock().Now() + kTierPatience * options_.request_timeout));
  if (!reply.message.has_finish()) {
    return Error(Errc::kCorruption, "holdfastd answered a finish with something else");
  }
  return reply.message.finish().freed_bytes();
}

Result<Reply> Session::RestoreCall(const proto::ClientMessage& message, MonotonicTime deadline) {
  HF_TRYV(EnsureRegistered());
  return connection_.Call(message, deadline);
}

void Session::Tell(const proto::ClientMessage& message) {
  Connection::Request request;
  request.make = [message] { return message; };
  request.on_reply = [](const Result<Reply>&) {};
  // A full table or a fenced session: the daemon learns it from the end of the connection.
  [[maybe_unused]] const auto ticket = connection_.Submit(std::move(request));
}

void Session::NoteRestore(const std::string& note) {
  MutexLock lock(mutex_);
  restore_note_ = note;
}

SessionStats Session::Stats() {
  EngineState engine = engine_->State();
  MutexLock lock(mutex_);
  SessionStats stats = stats_;
  stats.engine = std::move(engine);
  if (!restore_note_.empty()) {
    stats.engine.note += (stats.engine.note.empty() ? "" : "\n") + restore_note_;
  }
  stats.image_bytes = plan_ == nullptr ? 0 : plan_->ImageBytes();
  stats.static_bytes =
      plan_ == nullptr || plan_->Frozen() == nullptr ? 0 : plan_->Frozen()->ImageBytes();
  stats.connected = connected_;
  stats.fenced = fenced_.has_value();
  return stats;
}

void Session::Leave() {
  constexpr std::chrono::milliseconds kPatience{1'000};
  {
    MutexLock lock(mutex_);
    if (!connected_ || fenced_.has_value() || registered_ == nullptr) {
      return;
    }
  }
  proto::ClientMessage message;
  message.mutable_leave();
  // Without an answer the daemon learns it when the process ends.
  [[maybe_unused]] const auto reply = connection_.Call(message, SystemClock().Now() + kPatience);
}

void Session::Close() {
  {
    MutexLock lock(mutex_);
    if (std::exchange(closed_, true)) {
      return;
    }
  }
  engine_->Stop();
  {
    MutexLock lock(mutex_);
    const MonotonicTime deadline = SystemClock().Now() + options_.close_wait;
    while (connected_ && !fenced_.has_value() && ledger_.OpenUpTo(last_step_) &&
           changed_.WaitUntil(lock, deadline)) {
    }
  }
  Leave();
  connection_.Stop();
  SlotTable::Mappings dropped;
  MutexLock lock(mutex_);
  slots_.DropAll(&dropped);
  DropFrozen(&dropped);
}

void Session::OnConnected() {
  MutexLock lock(mutex_);
  connected_ = true;
  stats_.reconnects += was_connected_ ? 1 : 0;
  was_connected_ = true;
  changed_.NotifyAll();
}

void Session::OnLost() {
  MutexLock lock(mutex_);
  connected_ = false;
  changed_.NotifyAll();
}

void Session::OnFenced(const Error& error) {
  // Copies under way end by themselves; nothing may be granted or sealed any more.
  SlotTable::Mappings dropped;
  MutexLock lock(mutex_);
  fenced_ = error;
  connected_ = false;
  slots_.DropAll(&dropped);
  DropFrozen(&dropped);
  changed_.NotifyAll();
}

}  // namespace holdfast::client
