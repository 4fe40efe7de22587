// The life of a connection: its reader, its writer, its heartbeat, its end.
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

// What send_timeout is about.
constexpr std::size_t kPieceBytes = 256 * kKiB;

// For the last words to leave.
constexpr std::chrono::milliseconds kLastWordsLimit{1'000};

// Reader, writer, heartbeat.
constexpr std::size_t kOwnTasks = 3;

}  // namespace

PeerChannel::PeerChannel(Private, std::unique_ptr<PeerStream> stream, PeerContext* context)
    : stream_(std::move(stream)),
      context_(context),
      decoder_(kMaxHelloBytes, kPeerFrameMagic),
      queue_(stream_->Executor(), context->limits().queue_bytes),
      slots_(stream_->Executor(), context->limits().max_requests),
      read_room_(stream_->Executor(), context->limits().read_bytes),
      last_heard_(Clock::now()),
      last_sent_(last_heard_),
      writer_ended_(stream_->Executor(), asio::steady_timer::time_point::max()),
      // Answers count until they are queued, the tasks that gave them a moment longer.
      tasks_(stream_->Executor(), "peer", 2 * context->limits().max_served + kOwnTasks) {}

PeerChannel::~PeerChannel() = default;

std::string PeerChannel::PeerName() const {
  return facts_ == nullptr ? stream_->Remote()
                           : "node " + UuidText(facts_->node_uuid) + " at " + facts_->remote;
}

asio::awaitable<Error> PeerChannel::Run() {
  const auto self = shared_from_this();
  last_heard_ = last_sent_ = Clock::now();
  if (!tasks_.Spawn(Write()) || !tasks_.Spawn(KeepAlive())) {
    Close(Error(Errc::kInternal, "the tasks of a connection could not be started"));
  }
  co_await Read();
  if (violation_.has_value() && !ended()) {
    // Its last words are queued.
    writer_ended_.expires_after(kLastWordsLimit);
    (void)co_await writer_ended_.async_wait(kAwaitTuple);
    Close(*violation_);
  }
  tasks_.Stop();
  co_await tasks_.Finish();
  co_return *why_;
}

void PeerChannel::Close(const Error& why) {
  if (ended()) {
    return;
  }
  why_ = why;
  const Error lost(Errc::kUnavailable, "the connection ended: " + why.message);
  queue_.Close(lost);
  slots_.Close(lost);
  read_room_.Close(lost);
  for (const auto& [id, call] : calls_) {
    call->result.emplace(lost);
    call->wake.cancel();
  }
  slots_.Release(calls_.size());
  calls_.clear();
  stream_->Close();
  writer_ended_.cancel();
}

asio::awaitable<void> PeerChannel::Read() {
  while (!ended() && !violation_.has_value()) {
    auto payload = decoder_.Next();
    if (!payload.has_value()) {
      Violation(Refusal::kGarbage, payload.error());
      continue;
    }
    if (payload.value().has_value()) {
      auto message = ParsePeerMessage(*payload.value());
      decoder_.Trim();
      if (!message.has_value()) {
        Violation(Refusal::kGarbage, message.error());
        continue;
      }
      Dispatch(std::move(message).value());
      continue;
    }
    // Before and after: a cancellation ends only the wait that it meets.
    if (co_await Cancelled()) {
      Close(Error(Errc::kCancelled, "the connection was closed here"));
      co_return;
    }
    const auto count = co_await stream_->ReadSome(decoder_.Space());
    if (!count.has_value()) {
      const bool cancelled = co_await Cancelled();
      Close(cancelled ? Error(Errc::kCancelled, "the connection was closed here") : count.error());
      co_return;
    }
    last_heard_ = Clock::now();
    decoder_.Commit(count.value());
  }
}

void PeerChannel::Dispatch(proto::PeerMessage message) {
  switch (message.kind_case()) {
    case proto::PeerMessage::kRequest:
      OnRequest(std::move(*message.mutable_request()));
      return;
    case proto::PeerMessage::kReply:
      OnReply(std::move(*message.mutable_reply()));
      return;
    case proto::PeerMessage::kCancel:
      OnCancel(message.cancel().request_id());
      return;
    case proto::PeerMessage::kPing:
      OnPing(message.ping().number());
      return;
    case proto::PeerMessage::kPong:
      OnPong(message.pong().number());
      return;
    case proto::PeerMessage::kRefusal: {
      const Error told = FromPeerError(message.refusal().code(), message.refusal().message());
      Close(Error(Errc::kUnavailable,
                  PeerName() + " ended the connection (" + std::string(ErrcName(told.code)) +
                      "): " + told.message));
      return;
    }
    case proto::PeerMessage::kHello:
      Violation(Refusal::kGarbage, Error(Errc::kCorruption, "hello is said once"));
      return;
    case proto::PeerMessage::KIND_NOT_SET:
      break;
  }
  Violation(Refusal::kVersion,
            Error(Errc::kVersionMismatch, "a message of a kind that is not known here"));
}

