// How operators' questions about all nodes pass through this one, and how other nodes' are
// answered.

#include <optional>
#include <utility>

#include <unistd.h>

#include "daemon/daemon_parts.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;

Outgoing AnswerTo(RequestId request) {
  Outgoing outgoing;
  outgoing.message.set_request_id(request);
  return outgoing;
}

void SetError(const Error& error, proto::ServerMessage* message) {
  message->mutable_error()->set_code(static_cast<std::uint32_t>(error.code));
  message->mutable_error()->set_message(error.message);
}

}  // namespace

NodeCall Daemon::Parts::CallPeers() {
  return [this](std::string node, proto::PeerRequest request, std::chrono::milliseconds limit) {
    return peers_->Call(std::move(node), std::move(request), limit);
  };
}

ClusterView::Hooks Daemon::Parts::ViewHooks() {
  ClusterView::Hooks hooks;
  hooks.nodes = [this] { return ClusterNodes(); };
  hooks.own = [this](const std::string& job_name, const proto::AskingUser& user) {
    return OwnView(job_name, user);
  };
  if (!config_.peer_listen.empty()) {
    hooks.call = CallPeers();
  }
  return hooks;
}

ClusterScrub::Hooks Daemon::Parts::ScrubHooks() {
  ClusterScrub::Hooks hooks;
  hooks.own = [this](proto::ScrubRequest request) { return scrubber_.Scrub(std::move(request)); };
  if (!config_.peer_listen.empty()) {
    hooks.call = CallPeers();
  }
  return hooks;
}

// The nodes of this node's jobs, and whoever is connected: of another job of theirs, perhaps.
NodeHints Daemon::Parts::ClusterNodes() const {
  NodeHints nodes = core_.KnownPeers();
  if (peers_ == nullptr) {
    return nodes;
  }
  for (const proto::PeerStatus& peer : peers_->links().Describe()) {
    std::vector<std::string>& hints = nodes[peer.node_uuid()];
    if (hints.empty()) {
      hints.assign(peer.endpoints().begin(), peer.endpoints().end());
    }
  }
  return nodes;
}

proto::NodeView Daemon::Parts::OwnView(const std::string& job_name,
                                       const proto::AskingUser& user) const {
  proto::NodeView view = core_.ViewNow(
      job_name, user.sees_all() ? std::nullopt : std::optional<std::uint32_t>(user.uid()));
  filler_.CompleteStatus(view.mutable_status());
  return view;
}

bool Daemon::Parts::AskNodes(SessionId session,
                             std::uint32_t uid,
                             const proto::ClientMessage& message) {
  proto::AskingUser user;
  user.set_sees_all(uid == ::geteuid());
  user.set_uid(uid);
  const RequestId request = message.request_id();
  if (message.has_ask_nodes()) {
    auto done = [this, session, request](Result<proto::AskNodesReply> reply) {
      Outgoing outgoing = AnswerTo(request);
      if (reply.has_value()) {
        *outgoing.message.mutable_ask_nodes() = std::move(reply).value();
      } else {
        SetError(reply.error(), &outgoing.message);
      }
      server_.Send(session, std::move(outgoing));
    };
    cluster_view_.Ask(message.ask_nodes(), std::move(user), std::move(done));
    return true;
  }
  if (message.has_scrub_nodes()) {
    auto done = [this, session, request](Result<proto::ScrubNodesReply> reply) {
      Outgoing outgoing = AnswerTo(request);
      if (reply.has_value()) {
        *outgoing.message.mutable_scrub_nodes() = std::move(reply).value();
      } else {
        SetError(reply.error(), &outgoing.message);
      }
      server_.Send(session, std::move(outgoing));
    };
    cluster_scrub_.Ask(message.scrub_nodes(), std::move(user), std::move(done));
    return true;
  }
  return false;
}

asio::awaitable<Result<proto::PeerReply>> Daemon::Parts::AnswerPeerRequest(
    proto::PeerRequest request) {
  proto::PeerReply reply;
  if (request.has_view()) {
    *reply.mutable_view()->mutable_view() =
        OwnView(request.view().job_name(), request.view().user());
    co_return reply;
  }
  if (request.has_scrub()) {
    HF_CO_TRY(*reply.mutable_scrub(), co_await scrubber_.Scrub(request.scrub()));
    co_return reply;
  }
  if (request.has_decode_share()) {
    HF_CO_TRYV(co_await shares_.Begin(std::move(*request.mutable_decode_share())));
    reply.mutable_decode_share();
    co_return reply;
  }
  co_return co_await stored_.Answer(std::move(request));
}

}  // namespace holdfast::daemon
