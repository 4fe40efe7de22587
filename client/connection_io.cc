// The part of Connection that speaks the protocol; all of it runs on the connection's thread.
#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <poll.h>
#include <unistd.h>

#include "client/connection.h"
#include "client/protocol.h"
#include "common/failpoint.h"
#include "transport/messages.h"

namespace holdfast::client {
namespace {

using std::chrono::milliseconds;

}  // namespace

Status Connection::Handshake(transport::UnixSocket* socket) {
  proto::ClientMessage message;
  *message.mutable_hello() = MakeHello(options_.program);
  std::uint64_t id = 0;
  {
    MutexLock lock(mutex_);
    id = next_id_++;
  }
  HF_TRYV(SendOne(socket, id, std::move(message)));
  HF_TRY(const Reply reply, AwaitReply(socket, id));
  return CheckHello(reply.message);
}

Status Connection::Resume(transport::UnixSocket* socket) {
  auto message = handler_->MakeResume();
  if (!message.has_value()) {
    return Ok();
  }
  std::uint64_t id = 0;
  {
    MutexLock lock(mutex_);
    id = next_id_++;
  }
  HF_TRYV(SendOne(socket, id, std::move(*message)));
  auto reply = AwaitReply(socket, id);
  if (reply.has_error() && reply.error().code == Errc::kFenced) {
    handler_->OnFenced(reply.error());
    Retire(reply.error());
    return reply.error();
  }
  return handler_->OnResumed(std::move(reply));
}

Result<Reply> Connection::AwaitReply(transport::UnixSocket* socket, std::uint64_t id) {
  const MonotonicTime deadline = SystemClock().Now() + options_.reply_timeout;
  while (true) {
    {
      const ForkGuard::Section no_fork;  // as in ReceiveAll; not while it waits
      auto reply = ReceiveOne(socket);
      if (reply.has_value() && reply.value().message.request_id() != id) {
        HF_TRYV(Dispatch(std::move(reply).value()));
        continue;
      }
      if (reply.has_value() && reply.value().message.has_error()) {
        refused_ = true;
        return DaemonError(reply.value().message.error());
      }
      if (reply.has_value() || reply.error().code != Errc::kTimeout) {
        return reply;
      }
    }
    HF_TRYV(socket->WaitReadable(TimeLeft(deadline)));
  }
}

Result<Reply> Connection::ReceiveOne(transport::UnixSocket* socket) {
  const auto receive = [&]() -> Result<Reply> {
    HF_TRY(const ByteView payload, socket->Receive(milliseconds(0)));
    last_heard_ = SystemClock().Now();
    Reply reply;
    HF_TRY(reply.message, transport::ParseServerMessage(payload));
    if (transport::CarriesFd(reply.message)) {
      HF_TRY(reply.fd, socket->TakeFd());
    }
    return reply;
  };
  auto received = receive();
  WatchArrived(*socket);
  return received;
}

Status Connection::SendOne(transport::UnixSocket* socket,
                           std::uint64_t id,
                           proto::ClientMessage message) {
  message.set_request_id(id);
  HF_TRY(const std::string frame, transport::EncodeFrame(message));
  return socket->Send(AsBytes(frame), -1, options_.reply_timeout);
}

Status Connection::Exchange(transport::UnixSocket* socket) {
  HF_TRYV(SendWaiting(socket));
  HF_TRYV(WaitForNews(*socket));
  HF_TRYV(ReceiveAll(socket));
  return Heartbeat(socket);
}

Status Connection::SendWaiting(transport::UnixSocket* socket) {
  while (true) {
    std::uint64_t id = 0;
    std::shared_ptr<Pending> next;
    {
      const MonotonicTime now = SystemClock().Now();
      MutexLock lock(mutex_);
      for (const auto& [ticket, pending] : pending_) {
        if (!pending->sent && pending->request.not_before <= now) {
          id = ticket;
          next = pending;
          pending->sent = true;
          break;
        }
      }
    }
    if (next == nullptr) {
      return Ok();
    }
    auto message = next->request.make();
    if (!message.has_value()) {
      Cancel(id);
      continue;
    }
    const Status status = SendOne(socket, id, std::move(*message));
    if (status.has_error() && status.error().code == Errc::kInvalidArgument) {
      // Too large for a frame: no repetition makes it smaller.
      MutexLock lock(mutex_);
      pending_.erase(id);
      lock.Unlock();
      next->request.on_reply(status.error());
      lock.Lock();
      continue;
    }
    HF_TRYV(status);
    if (next->request.failpoint_after_sent != nullptr) {
      HOLDFAST_FAILPOINT(next->request.failpoint_after_sent);
    }
  }
}

milliseconds Connection::UntilDue(milliseconds longest) {
  const MonotonicTime now = SystemClock().Now();
  milliseconds left = longest;
  MutexLock lock(mutex_);
  for (const auto& [ticket, pending] : pending_) {
    if (!pending->sent && pending->request.not_before > now) {
      left = std::min(left, std::chrono::ceil<milliseconds>(pending->request.not_before - now));
    }
  }
  return left;
}

Status Connection::WaitForNews(const transport::UnixSocket& socket) {
  std::array<pollfd, 2> entries = {pollfd{socket.NativeHandle(), POLLIN, 0},
                                   pollfd{wake_.Get(), POLLIN, 0}};
  // Wakes for the heartbeat too.
  const milliseconds wait =
      UntilDue(std::clamp(options_.ping_after / 2, milliseconds(1), milliseconds(1'000)));
  if (::poll(entries.data(), entries.size(), static_cast<int>(wait.count())) < 0 &&
      errno != EINTR) {
    return ErrnoError(errno, "poll of the daemon's socket");
  }
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t read_bytes = ::read(wake_.Get(), &count, sizeof count);
  return Ok();
}

Status Connection::ReceiveAll(transport::UnixSocket* socket) {
  while (!Ended()) {
    // From the arrival of a descriptor until it is mapped and closed no child may inherit it.
    const ForkGuard::Section no_fork;
    auto reply = ReceiveOne(socket);
    if (reply.has_error() && reply.error().code == Errc::kTimeout) {
      return Ok();
    }
    if (reply.has_error()) {
      return std::move(reply).error();
    }
    HF_TRYV(Dispatch(std::move(reply).value()));
  }
  return Ok();
}

Status Connection::Dispatch(Reply reply) {
  if (reply.message.request_id() == 0) {
    if (!reply.message.has_fenced()) {
      return handler_->OnEvent(std::move(reply));
    }
    const std::uint64_t newer = reply.message.fenced().newer_epoch();
    const Error fenced(Errc::kFenced,
                       (newer == 0 ? "another start" : "incarnation " + std::to_string(newer)) +
                           std::string(" of this job exists: this one may do nothing any more"));
    handler_->OnFenced(fenced);
    Retire(fenced);
    return fenced;
  }
  std::shared_ptr<Pending> answered;
  {
    MutexLock lock(mutex_);
    const auto found = pending_.find(reply.message.request_id());
    if (found != pending_.end() && found->second->sent) {
      answered = std::move(found->second);
      pending_.erase(found);
    }
  }
  if (answered == nullptr) {
    ping_sent_ = ping_sent_ && !reply.message.has_ping();
    return Ok();  // to a request that was given up
  }
  if (!reply.message.has_error()) {
    answered->request.on_reply(std::move(reply));
    return Ok();
  }
  const Error error = DaemonError(reply.message.error());
  if (error.code == Errc::kFenced) {
    handler_->OnFenced(error);
    Retire(error);
  }
  answered->request.on_reply(error);
  return Ok();
}

Status Connection::Heartbeat(transport::UnixSocket* socket) {
  const auto silence = SystemClock().Now() - last_heard_;
  if (silence < options_.ping_after) {
    ping_sent_ = false;
    return Ok();
  }
  if (silence >= options_.lost_after) {
    return Error(
        Errc::kUnavailable,
        "holdfastd has said nothing for " + std::to_string(options_.lost_after.count()) + " ms");
  }
  if (ping_sent_) {
    return Ok();
  }
  ping_sent_ = true;
  proto::ClientMessage message;
  message.mutable_ping();
  std::uint64_t id = 0;
  {
    MutexLock lock(mutex_);
    id = next_id_++;
  }
  return SendOne(socket, id, std::move(message));
}

}  // namespace holdfast::client
