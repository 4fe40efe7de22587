#include "daemon/session_server.h"

#include <cerrno>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fcntl.h>

#include "common/failpoint.h"
#include "common/log.h"
#include "common/random.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// After an accept that failed for want of descriptors or memory: some will come back.
constexpr std::chrono::milliseconds kAcceptRetry{200};

// "seal 12": for following a conversation at log level debug.
template <class Message>
std::string NameOf(const Message& message) {
  const auto* field = message.GetDescriptor()->FindFieldByNumber(message.body_case());
  return (field == nullptr ? std::string("nothing") : field->name()) + " " +
         std::to_string(message.request_id());
}

}  // namespace

SessionServer::SessionServer(const asio::any_io_executor& executor,
                             ServerRules rules,
                             proto::HelloReply hello,
                             Hooks hooks,
                             CoreGate* core,
                             RequestGate* gate,
                             LayoutStore* layouts,
                             ProcessWatch* watch)
    : rules_(std::move(rules)),
      hello_(std::move(hello)),
      hooks_(std::move(hooks)),
      core_(core),
      gate_(gate),
      layouts_(layouts),
      watch_(watch),
      // A reader and a writer each, the accept loop, and those refused that are being told so.
      tasks_(executor, "sessions", 4 * rules_.max_sessions + 1) {}

void SessionServer::Start(Listener listener) {
  listener_.emplace(std::move(listener));
  if (!tasks_.Spawn(Accept())) {
    LogError("session.no_accept", "the accept loop could not be started");
  }
}

asio::awaitable<void> SessionServer::Accept() {
  while (listener_.has_value() && !co_await Cancelled()) {
    auto [error, socket] =
        co_await listener_->acceptor().async_accept(asio::as_tuple(asio::use_awaitable));
    if (!error) {
      Admit(std::move(socket));
      continue;
    }
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) {
      co_return;
    }
    LogWarning("session.accept_failed", error.message());
    const Status slept = co_await SleepFor(kAcceptRetry);
    if (!slept.has_value()) {
      co_return;
    }
  }
}

Status SessionServer::CheckPeer(const transport::PeerIdentity& peer) const {
  const auto uid = static_cast<std::uint32_t>(peer.uid);
  if (uid != rules_.own_uid && uid != 0 && !rules_.all_uids && !rules_.allowed_uids.contains(uid)) {
    return Error(Errc::kPermission,
                 "uid " + std::to_string(uid) +
                     " may not use this daemon; the operator allows users by "
                     "clients.allowed_uids of its configuration");
  }
  if (sessions_.size() >= rules_.max_sessions) {
    return Error(Errc::kUnavailable,
                 "the daemon serves " + std::to_string(rules_.max_sessions) +
                     " connections already (clients.max_sessions)");
  }
  return Ok();
}

void SessionServer::Admit(transport::SessionSocket::Socket socket) {
  auto peer = transport::ReadPeerIdentity(socket.native_handle());
  if (!peer.has_value()) {
    LogWarning("session.refused", peer.error().ToString());
    return;
  }
  const Status allowed = CheckPeer(peer.value());
  const SessionId id = next_session_++;
  auto session =
      std::make_shared<Session>(id, std::move(socket), std::move(peer).value(), rules_.session);
  if (!allowed.has_value()) {
    LogWarning("session.refused", allowed.error().message);
    session->SendError(0, allowed.error());
    session->CloseAfterQueue();
    (void)tasks_.Spawn(session->Write());
    return;
  }
  HOLDFAST_FAILPOINT("session.accepted");
  sessions_[id] = session;
  if (!tasks_.Spawn(Serve(session)) || !tasks_.Spawn(session->Write())) {
    session->Abort("too many connections are ending");
    sessions_.erase(id);
  }
}

