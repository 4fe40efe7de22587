#include "daemon/peers/peer_network.h"

#include <utility>

#include "common/failpoint.h"
#include "common/log.h"
#include "common/with_timeout.h"
#include "daemon/peer_messages.h"
#include "transport/peer_messages.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// A message is answered when what it changed is synced; the core repeats it sooner than that where
// the answer was lost.
constexpr std::chrono::milliseconds kAnswerLimit{10'000};
// Nodes times jobs that messages go to at one time.
constexpr std::size_t kMaxLanes = 65'536;
constexpr std::chrono::seconds kAnswerPoll{1};
// A node that answers at all is connected by then.
constexpr std::chrono::milliseconds kConnectWait{5'000};
constexpr std::chrono::milliseconds kConnectPoll{20};
constexpr std::chrono::milliseconds kShortest{1};
// Longer than the pauses between two requests of one piece of work.
constexpr std::chrono::seconds kHeldFor{30};
// Of a certificate's end, where the daemon starts.
constexpr std::chrono::hours kWarnBefore{30 * 24};

transport::PeerLimits LimitsOf(const PeerOptions& options) {
  transport::PeerLimits limits;
  limits.dead_after = options.dead_after;
  // Four tries before silence means death.
  limits.ping_after = std::max(options.dead_after / 4, std::chrono::milliseconds(100));
  return limits;
}

}  // namespace

std::string HostOf(const std::string& address) {
  const std::string host = address.substr(0, address.rfind(':'));
  if (host == "0.0.0.0" || host == "[::]") {
    return {};
  }
  return host.starts_with('[') ? host.substr(1, host.size() - 2) : host;
}

namespace {

// What exists goes on after the end of a certificate, and nothing that is lost comes back.
void WarnOfTheEnd(const transport::TlsContext& tls) {
  const auto left = std::chrono::duration_cast<std::chrono::hours>(
      tls.not_after() - std::chrono::system_clock::now());
  if (left < kWarnBefore) {
    LogWarning("peer.certificate",
               "this node's certificate, or its authority, ends in " +
                   std::to_string(left.count() / 24) +
                   " days, and then no peer takes it: issue a new one, with a new authority where "
                   "that ends, and start the daemon again");
  }
}

}  // namespace

PeerNetwork::PeerNetwork(const asio::any_io_executor& executor,
                         const PeerOptions& options,
                         std::string node_uuid,
                         std::uint64_t boot,
                         std::shared_ptr<const transport::TlsContext> tls,
                         CoreGate* core)
    : executor_(executor),
      core_(core),
      endpoints_(options.advertise),
      context_(
          std::move(node_uuid),
          boot,
          std::move(tls),
          LimitsOf(options),
          {[this](std::shared_ptr<const transport::PeerFacts> peer, proto::PeerRequest request) {
             return Handle(std::move(peer), std::move(request));
           },
           [this](const auto& channel) { links_.OnUp(channel); },
           [this](const auto& channel, const Error& why) { links_.OnDown(channel, why); }}),
      links_(
          executor,
          &context_,
          HostOf(
              options.listen),  // from the address that others know: a rule on either side sees it
          {[this](const std::string& node, std::uint64_t boot_number) {
             (*core_)->OnPeerUp(node, boot_number);
           },
           [this](const std::string& node) { (*core_)->OnPeerDown(node); }}),
      server_(executor, &context_),
      tasks_(executor, "peer messages", kMaxLanes) {
  for (const proto::DataPlane& plane : options.planes) {
    context_.AddPlane(plane);
  }
}

Result<std::unique_ptr<PeerNetwork>> PeerNetwork::Open(const asio::any_io_executor& executor,
                                                       const PeerOptions& options,
                                                       const std::string& node_uuid,
                                                       std::uint64_t boot,
                                                       CoreGate* core) {
  std::shared_ptr<const transport::TlsContext> tls;
  if (!options.tls.authority.empty()) {
    HF_TRY(tls, transport::TlsContext::Load(options.tls));
    WarnOfTheEnd(*tls);
  }
  std::unique_ptr<PeerNetwork> network(
      new PeerNetwork(executor, options, node_uuid, boot, std::move(tls), core));
  HF_TRY(const auto endpoint, transport::ParseEndpoint(options.listen));
  HF_TRYV(network->server_.Listen(
      endpoint.address().to_string(), endpoint.port(), options.allow_insecure));
  if (network->endpoints_.empty()) {
    network->endpoints_.push_back(network->server_.address());
    if (endpoint.address().is_unspecified()) {
      return Error(Errc::kInvalidArgument,
                   "peer.listen is every address: say in peer.advertise where others reach it");
    }
  }
  return network;
}

void PeerNetwork::Start() {
  server_.Start();
}

void PeerNetwork::Send(const SendReport& action) {
  Message message;
  message.stamp = action.report.stamp;
  *message.request.mutable_report() = ToProto(action.job_uid, action.job_name, action.report);
  Enqueue({action.node_uuid, action.job_uid, Kind::kReport}, action.endpoints, std::move(message));
}

void PeerNetwork::Send(const SendCommand& action) {
  Message message;
  message.stamp = action.command.stamp;
  *message.request.mutable_command() = ToProto(action.job_uid, action.job_name, action.command);
  Enqueue({action.node_uuid, action.job_uid, Kind::kCommand}, action.endpoints, std::move(message));
}

// Without a connection nothing waits: the core says all again when the node is up.
void PeerNetwork::Enqueue(LaneKey key, const std::vector<std::string>& endpoints, Message message) {
  const std::string& node = std::get<0>(key);
  links_.Want(node, endpoints, SystemClock().Now());
  if (links_.Find(node) == nullptr) {
    return;
  }
  Lane& lane = lanes_[key];
  lane.next = std::move(message);
  if (lane.busy) {
    return;
  }
  lane.busy = true;
  // Where nothing makes it wait, Drain has run to its end when Spawn returns, and the lane is gone.
  if (!tasks_.Spawn(Drain(key))) {
    lanes_.erase(key);
  }
}

asio::awaitable<void> PeerNetwork::Drain(LaneKey key) {
  const auto& [node, job, kind] = key;
  while (lanes_.at(key).next.has_value() && !co_await Cancelled()) {
    Message message = *std::exchange(lanes_.at(key).next, std::nullopt);
    const PeerLinks::Channel channel = links_.Find(node);
    if (channel == nullptr) {
      break;
    }
    HOLDFAST_FAILPOINT("peer.before_send");
    ++(kind == Kind::kReport ? counters_.reports_sent : counters_.commands_sent);
    const auto reply = co_await channel->Call(std::move(message.request), kAnswerLimit);
    const Status answer = reply.has_value() ? Status(Ok()) : Status(reply.error());
    if (!answer.has_value()) {
      ++counters_.unanswered;
      LogDebug("peer.unanswered", transport::UuidText(node) + ": " + answer.error().ToString());
    }
    (*core_)->OnPeerAnswer(node, job, message.stamp, answer);
  }
  lanes_.erase(key);
}

asio::awaitable<Result<proto::PeerReply>> PeerNetwork::Handle(
    std::shared_ptr<const transport::PeerFacts> peer, proto::PeerRequest request) {
  const std::uint64_t ticket = next_ticket_++;
  const auto asked = std::make_shared<Asked>(executor_);
  proto::PeerReply reply;
  if (request.has_report()) {
    HF_CO_TRY(Report report, FromProto(request.report().report()));
    reply.mutable_report();
    asked_[ticket] = asked;
    (*core_)->OnPeerReport(peer->node_uuid, ticket, request.report().job_uid(), std::move(report));
  } else if (request.has_command()) {
    HF_CO_TRY(const Command command, FromProto(request.command().command()));
    reply.mutable_command();
    asked_[ticket] = asked;
    (*core_)->OnPeerCommand(peer->node_uuid, ticket, request.command().job_uid(), command);
  } else if (serve_ != nullptr) {
    co_return co_await serve_(std::move(peer), std::move(request));
  } else {
    co_return Error(Errc::kUnavailable, "this daemon does not answer such requests");
  }
  HF_CO_TRYV(co_await AwaitAnswer(ticket, asked));
  co_return reply;
}

// The core answers every ticket, when the catalog has it; who cannot wait so long asks again.
asio::awaitable<Status> PeerNetwork::AwaitAnswer(std::uint64_t ticket,
                                                 std::shared_ptr<Asked> asked) {
  bool cancelled = false;
  while (!asked->answer.has_value() && !cancelled) {
    co_await asked->event.Wait(kAnswerPoll);
    cancelled = co_await Cancelled();
  }
  asked_.erase(ticket);
  co_return asked->answer.value_or(Error(Errc::kCancelled, "the peer does not wait any more"));
}

void PeerNetwork::Answer(const AnswerPeer& action) {
  HOLDFAST_FAILPOINT("peer.before_answer");
  const auto found = asked_.find(action.ticket);
  if (found != asked_.end()) {
    found->second->answer = action.status;
    found->second->event.Notify();
  }
}

asio::awaitable<Result<proto::PeerReply>> PeerNetwork::Call(std::string node,
                                                            proto::PeerRequest request,
                                                            std::chrono::milliseconds limit) {
  const MonotonicTime deadline = SystemClock().Now() + limit;
  const MonotonicTime patience = SystemClock().Now() + std::min(limit, kConnectWait);
  PeerLinks::Channel channel = links_.Find(node);
  while (channel == nullptr) {
    const MonotonicTime now = SystemClock().Now();
    if (now >= patience) {
      co_return Error(Errc::kUnavailable,
                      "node " + NodeText(node) + " is not connected: " + links_.WhyNot(node));
    }
    held_[node] = now + kHeldFor;
    links_.Want(node, EndpointsOf(node), now);
    HF_CO_TRYV(co_await SleepFor(kConnectPoll));
    channel = links_.Find(node);
  }
  const MonotonicTime now = SystemClock().Now();
  held_[node] = now + kHeldFor;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now);
  co_return co_await channel->Call(std::move(request), std::max(left, kShortest));
}

std::optional<WallTime> PeerNetwork::certificate_end() const {
  const auto& tls = context_.tls();
  return tls == nullptr ? std::nullopt : std::optional(tls->not_after());
}

std::vector<std::string> PeerNetwork::EndpointsOf(const std::string& node) const {
  const NodeHints known = core_->view().KnownPeers();
  const auto found = known.find(node);
  return found == known.end() ? std::vector<std::string>() : found->second;
}

void PeerNetwork::OnTick(MonotonicTime now) {
  NodeHints wanted = core_->view().WantedPeers();
  std::erase_if(held_, [now](const auto& entry) { return entry.second <= now; });
  for (const auto& [node, until] : held_) {
    if (!wanted.contains(node)) {
      wanted[node] = EndpointsOf(node);
    }
  }
  links_.Tick(wanted, now);
}

void PeerNetwork::Stop() {
  server_.Stop();
  links_.Stop();
  tasks_.Stop();
}

asio::awaitable<bool> PeerNetwork::Join(std::chrono::milliseconds limit) {
  const bool server = co_await server_.Join(limit);
  const bool links = co_await links_.Join(limit);
  const bool tasks = co_await tasks_.Join(limit);
  co_return server&& links&& tasks;
}

}  // namespace holdfast::daemon
