// Accepts clients and brings their requests to the core, in order and checked; brings the core's
// answers back.
//
// Threads:   the io thread only.
// Ownership: owns the listener, the sessions and their tasks; borrows core, gate and watch, which
//            outlive it.
// Errors:    a client that may not connect, or is one too many, is told why and closed.
// Lifecycle: construct -> Start -> Send/Close at any time -> StopAccepting -> Stop -> Join ->
// destroy.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/result.h"
#include "common/task_group.h"
#include "common/units.h"
#include "daemon/core_gate.h"
#include "daemon/layout_store.h"
#include "daemon/listener.h"
#include "daemon/process_watch.h"
#include "daemon/request_gate.h"
#include "daemon/session.h"
#include "proto/client.pb.h"

namespace holdfast::daemon {

struct ServerRules {
  std::uint32_t own_uid = 0;
  std::set<std::uint32_t> allowed_uids;  // beside the own one
  bool all_uids = false;                 // the daemon is root and the operator named none
  std::size_t max_sessions = 256;
  std::size_t max_requests = 64;  // of one session, without an answer
  ByteCount request_memory_bytes = 256 * kMiB;
  SessionLimits session;
};

class SessionServer {
 public:
  // What the server asks of the daemon around it.
  struct Hooks {
    // Answers a status request without the core, or gives nothing: used while the catalog cannot be
    // written, when no answer of the core can leave.
    std::function<std::unique_ptr<proto::StatusReply>(std::uint32_t uid)> status_now;
    // True: it is a question about other nodes and will be answered by Send.  May be empty.
    std::function<bool(SessionId, std::uint32_t uid, const proto::ClientMessage&)> ask_nodes;
    // Completes a message of the core: layouts, facts of the process.
    std::function<void(proto::ServerMessage*)> complete;
    // For counting.
    std::function<void(SessionId, const proto::ClientMessage&)> on_request;
    std::function<void(SessionId, const proto::ServerMessage&)> on_reply;
    std::function<void(SessionId)> on_ended;
  };

  SessionServer(const boost::asio::any_io_executor& executor,
                ServerRules rules,
                proto::HelloReply hello,
                Hooks hooks,
                CoreGate* core,
                RequestGate* gate,
                LayoutStore* layouts,
                ProcessWatch* watch);

  SessionServer(const SessionServer&) = delete;
  SessionServer& operator=(const SessionServer&) = delete;

  void Start(Listener listener);

  // Dropped silently if the session is gone.
  void Send(SessionId session, Outgoing outgoing);

  // After what was sent before.
  void Close(SessionId session);

  // Looks at limits that no single session can see; at least once a second.
  void OnTick() { LimitRequestMemory(); }

  [[nodiscard]] std::size_t sessions() const { return sessions_.size(); }

  void StopAccepting();
  void Stop();
  [[nodiscard]] boost::asio::awaitable<bool> Join(std::chrono::milliseconds limit);

 private:
  [[nodiscard]] boost::asio::awaitable<void> Accept();
  [[nodiscard]] boost::asio::awaitable<void> Serve(std::shared_ptr<Session> session);
  [[nodiscard]] boost::asio::awaitable<void> Handle(std::shared_ptr<Session> session,
                                                    proto::ClientMessage message);
  // Whether it counts with the slots of its rank, and is never refused.
  [[nodiscard]] bool IsBoundBySlots(const Session& session,
                                    const proto::ClientMessage& message) const;
  // I9: what waits for the catalog, or for a slow tier, is bounded whatever clients ask.
  [[nodiscard]] Status CheckWaiting(const Session& session) const;
  // Cuts off the session with the largest request while those of all are too large.
  void LimitRequestMemory();
  void Admit(transport::SessionSocket::Socket socket);
  [[nodiscard]] Status CheckPeer(const transport::PeerIdentity& peer) const;
  // True: answered here.
  [[nodiscard]] bool AnswerHere(Session& session, const proto::ClientMessage& message);
  // A registration is watched from before the core hears of it until its answer says otherwise: its
  // process may die, and its session end, while the record is being synced.
  void WatchRegistration(const Session& session, const proto::ClientMessage& message);
  void SettleRegistration(SessionId session, const proto::ServerMessage& answer);
  void WatchProcess(const Session& session, std::uint64_t token);
  [[nodiscard]] Status StartWatch(const Session& session, std::uint64_t token);

  const ServerRules rules_;
  const proto::HelloReply hello_;
  const Hooks hooks_;
  CoreGate* const core_;
  RequestGate* const gate_;
  LayoutStore* const layouts_;
  ProcessWatch* const watch_;
  std::optional<Listener> listener_;
  std::map<SessionId, std::shared_ptr<Session>> sessions_;
  // Which tokens each session's process answers for: a token is watched once for a session.
  std::map<SessionId, std::set<std::uint64_t>> tokens_;
  std::map<SessionId, std::uint64_t> fresh_tokens_;  // what the core calls a new session
  // Tokens watched for a registration that is not answered yet.
  std::map<std::pair<SessionId, RequestId>, std::uint64_t> registering_;
  SessionId next_session_ = 1;
  TaskGroup tasks_;
};

}  // namespace holdfast::daemon