asio::awaitable<void> SessionServer::Serve(std::shared_ptr<Session> session) {
  auto connected = [this, session] {
    ClientIdentity identity;
    identity.uid = static_cast<std::uint32_t>(session->peer().uid);
    identity.sees_all = identity.uid == rules_.own_uid;
    identity.pid = session->peer().pid;
    identity.process_start = session->peer().start_ticks;
    identity.session_random = RandomToken();
    identity.epoch_random = RandomToken();
    fresh_tokens_[session->id()] = identity.session_random;
    (*core_)->OnConnected(session->id(), identity);
    LogDebug("session.connected",
             session->program() + " pid " + std::to_string(identity.pid) + " uid " +
                 std::to_string(identity.uid));
  };
  auto handle = [this](std::shared_ptr<Session> from, proto::ClientMessage message) {
    return Handle(std::move(from), std::move(message));
  };
  const bool was_connected = co_await session->Read(hello_, connected, handle);
  sessions_.erase(session->id());
  tokens_.erase(session->id());
  fresh_tokens_.erase(session->id());
  layouts_->OnSessionEnded(session->id());
  hooks_.on_ended(session->id());
  if (was_connected) {
    (*core_)->OnDisconnected(session->id());
  }
}

bool SessionServer::AnswerHere(Session& session, const proto::ClientMessage& message) {
  if (message.has_hello()) {
    session.SendError(message.request_id(),
                      Error(Errc::kInvalidArgument, "hello is said once, at the beginning"));
    return true;
  }
  Outgoing reply;
  reply.message.set_request_id(message.request_id());
  if (message.has_ping()) {
    reply.message.mutable_ping();
    session.Send(std::move(reply));
    return true;
  }
  if (message.has_status()) {
    const auto uid = static_cast<std::uint32_t>(session.peer().uid);
    const auto status = hooks_.status_now(uid == rules_.own_uid ? 0 : uid);
    if (status != nullptr) {
      reply.message.mutable_status()->Swap(status.get());
      hooks_.complete(&reply.message);
      session.Send(std::move(reply));
      return true;
    }
  }
  return false;
}

asio::awaitable<void> SessionServer::Handle(std::shared_ptr<Session> session,
                                            proto::ClientMessage message) {
  if (AnswerHere(*session, message)) {
    co_return;
  }
  if (IsBoundBySlots(*session, message)) {
    if (!session->CountWithSlots(message.request_id())) {
      session->Abort("it sends snapshots without waiting for any answer");
      co_return;
    }
  } else if (const Status room = CheckWaiting(*session); !room.has_value()) {
    session->SendError(message.request_id(), room.error());
    co_return;
  }
  hooks_.on_request(session->id(), message);
  LogDebug("session.request", std::to_string(session->id()) + " " + NameOf(message));
  if (message.has_register_() && !watch_->HasRoom()) {
    session->SendError(message.request_id(),
                       Error(Errc::kUnavailable, "too many trainers are watched on this node"));
    co_return;
  }
  const auto uid = static_cast<std::uint32_t>(session->peer().uid);
  if (hooks_.ask_nodes != nullptr && hooks_.ask_nodes(session->id(), uid, message)) {
    co_return;
  }
  session->SetCheckedBytes(message.ByteSizeLong());
  LimitRequestMemory();
  const auto facts = co_await gate_->Admit(session->id(), uid, &message);
  session->SetCheckedBytes(0);
  if (session->ended() || !sessions_.contains(session->id())) {
    co_return;
  }
  if (!facts.has_value()) {
    session->SendError(message.request_id(), facts.error());
    co_return;
  }
  WatchRegistration(*session, message);
  const LayoutFacts* layout = facts.value().has_value() ? &*facts.value() : nullptr;
  (*core_)->OnRequest(session->id(), message, layout);
}

Status SessionServer::StartWatch(const Session& session, std::uint64_t token) {
  transport::OwnedFd pidfd(::fcntl(session.peer().pidfd.Get(), F_DUPFD_CLOEXEC, 0));
  if (!pidfd.Valid()) {
    return ErrnoError(errno, "keep a trainer's pidfd");
  }
  return watch_->Watch(token, std::move(pidfd));
}

