#include "daemon/session.h"

#include <utility>

#include "common/failpoint.h"
#include "common/log.h"
#include "common/with_timeout.h"
#include "transport/messages.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// A bound for a wait that a notification ends.
constexpr std::chrono::milliseconds kIdleLimit{60'000};

// What a queued message costs beside its bytes.
constexpr ByteCount kMessageOverhead = 1'024;

ByteCount CostOf(const Outgoing& outgoing) {
  return outgoing.message.ByteSizeLong() + kMessageOverhead;
}

}  // namespace

Session::Session(SessionId id,
                 transport::SessionSocket::Socket socket,
                 transport::PeerIdentity peer,
                 const SessionLimits& limits)
    : id_(id),
      socket_(std::move(socket)),
      peer_(std::move(peer)),
      limits_(limits),
      queued_(socket_.Executor()) {}

asio::awaitable<Status> Session::Greet(const proto::HelloReply& hello) {
  auto first = co_await WithTimeout(limits_.hello_timeout, socket_.Receive());
  if (!first.has_value()) {
    co_return first.error();
  }
  ++waiting_requests_;
  const proto::ClientMessage& message = first.value();
  Status status = Ok();
  if (!message.has_hello()) {
    status = Error(Errc::kInvalidArgument, "the first message of a connection must be hello");
  } else if (message.hello().protocol_version() != kProtocolVersion) {
    status =
        Error(Errc::kVersionMismatch,
              "this client speaks protocol version " +
                  std::to_string(message.hello().protocol_version()) + ", the daemon version " +
                  std::to_string(kProtocolVersion) + "; use one version of Holdfast on a node");
  }
  if (!status.has_value()) {
    SendError(message.request_id(), status.error());
    co_return status;
  }
  program_ = message.hello().program().substr(0, 64);
  Outgoing reply;
  reply.message.set_request_id(message.request_id());
  *reply.message.mutable_hello() = hello;
  Send(std::move(reply));
  co_return Ok();
}

asio::awaitable<bool> Session::Read(proto::HelloReply hello,
                                    std::function<void()> connected,
                                    Handler handler) {
  const auto self = shared_from_this();
  const Status greeted = co_await Greet(hello);
  if (!greeted.has_value()) {
    LogDebug("session.refused", greeted.error().ToString());
    CloseAfterQueue();
    co_return false;
  }
  connected();
  while (!ended_ && !closing_) {
    auto received = co_await socket_.Receive();
    if (!received.has_value()) {
      const Errc code = received.error().code;
      if (code != Errc::kUnavailable && code != Errc::kCancelled) {
        LogWarning("session.garbage",
                   "uid " + std::to_string(peer_.uid) + " pid " + std::to_string(peer_.pid) + ": " +
                       received.error().ToString());
      }
      break;
    }
    ++waiting_requests_;
    co_await handler(self, std::move(received).value());
    if (co_await Cancelled()) {
      break;
    }
  }
  CloseAfterQueue();
  co_return true;
}

asio::awaitable<Status> Session::SendNow(const Outgoing& outgoing) {
  int fd = -1;
  storage_tiers::Descriptor of_slot;
  if (outgoing.slot != nullptr) {
    auto opened =
        outgoing.writable ? outgoing.slot->OpenReadWriteFd() : outgoing.slot->OpenReadOnlyFd();
    HF_CO_TRY(of_slot, std::move(opened));
    fd = of_slot.get();
  } else if (outgoing.file != nullptr) {
    fd = outgoing.file->Get();
  }
  co_return co_await WithTimeout(limits_.send_timeout, socket_.Send(outgoing.message, fd));
}

asio::awaitable<void> Session::Write() {
  const auto self = shared_from_this();
  while (!ended_) {
    if (queue_.empty()) {
      if (closing_ || co_await Cancelled()) {
        break;
      }
      co_await queued_.Wait(kIdleLimit);
      continue;
    }
    Outgoing outgoing = std::move(queue_.front());
    queue_.pop_front();
    queued_bytes_ -= CostOf(outgoing);
    if (outgoing.message.restore().has_choice()) {
      HOLDFAST_FAILPOINT("restore.before_choice");
    }
    const Status sent = co_await SendNow(outgoing);
    if (!sent.has_value()) {
      if (sent.error().code == Errc::kTimeout) {
        LogWarning("session.cut_off",
                   "pid " + std::to_string(peer_.pid) + " does not read its answers");
      } else if (sent.error().code == Errc::kInvalidArgument ||
                 sent.error().code == Errc::kNoSpace) {
        LogError("session.unsendable", sent.error().ToString());
      }
      break;
    }
  }
  Abort("");
}

void Session::Send(Outgoing outgoing) {
  if (ended_) {
    return;
  }
  const RequestId answered = outgoing.message.request_id();
  const auto of_slot = slot_requests_.find(answered);
  if (answered != 0 && of_slot != slot_requests_.end()) {
    slot_requests_.erase(of_slot);
  } else if (answered != 0 && waiting_requests_ > 0) {
    --waiting_requests_;
  }
  const ByteCount cost = CostOf(outgoing);
  if (queue_.size() >= limits_.queue_messages || queued_bytes_ + cost > limits_.queue_bytes) {
    Abort("it does not read its answers");
    return;
  }
  queued_bytes_ += cost;
  queue_.push_back(std::move(outgoing));
  queued_.Notify();
}

bool Session::CountWithSlots(RequestId request) {
  --waiting_requests_;
  slot_requests_.insert(request);
  return slot_requests_.size() <= kMaxSlotRequests;
}

void Session::SendError(RequestId request, const Error& error) {
  Outgoing reply;
  reply.message.set_request_id(request);
  reply.message.mutable_error()->set_code(static_cast<std::uint32_t>(error.code));
  reply.message.mutable_error()->set_message(error.message);
  Send(std::move(reply));
}

void Session::CloseAfterQueue() {
  closing_ = true;
  queued_.Notify();
}

void Session::Abort(std::string_view why) {
  if (ended_) {
    return;
  }
  ended_ = true;
  if (!why.empty()) {
    LogWarning("session.cut_off", "pid " + std::to_string(peer_.pid) + ": " + std::string(why));
  }
  queue_.clear();
  queued_bytes_ = 0;
  socket_.Close();
  queued_.Notify();
}

ByteCount Session::BufferedBytes() const {
  return queued_bytes_ + socket_.BufferedBytes();
}

}  // namespace holdfast::daemon
