#include "transport/peer_server.h"

#include <algorithm>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fcntl.h>

#include "common/log.h"
#include "common/with_timeout.h"

namespace holdfast::transport {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr int kBacklog = 256;

// After an accept that failed for want of descriptors or memory: some will come back.
constexpr std::chrono::milliseconds kAcceptRetry{200};

Error ListenError(const boost::system::error_code& error, const std::string& where) {
  if (error == asio::error::address_in_use) {
    return Error(Errc::kAlreadyExists,
                 "somebody listens on " + where + " already: another holdfastd, or another port",
                 error.value());
  }
  if (error == boost::system::errc::address_not_available) {
    return Error(Errc::kInvalidArgument,
                 where + " is no address of this machine (`ip address` lists them)",
                 error.value());
  }
  return ErrnoError(error.value(), "listen on " + where);
}

}  // namespace

PeerServer::PeerServer(const asio::any_io_executor& executor,
                       PeerContext* context,
                       PeerServerLimits limits)
    : context_(context),
      limits_(limits),
      acceptor_(executor),
      tasks_(executor, "peers", limits.max_connections + limits.max_strangers + 1) {}

Status PeerServer::Listen(const std::string& address, std::uint16_t port, bool allow_insecure) {
  PeerSecurity security;
  security.listen_address = address;
  security.tls = context_->tls() != nullptr;
  security.allow_insecure = allow_insecure;
  HF_TRYV(CheckPeerSecurity(security));
  HF_TRYV(context_->Check());
  boost::system::error_code error;
  const tcp::endpoint endpoint(asio::ip::make_address(address, error), port);
  const std::string where = EndpointText(endpoint);
  (void)acceptor_.open(endpoint.protocol(), error);
  if (!error) {
    ::fcntl(acceptor_.native_handle(), F_SETFD, FD_CLOEXEC);
    (void)acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    (void)acceptor_.bind(endpoint, error);
  }
  if (!error) {
    (void)acceptor_.listen(kBacklog, error);
  }
  if (error) {
    boost::system::error_code ignored;
    (void)acceptor_.close(ignored);
    return ListenError(error, where);
  }
  address_ = EndpointText(acceptor_.local_endpoint(error));
  LogInfo("peer.listen", address_ + (security.tls ? " with TLS" : " without TLS"));
  return Ok();
}

void PeerServer::Start() {
  if (!tasks_.Spawn(Accept())) {
    LogError("peer.no_accept", "the accept loop could not be started");
  }
}

asio::awaitable<void> PeerServer::Accept() {
  while (!co_await Cancelled()) {
    auto [error, socket] = co_await acceptor_.async_accept(asio::as_tuple(asio::use_awaitable));
    if (!error) {
      Admit(std::move(socket));
      continue;
    }
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) {
      co_return;
    }
    LogWarning("peer.accept_failed", error.message());
    const Status slept = co_await SleepFor(kAcceptRetry);
    if (!slept.has_value()) {
      co_return;
    }
  }
}

void PeerServer::Admit(tcp::socket socket) {
  boost::system::error_code ignored;
  const std::string from = socket.remote_endpoint(ignored).address().to_string();
  if (strangers_ >= limits_.max_strangers || !tasks_.Spawn(Serve(std::move(socket)))) {
    context_->refusals().Add(
        Refusal::kLimit,
        from,
        Error(Errc::kUnavailable,
              std::to_string(strangers_) + " connections have not said who they are yet"));
    return;
  }
  ++strangers_;
}

Status PeerServer::MakeRoom(const PeerFacts& facts) {
  std::size_t same = 0;
  std::shared_ptr<PeerChannel> oldest;
  for (const auto& channel : channels_) {
    if (channel->facts()->node_uuid == facts.node_uuid && !channel->ended()) {
      ++same;
      oldest = oldest == nullptr ? channel : oldest;
    }
  }
  if (same >= limits_.max_of_one_node) {
    oldest->Close(Error(Errc::kUnavailable, "newer connections of that node took its place"));
  }
  if (channels_.size() >= limits_.max_connections) {
    return Error(Errc::kUnavailable,
                 "this node serves " + std::to_string(limits_.max_connections) +
                     " connections of peers already");
  }
  return Ok();
}

asio::awaitable<void> PeerServer::Serve(tcp::socket socket) {
  auto stream = context_->tls() == nullptr
                    ? MakePlainStream(std::move(socket))
                    : MakeTlsStream(std::move(socket), context_->tls(), Side::kAccepts);
  const std::string remote = stream->Remote();
  auto opened = co_await PeerChannel::Open(std::move(stream), context_, std::string());
  --strangers_;
  if (!opened.has_value()) {
    LogDebug("peer.not_opened", remote + ": " + opened.error().ToString());
    co_return;
  }
  const std::shared_ptr<PeerChannel> channel = std::move(opened).value();
  if (const Status room = MakeRoom(*channel->facts()); !room.has_value()) {
    context_->refusals().Add(Refusal::kLimit, UuidText(channel->facts()->node_uuid), room.error());
    channel->Close(room.error());
    co_return;
  }
  const auto at = channels_.insert(channels_.end(), channel);
  LogInfo("peer.connected", UuidText(channel->facts()->node_uuid) + " from " + remote);
  if (context_->hooks().on_up != nullptr) {
    context_->hooks().on_up(channel);
  }
  const Error why = co_await channel->Run();
  channels_.erase(at);
  LogInfo("peer.disconnected", UuidText(channel->facts()->node_uuid) + ": " + why.message);
  if (context_->hooks().on_down != nullptr) {
    context_->hooks().on_down(channel, why);
  }
}

void PeerServer::Stop() {
  boost::system::error_code ignored;
  (void)acceptor_.close(ignored);
  tasks_.Stop();
}

asio::awaitable<bool> PeerServer::Join(std::chrono::milliseconds limit) {
  return tasks_.Join(limit);
}

}  // namespace holdfast::transport
