#include "client/connection.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "client/start_thread.h"
#include "common/failpoint.h"
#include "transport/messages.h"

namespace holdfast::client {
namespace {

// Places of the fork guard; from the socket's on they are those of one connection.
constexpr int kWatchedWake = 0;
constexpr int kWatchedSocket = 1;
constexpr int kWatchedArrived = 2;
static_assert(kWatchedArrived + transport::UnixSocket::kMaxArrived <= ForkGuard::kWatched);
// A daemon whose queue of connections is full: short, since nothing can interrupt this wait.
constexpr std::chrono::milliseconds kConnectWait{1'000};

}  // namespace

Connection::Connection(ConnectionOptions options, ConnectionHandler* handler, ForkGuard* guard)
    : options_(std::move(options)), handler_(handler), guard_(guard) {}

Connection::~Connection() {
  Stop();
}

Status Connection::Start() {
  {
    const ForkGuard::Section no_fork;
    wake_ = transport::OwnedFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    guard_->Watch(kWatchedWake, wake_.Get());
  }
  if (!wake_.Valid()) {
    return ErrnoError(errno, "eventfd");
  }
  HF_TRY(thread_, StartThread([this] { Run(); }));
  return Ok();
}

Status Connection::WaitConnected(MonotonicTime deadline) {
  MutexLock lock(mutex_);
  while (!connected_) {
    if (retired_.has_value()) {
      return *retired_;
    }
    if (last_error_.has_value() &&
        (last_error_->code == Errc::kVersionMismatch || last_error_->code == Errc::kPermission)) {
      return *last_error_;
    }
    if (!changed_.WaitUntil(lock, deadline) && !connected_) {
      return Error(Errc::kUnavailable,
                   last_error_.has_value()
                       ? last_error_->message
                       : "holdfastd at " + options_.socket_path + " does not answer");
    }
  }
  return Ok();
}

std::optional<Error> Connection::Refusal() {
  MutexLock lock(mutex_);
  return refusal_;
}

Result<std::uint64_t> Connection::Submit(Request request) {
  MutexLock lock(mutex_);
  if (retired_.has_value()) {
    return *retired_;
  }
  if (stopping_ || pending_.size() >= kMaxRequests) {
    return Error(Errc::kUnavailable, "too many requests wait for holdfastd, or the client closes");
  }
  const std::uint64_t id = next_id_++;
  pending_.emplace(id, std::make_shared<Pending>(Pending{std::move(request)}));
  Wake();
  return id;
}

void Connection::Cancel(std::uint64_t ticket) {
  std::shared_ptr<Pending> ended;
  {
    MutexLock lock(mutex_);
    const auto found = pending_.find(ticket);
    if (found == pending_.end()) {
      return;
    }
    ended = std::move(found->second);
    pending_.erase(found);
  }
  ended->request.on_reply(Error(Errc::kCancelled, "the request was given up"));
}

Result<Reply> Connection::Call(const proto::ClientMessage& message, MonotonicTime deadline) {
  struct Waiting {
    Mutex mutex;
    CondVar changed;
    std::optional<Result<Reply>> result HF_GUARDED_BY(mutex);
  };

  auto waiting = std::make_shared<Waiting>();
  Request request;
  request.make = [message] { return message; };
  request.on_reply = [waiting](Result<Reply> reply) {
    MutexLock lock(waiting->mutex);
    waiting->result.emplace(std::move(reply));
    waiting->changed.NotifyAll();
  };
  HF_TRY(const std::uint64_t ticket, Submit(std::move(request)));
  MutexLock lock(waiting->mutex);
  while (!waiting->result.has_value()) {
    if (!waiting->changed.WaitUntil(lock, deadline) && !waiting->result.has_value()) {
      lock.Unlock();
      Cancel(ticket);  // ends in on_reply, unless an answer was faster
      lock.Lock();
      const bool answered =
          waiting->result.has_value() &&
          (waiting->result->has_value() || waiting->result->error().code != Errc::kCancelled);
      if (!answered) {
        return Error(Errc::kTimeout, "holdfastd did not answer in time");
      }
    }
  }
  return std::move(*waiting->result);
}

void Connection::Reset() {
  MutexLock lock(mutex_);
  if (socket_ != nullptr) {
    socket_->Shutdown();
  }
}

void Connection::Retire(const Error& error) {
  {
    MutexLock lock(mutex_);
    if (retired_.has_value()) {
      return;
    }
    retired_ = error;
    if (socket_ != nullptr) {
      socket_->Shutdown();
    }
    changed_.NotifyAll();
    Wake();
  }
  EndAll(error);
}

void Connection::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    if (socket_ != nullptr) {
      socket_->Shutdown();
    }
    changed_.NotifyAll();
    Wake();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
  EndAll(Error(Errc::kCancelled, "the client is closed"));
  const ForkGuard::Section no_fork;
  guard_->Watch(kWatchedWake, -1);
  wake_.Reset();
}

void Connection::EndAll(const Error& error) {
  std::map<std::uint64_t, std::shared_ptr<Pending>> ended;
  {
    MutexLock lock(mutex_);
    ended.swap(pending_);
  }
  for (const auto& [id, pending] : ended) {
    pending->request.on_reply(error);
  }
}

void Connection::Wake() {
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then the thread is awake.
  [[maybe_unused]] const ssize_t written = ::write(wake_.Get(), &one, sizeof one);
}

bool Connection::Ended() {
  MutexLock lock(mutex_);
  return stopping_ || retired_.has_value();
}

Result<std::shared_ptr<transport::UnixSocket>> Connection::OpenSocket() {
  std::shared_ptr<transport::UnixSocket> socket;
  {
    const ForkGuard::Section no_fork;
    HF_TRY(auto created, transport::UnixSocket::Create());
    socket = std::move(created);
    guard_->Watch(kWatchedSocket, socket->NativeHandle());
  }
  MutexLock lock(mutex_);
  socket_ = socket;
  if (stopping_) {
    socket->Shutdown();
  }
  return socket;
}

void Connection::CloseSocket() {
  // The socket closes within the section: behind it a child would inherit what nobody watches.
  const ForkGuard::Section no_fork;
  std::shared_ptr<transport::UnixSocket> closed;
  for (int which = kWatchedSocket; which < ForkGuard::kWatched; ++which) {
    guard_->Watch(which, -1);
  }
  MutexLock lock(mutex_);
  closed.swap(socket_);
  // The last reference: Shutdown by others happens under the lock only.
}

// The kernel hands a descriptor over with the first bytes that it reads of its message, often with
// messages before that: until it is used a child must not inherit it unseen.
void Connection::WatchArrived(const transport::UnixSocket& socket) {
  const std::vector<int> arrived = socket.Arrived();
  for (std::size_t i = 0; i < transport::UnixSocket::kMaxArrived; ++i) {
    guard_->Watch(kWatchedArrived + static_cast<int>(i), i < arrived.size() ? arrived[i] : -1);
  }
}

void Connection::Run() {
  auto pause = options_.backoff_min;
  while (!Ended()) {
    const MonotonicTime began = SystemClock().Now();
    const Status ended = Serve();
    CloseSocket();
    bool was_connected = false;
    {
      MutexLock lock(mutex_);
      was_connected = std::exchange(connected_, false);
      if (ended.has_error()) {
        const Errc code = ended.error().code;
        const bool silence = code == Errc::kUnavailable || code == Errc::kTimeout;
        last_error_ = ended.error();
        refusal_ = silence && !refused_ ? std::nullopt : last_error_;
      }
      for (const auto& [id, pending] : pending_) {
        pending->sent = false;
      }
      changed_.NotifyAll();
    }
    if (was_connected) {
      handler_->OnLost();
      // One that breaks the moment it stands must not be repeated a hundred times a second.
      pause = SystemClock().Now() - began > options_.backoff_max ? options_.backoff_min : pause;
    }
    const MonotonicTime until = SystemClock().Now() + pause;
    pause = std::min(2 * pause, options_.backoff_max);
    MutexLock lock(mutex_);
    while (!stopping_ && !retired_.has_value() && changed_.WaitUntil(lock, until)) {
    }
  }
}

Status Connection::Serve() {
  refused_ = false;
  HF_TRY(const auto socket, OpenSocket());
  HF_TRYV(socket->ConnectTo(options_.socket_path, std::min(options_.reply_timeout, kConnectWait)));
  HF_TRYV(Handshake(socket.get()));
  HF_TRYV(Resume(socket.get()));
  {
    MutexLock lock(mutex_);
    connected_ = true;
    last_error_.reset();
    refusal_.reset();
  }
  handler_->OnConnected();
  {
    MutexLock lock(mutex_);
    changed_.NotifyAll();
  }
  while (!Ended()) {
    HF_TRYV(Exchange(socket.get()));
  }
  return Ok();
}

}  // namespace holdfast::client
