#include "transport/peer_client.h"

#include <algorithm>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"
#include "common/random.h"
#include "common/with_timeout.h"

namespace holdfast::transport {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kFirstPause{10};
constexpr std::chrono::milliseconds kLongestPause{1'000};
constexpr std::chrono::milliseconds kConnectTimeout{5'000};
// A connection that lived so long was a good one: the pauses start anew.
constexpr std::chrono::milliseconds kGoodLife{1'000};

// 75 % to 125 %.
std::chrono::milliseconds WithChance(std::chrono::milliseconds pause) {
  const auto half = static_cast<std::uint64_t>(std::max<std::int64_t>(pause.count() / 2, 1));
  return pause * 3 / 4 + std::chrono::milliseconds(RandomToken() % half);
}

Error ConnectError(const boost::system::error_code& error, const std::string& to) {
  if (error == asio::error::operation_aborted) {
    return Error(Errc::kCancelled, "connecting to " + to + " was cancelled");
  }
  if (error == asio::error::connection_refused) {
    return Error(Errc::kUnavailable, "no holdfastd listens at " + to, error.value());
  }
  return Error(Errc::kUnavailable, "connect to " + to + ": " + error.message(), error.value());
}

asio::awaitable<Status> ConnectSocket(tcp::socket* socket, tcp::endpoint to) {
  const auto [error] = co_await socket->async_connect(to, asio::as_tuple(asio::use_awaitable));
  if (error) {
    co_return ConnectError(error, EndpointText(to));
  }
  co_return Ok();
}

Status BindTo(tcp::socket* socket, const std::string& address, const tcp& protocol) {
  boost::system::error_code error;
  (void)socket->open(protocol, error);
  if (!error && !address.empty()) {
    const auto ip = asio::ip::make_address(address, error);
    if (!error) {
      (void)socket->bind(tcp::endpoint(ip, 0), error);
    }
  }
  if (error) {
    return Error(
        Errc::kUnavailable,
        "connect from " + (address.empty() ? "any address" : address) + ": " + error.message(),
        error.value());
  }
  return Ok();
}

}  // namespace

PeerClient::PeerClient(const asio::any_io_executor& executor,
                       PeerContext* context,
                       PeerAddress address)
    : executor_(executor),
      context_(context),
      address_(std::move(address)),
      last_error_(Errc::kUnavailable, "not connected yet"),
      tasks_(executor, "peer client", 1) {}

Status PeerClient::Start() {
  HF_TRYV(context_->Check());
  if (!address_.node_uuid.empty() && address_.node_uuid.size() != kUuidBytes) {
    return Error(Errc::kInvalidArgument, "a peer's node uuid has 16 bytes");
  }
  for (const std::string& text : address_.endpoints) {
    HF_TRY(const tcp::endpoint endpoint, ParseEndpoint(text));
    endpoints_.push_back(endpoint);
  }
  if (endpoints_.empty()) {
    return Error(Errc::kInvalidArgument, "a peer without an address");
  }
  boost::system::error_code error;
  if (!address_.bind.empty()) {
    (void)asio::ip::make_address(address_.bind, error);
  }
  if (error) {
    return Error(Errc::kInvalidArgument, "\"" + address_.bind + "\" is no IP address");
  }
  if (!tasks_.Spawn(Run())) {
    return Error(Errc::kCancelled, "the connection was stopped before it began");
  }
  return Ok();
}

asio::awaitable<Result<std::shared_ptr<PeerChannel>>> PeerClient::Connect(tcp::endpoint to) {
  tcp::socket socket(executor_);
  HF_CO_TRYV(BindTo(&socket, address_.bind, to.protocol()));
  HF_CO_TRYV(co_await WithTimeout(kConnectTimeout, ConnectSocket(&socket, to)));
  auto stream = context_->tls() == nullptr
                    ? MakePlainStream(std::move(socket))
                    : MakeTlsStream(std::move(socket), context_->tls(), Side::kConnects);
  co_return co_await PeerChannel::Open(std::move(stream), context_, address_.node_uuid);
}

void PeerClient::NoteFailure(const Error& error) {
  last_error_ = error;
  // A peer that is away is tried every second for days: one line for each reason.
  const bool news = error.message != last_logged_;
  last_logged_ = error.message;
  Log(news ? LogLevel::kWarning : LogLevel::kDebug, "peer.not_connected", error.ToString());
}

asio::awaitable<void> PeerClient::Run() {
  std::chrono::milliseconds pause = kFirstPause;
  for (std::size_t turn = 0; !co_await Cancelled(); ++turn) {
    auto opened = co_await Connect(endpoints_[turn % endpoints_.size()]);
    if (opened.has_value()) {
      const auto begin = Clock::now();
      co_await Use(std::move(opened).value());
      if (Clock::now() - begin >= kGoodLife) {
        pause = kFirstPause;
      }
    } else {
      NoteFailure(opened.error());
    }
    const Status slept = co_await SleepFor(WithChance(pause));
    if (!slept.has_value()) {
      break;
    }
    // All addresses are tried before the pauses grow.
    if ((turn + 1) % endpoints_.size() == 0) {
      pause = std::min(2 * pause, kLongestPause);
    }
  }
}

asio::awaitable<void> PeerClient::Use(std::shared_ptr<PeerChannel> channel) {
  channel_ = channel;
  ++connects_;
  last_logged_.clear();
  LogInfo("peer.connected", UuidText(channel->facts()->node_uuid) + " by " + InUse());
  if (context_->hooks().on_up != nullptr) {
    context_->hooks().on_up(channel);
  }
  const Error why = co_await channel->Run();
  channel_.reset();
  NoteFailure(why);
  if (context_->hooks().on_down != nullptr) {
    context_->hooks().on_down(channel, why);
  }
}

asio::awaitable<Result<proto::PeerReply>> PeerClient::Call(proto::PeerRequest request,
                                                           std::chrono::milliseconds limit) {
  const std::shared_ptr<PeerChannel> channel = channel_;
  if (channel == nullptr) {
    co_return Error(Errc::kUnavailable, last_error_.message);
  }
  co_return co_await channel->Call(std::move(request), limit);
}

asio::awaitable<Status> PeerClient::WaitConnected(std::chrono::milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  while (channel_ == nullptr) {
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled while a peer was not connected");
    }
    if (Clock::now() >= deadline) {
      co_return Error(Errc::kTimeout, last_error_.message);
    }
    asio::steady_timer poll(executor_, std::min(deadline, Clock::now() + kFirstPause));
    (void)co_await poll.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  co_return Ok();
}

std::string PeerClient::InUse() const {
  return channel_ == nullptr ? std::string()
                             : channel_->facts()->local + " -> " + channel_->facts()->remote;
}

void PeerClient::Stop() {
  tasks_.Stop();
}

asio::awaitable<bool> PeerClient::Join(std::chrono::milliseconds limit) {
  return tasks_.Join(limit);
}

}  // namespace holdfast::transport