void SessionServer::WatchRegistration(const Session& session, const proto::ClientMessage& message) {
  if (!message.has_register_()) {
    return;
  }
  const std::uint64_t resumed = message.register_().session_token();
  const std::uint64_t token = resumed != 0 ? resumed : fresh_tokens_[session.id()];
  // A token that is watched already has its process; the answer says whether this one is it.
  if (!watch_->IsWatched(token) && StartWatch(session, token).has_value()) {
    registering_[{session.id(), message.request_id()}] = token;
  }
}

void SessionServer::SettleRegistration(SessionId session, const proto::ServerMessage& answer) {
  const auto found = registering_.find({session, answer.request_id()});
  if (found == registering_.end()) {
    return;
  }
  if (!answer.has_register_()) {
    watch_->Forget(found->second);
  }
  registering_.erase(found);
}

void SessionServer::WatchProcess(const Session& session, std::uint64_t token) {
  if (!tokens_[session.id()].insert(token).second) {
    return;
  }
  const Status watched = StartWatch(session, token);
  if (!watched.has_value()) {
    // Its slots would stay taken after its death until the orphan limit: said loudly.
    LogError("session.not_watched",
             "the death of pid " + std::to_string(session.peer().pid) +
                 " will not be noticed: " + watched.error().ToString());
  }
}

void SessionServer::Send(SessionId session, Outgoing outgoing) {
  SettleRegistration(session, outgoing.message);
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) {
    return;
  }
  if (outgoing.message.has_register_()) {
    WatchProcess(*found->second, outgoing.message.register_().session_token());
  }
  hooks_.complete(&outgoing.message);
  hooks_.on_reply(session, outgoing.message);
  LogDebug("session.reply",
           std::to_string(session) + " " + NameOf(outgoing.message) +
               (outgoing.message.has_error() ? ": " + outgoing.message.error().message() : ""));
  found->second->Send(std::move(outgoing));
}

void SessionServer::Close(SessionId session) {
  const auto found = sessions_.find(session);
  if (found != sessions_.end()) {
    found->second->CloseAfterQueue();
  }
}

// A refusal of these would leave daemon and client of different minds about a slot (L).  Before its
// registration is answered a session has no slots, so that connecting anew does not help a flood.
bool SessionServer::IsBoundBySlots(const Session& session,
                                   const proto::ClientMessage& message) const {
  const bool of_a_slot = message.has_begin() || message.has_seal() || message.has_torn() ||
                         message.has_copies_done() || message.has_missed() ||
                         message.has_refuse_static();
  return of_a_slot && tokens_.contains(session.id());
}

Status SessionServer::CheckWaiting(const Session& session) const {
  if (session.waiting_requests() > rules_.max_requests) {
    return Error(Errc::kUnavailable,
                 std::to_string(rules_.max_requests) +
                     " requests of this connection wait for their answers already "
                     "(clients.max_requests)");
  }
  // What sessions asked that have ended meanwhile waits too.
  if (core_->view().waiting_actions() >= rules_.max_sessions * rules_.max_requests) {
    return Error(Errc::kUnavailable,
                 "the daemon takes no requests until its catalog can be written again");
  }
  return Ok();
}

void SessionServer::LimitRequestMemory() {
  ByteCount held = 0;
  std::shared_ptr<Session> largest;
  for (const auto& [id, session] : sessions_) {
    if (session->ended()) {
      continue;
    }
    held += session->RequestBytes();
    if (largest == nullptr || session->RequestBytes() > largest->RequestBytes()) {
      largest = session;
    }
  }
  if (held > rules_.request_memory_bytes) {
    largest->Abort("requests of all clients that are received or checked hold " +
                   FormatBytes(held) + " (clients.request_memory), most of it this one's");
  }
}

void SessionServer::StopAccepting() {
  if (listener_.has_value()) {
    listener_->Close();
  }
}

void SessionServer::Stop() {
  StopAccepting();
  for (const auto& [id, session] : sessions_) {
    session->CloseAfterQueue();
  }
  tasks_.Stop();
}

asio::awaitable<bool> SessionServer::Join(std::chrono::milliseconds limit) {
  const bool joined = co_await tasks_.Join(limit);
  if (joined) {
    listener_.reset();
  }
  co_return joined;
}

}  // namespace holdfast::daemon
