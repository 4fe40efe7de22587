// Requests of both directions: those of this side wait for their answers, those of the peer are
// tasks.
#include <algorithm>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"
#include "common/with_timeout.h"
#include "transport/peer_channel.h"

namespace holdfast::transport {

namespace asio = boost::asio;

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kAwaitTuple = asio::as_tuple(asio::use_awaitable);

std::uint32_t MillisecondsLeft(Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  return static_cast<std::uint32_t>(
      std::clamp(left, std::chrono::milliseconds(1), kMaxDeadline).count());
}

// The stamp of what orders itself; nothing for other requests.
const proto::PeerStamp* StampOf(const proto::PeerRequest& request) {
  if (request.has_report()) {
    return &request.report().report().stamp();
  }
  return request.has_command() ? &request.command().command().stamp() : nullptr;
}

const std::string& JobOf(const proto::PeerRequest& request) {
  return request.has_report() ? request.report().job_uid() : request.command().job_uid();
}

}  // namespace

// --- requests of this side ---

asio::awaitable<Result<proto::PeerReply>> PeerChannel::Call(proto::PeerRequest request,
                                                            std::chrono::milliseconds limit) {
  const auto self = shared_from_this();
  const Deadline deadline = Clock::now() + std::min(limit, kMaxDeadline);
  HF_CO_TRYV(co_await slots_.Acquire(1, deadline));
  const auto call = std::make_shared<PendingCall>(stream_->Executor(), deadline);
  call->asked = AskedFor(request);
  std::uint64_t id = 0;
  // The peer ends the connection over an id that does not rise.
  auto make = [&]() -> Result<std::string> {
    id = next_id_++;
    request.set_request_id(id);
    request.set_deadline_ms(MillisecondsLeft(deadline));
    proto::PeerMessage message;
    *message.mutable_request() = std::move(request);
    HF_TRY(std::string frame, EncodePeerFrame(message));
    calls_.emplace(id, call);
    return frame;
  };
  const Status pushed = co_await queue_.Push(request.ByteSizeLong(), deadline, make);
  if (!pushed.has_value()) {
    slots_.Release(1);
    co_return pushed.error();
  }
  co_return co_await AwaitReply(id, call);
}

asio::awaitable<Result<proto::PeerReply>> PeerChannel::AwaitReply(
    std::uint64_t id, std::shared_ptr<PendingCall> call) {
  // The wait may be over before it begins: the connection ended while the request was queued.
  if (!call->result.has_value() && !co_await Cancelled()) {
    (void)co_await call->wake.async_wait(kAwaitTuple);
  }
  if (call->result.has_value()) {
    Forget(id);
    co_return std::move(*call->result);
  }
  // Its place is free again when the peer has answered: until then it may hold memory there.
  SendCancel(id);
  if (co_await Cancelled()) {
    co_return Error(Errc::kCancelled, "cancelled while " + PeerName() + " had the request");
  }
  co_return Error(Errc::kTimeout, PeerName() + " did not answer in time");
}

void PeerChannel::Forget(std::uint64_t id) {
  if (calls_.erase(id) != 0) {
    slots_.Release(1);
  }
}

void PeerChannel::SendCancel(std::uint64_t id) {
  proto::PeerMessage message;
  message.mutable_cancel()->set_request_id(id);
  auto frame = EncodePeerFrame(message);
  if (frame.has_value()) {
    queue_.PushSmall(std::move(frame).value(), SendQueue::Kind::kSmall);
  }
}

void PeerChannel::OnReply(proto::PeerReply reply) {
  const auto found = calls_.find(reply.request_id());
  if (found == calls_.end()) {
    Violation(Refusal::kGarbage,
              Error(Errc::kCorruption,
                    "an answer to request " + std::to_string(reply.request_id()) +
                        ", which waits for none"));
    return;
  }
  const std::shared_ptr<PendingCall> call = found->second;
  Forget(reply.request_id());
  if (reply.has_error()) {
    call->result.emplace(FromPeerError(reply.error().code(), reply.error().message()));
  } else if (const Status fits = CheckReply(call->asked, reply); !fits.has_value()) {
    context_->refusals().Add(Refusal::kRequest, UuidText(facts_->node_uuid), fits.error());
    call->result.emplace(fits.error());
  } else {
    call->result.emplace(std::move(reply));
  }
  call->wake.cancel();
}

// --- requests of the peer ---

void PeerChannel::OnRequest(proto::PeerRequest request) {
  const std::uint64_t id = request.request_id();
  if (id <= last_served_) {
    Violation(Refusal::kGarbage,
              Error(Errc::kCorruption,
                    "request " + std::to_string(id) + " came after request " +
                        std::to_string(last_served_)));
    return;
  }
  last_served_ = id;
  auto served = std::make_shared<Served>(stream_->Executor());
  const bool room = served_.size() < context_->limits().max_served;
  served_.emplace(id, served);
  if (!room || !tasks_.Spawn(Serve(std::move(request), std::move(served)))) {
    served_.erase(id);
    Violation(Refusal::kLimit,
              Error(Errc::kUnavailable,
                    "more than " + std::to_string(context_->limits().max_served) +
                        " requests without answer, which hello allows"));
  }
}