void PeerChannel::Violation(Refusal refusal, const Error& error) {
  const std::string peer = facts_ == nullptr ? stream_->Remote() : UuidText(facts_->node_uuid);
  context_->refusals().Add(refusal, peer, error);
  violation_ = Error(error.code, PeerName() + " broke the protocol: " + error.message);
  proto::PeerMessage message;
  const proto::PeerError told = ToPeerError(error);
  message.mutable_refusal()->set_code(told.code());
  message.mutable_refusal()->set_message(told.message());
  auto frame = EncodePeerFrame(message);
  if (!frame.has_value()) {
    Close(*violation_);
    return;
  }
  queue_.PushLast(std::move(frame).value(), Error(Errc::kUnavailable, violation_->message));
}

asio::awaitable<Status> PeerChannel::WriteFrame(const std::string& frame) {
  ByteView rest = AsBytes(frame);
  while (!rest.empty()) {
    const ByteView piece = rest.first(std::min(kPieceBytes, rest.size()));
    HF_CO_TRYV(co_await WithTimeout(context_->limits().send_timeout, stream_->Write(piece)));
    last_sent_ = Clock::now();
    rest = rest.subspan(piece.size());
  }
  co_return Ok();
}

asio::awaitable<void> PeerChannel::Write() {
  const auto self = shared_from_this();
  while (true) {
    const auto item = co_await queue_.Pop();
    if (!item.has_value()) {
      break;
    }
    Status written = co_await WriteFrame(item->frame);
    queue_.Sent(*item);
    if (!written.has_value()) {
      if (written.error().code == Errc::kTimeout) {
        Close(Error(Errc::kUnavailable, PeerName() + " does not read what is sent to it"));
      } else {
        // The reader may hear why: TLS alerts and refusals come that way.
        queue_.Close(written.error());
        (void)co_await SleepFor(kLastWordsLimit);
        Close(written.error());
      }
      break;
    }
    if (item->kind == SendQueue::Kind::kLast) {
      co_await stream_->Linger(kLastWordsLimit / 2);
      break;
    }
  }
  writer_ended_.cancel();
}

asio::awaitable<void> PeerChannel::KeepAlive() {
  const auto self = shared_from_this();
  const PeerLimits& limits = context_->limits();
  const auto step = std::max(limits.ping_after / 2, std::chrono::milliseconds(1));
  while (!ended()) {
    const auto now = Clock::now();
    if (now - last_heard_ >= limits.dead_after) {
      Close(Error(Errc::kUnavailable,
                  PeerName() + " is silent for " + std::to_string(limits.dead_after.count()) +
                      " ms: it hangs, or the network does"));
      co_return;
    }
    const bool quiet =
        now - last_heard_ >= limits.ping_after || now - last_sent_ >= limits.ping_after;
    if (quiet && !queue_.Holds(SendQueue::Kind::kPing)) {
      proto::PeerMessage message;
      message.mutable_ping()->set_number(++ping_number_);
      ping_sent_ = now;
      auto frame = EncodePeerFrame(message);
      if (frame.has_value()) {
        queue_.PushSmall(std::move(frame).value(), SendQueue::Kind::kPing);
      }
    }
    const Status slept = co_await SleepFor(step);
    if (!slept.has_value()) {
      co_return;
    }
  }
}

void PeerChannel::OnPing(std::uint64_t number) {
  // One pong that waits answers all pings that came meanwhile: a peer that sends pings and reads
  // nothing fills no memory.
  if (queue_.Holds(SendQueue::Kind::kPong)) {
    return;
  }
  proto::PeerMessage message;
  message.mutable_pong()->set_number(number);
  auto frame = EncodePeerFrame(message);
  if (frame.has_value()) {
    queue_.PushSmall(std::move(frame).value(), SendQueue::Kind::kPong);
  }
}

void PeerChannel::OnPong(std::uint64_t number) {
  if (number == ping_number_ && ping_number_ != 0) {
    round_trip_ = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - ping_sent_);
  }
}

}  // namespace holdfast::transport