void PeerChannel::OnCancel(std::uint64_t id) {
  const auto found = served_.find(id);
  if (found != served_.end()) {
    found->second->cancelled = true;
    found->second->wake.cancel();
  }
}

asio::awaitable<void> PeerChannel::Serve(proto::PeerRequest request,
                                         std::shared_ptr<Served> served) {
  const auto self = shared_from_this();
  const std::uint64_t id = request.request_id();
  const Deadline deadline = Clock::now() + std::chrono::milliseconds(request.deadline_ms());
  // What the answer may hold: asked for before it is made.
  const std::uint64_t bytes =
      request.has_read_range()
          ? std::min<std::uint64_t>(request.read_range().length(), kMaxReadRangeBytes)
          : 0;
  // What holds no bytes does not stand in line behind what does: a report, a look at a feed.
  const Status room = bytes == 0 ? Ok() : co_await read_room_.Acquire(bytes, deadline);
  Result<proto::PeerReply> result = room.has_value() ? Result<proto::PeerReply>(proto::PeerReply())
                                                     : Result<proto::PeerReply>(room.error());
  if (room.has_value()) {
    result = co_await Answer(std::move(request), std::move(served), deadline);
  }
  proto::PeerMessage message;
  if (result.has_value()) {
    *message.mutable_reply() = std::move(result).value();
  } else {
    *message.mutable_reply()->mutable_error() = ToPeerError(result.error());
  }
  message.mutable_reply()->set_request_id(id);
  auto frame = EncodePeerFrame(message);
  if (!frame.has_value()) {
    message.mutable_reply()->Clear();
    message.mutable_reply()->set_request_id(id);
    *message.mutable_reply()->mutable_error() = ToPeerError(frame.error());
    frame = EncodePeerFrame(message);
  }
  if (frame.has_value() && !ended()) {
    const Deadline patience = Clock::now() + context_->limits().send_timeout;
    const Status pushed = co_await queue_.Push(std::move(frame).value(), patience);
    if (!pushed.has_value() && pushed.error().code == Errc::kTimeout) {
      Close(Error(Errc::kUnavailable, PeerName() + " does not read its answers"));
    }
  }
  served_.erase(id);
  if (room.has_value()) {
    read_room_.Release(bytes);
  }
}

asio::awaitable<Result<proto::PeerReply>> PeerChannel::Answer(proto::PeerRequest request,
                                                              std::shared_ptr<Served> served,
                                                              Deadline deadline) {
  Status sound = CheckRequest(request, facts_->node_uuid);
  Refusal refusal = Refusal::kRequest;
  if (!sound.has_value()) {
    refusal = sound.error().code == Errc::kPermission        ? Refusal::kIdentity
              : sound.error().code == Errc::kVersionMismatch ? Refusal::kVersion
                                                             : Refusal::kRequest;
  } else {
    sound = CheckStamp(request);
    refusal = Refusal::kStale;
  }
  if (!sound.has_value()) {
    context_->refusals().Add(refusal, UuidText(facts_->node_uuid), sound.error());
    co_return sound.error();
  }
  if (context_->hooks().handler == nullptr) {
    co_return Error(Errc::kUnavailable, "this node answers no requests yet");
  }
  std::optional<proto::PeerStamp> stamp;
  std::string job;
  const int kind = static_cast<int>(request.body_case());
  if (const proto::PeerStamp* given = StampOf(request); given != nullptr) {
    stamp = *given;
    job = JobOf(request);
  }
  auto work = context_->hooks().handler(facts_, std::move(request));
  auto unless_cancelled = Until(WaitForCancel(std::move(served)), std::move(work));
  auto result = co_await WithTimeout(deadline - Clock::now(), std::move(unless_cancelled));
  if (stamp.has_value() && result.has_value()) {
    context_->stamps().Accepted(facts_->node_uuid, job, kind, *stamp);
  }
  co_return result;
}

asio::awaitable<Status> PeerChannel::WaitForCancel(std::shared_ptr<Served> served) {
  while (!served->cancelled && !co_await Cancelled()) {
    (void)co_await served->wake.async_wait(kAwaitTuple);
  }
  co_return Ok();
}

Status PeerChannel::CheckStamp(const proto::PeerRequest& request) {
  const proto::PeerStamp* stamp = StampOf(request);
  if (stamp == nullptr) {
    return Ok();
  }
  return context_->stamps().Check(
      facts_->node_uuid, JobOf(request), static_cast<int>(request.body_case()), *stamp);
}

}  // namespace holdfast::transport
