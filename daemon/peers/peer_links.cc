#include "daemon/peers/peer_links.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "transport/peer_messages.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// Longer than the node that connects first needs, also if its first try was lost.
constexpr std::chrono::milliseconds kOtherSideFirst{2'000};
constexpr std::size_t kMaxEnding = 65'536;
constexpr std::chrono::milliseconds kEndPoll{1'000};

}  // namespace

PeerLinks::PeerLinks(const asio::any_io_executor& executor,
                     transport::PeerContext* context,
                     std::string bind,
                     Hooks hooks)
    : executor_(executor),
      context_(context),
      bind_(std::move(bind)),
      hooks_(std::move(hooks)),
      ending_(executor, "peer links", kMaxEnding) {}

void PeerLinks::Want(const std::string& node,
                     const std::vector<std::string>& endpoints,
                     MonotonicTime now) {
  if (stopped_ || node == context_->node_uuid()) {
    return;
  }
  Link& link = links_[node];
  link.wanted = true;
  // What an older record says is worth less than what the job says now; nothing is worth nothing.
  if (!endpoints.empty() && endpoints != link.endpoints) {
    link.endpoints = endpoints;
    link.last_error.clear();
    if (link.channels.empty()) {
      Disconnect(&link);
    }
  }
  if (!link.channels.empty()) {
    link.alone_since.reset();
    return;
  }
  link.alone_since = link.alone_since.value_or(now);
  const bool first = context_->node_uuid() < node;
  if (link.client == nullptr && (first || now - *link.alone_since >= kOtherSideFirst)) {
    Connect(node, &link);
  }
}

void PeerLinks::Tick(const NodeHints& wanted, MonotonicTime now) {
  for (const auto& [node, endpoints] : wanted) {
    Want(node, endpoints, now);
  }
  for (auto& [node, link] : links_) {
    if (!wanted.contains(node)) {
      link.wanted = false;
      link.alone_since.reset();
      Disconnect(&link);
    }
  }
  DropUnused();
}

void PeerLinks::Connect(const std::string& node, Link* link) {
  if (link->endpoints.empty() || !link->last_error.empty()) {
    return;
  }
  auto client = std::make_unique<transport::PeerClient>(
      executor_, context_, transport::PeerAddress{node, link->endpoints, bind_});
  if (const Status started = client->Start(); !started.has_value()) {
    link->last_error = started.error().message;
    LogWarning("peer.address", transport::UuidText(node) + ": " + started.error().ToString());
    return;
  }
  link->client = std::move(client);
}

void PeerLinks::Disconnect(Link* link) {
  // A group that is full would destroy a client whose task still runs: at the next tick, then.
  if (link->client != nullptr && ending_.size() < kMaxEnding) {
    link->client->Stop();
    (void)ending_.Spawn(End(std::move(link->client)));
  }
}

asio::awaitable<void> PeerLinks::End(std::unique_ptr<transport::PeerClient> client) {
  while (!co_await client->Join(kEndPoll)) {
  }
}

void PeerLinks::DropUnused() {
  std::erase_if(links_, [](const auto& entry) {
    const Link& link = entry.second;
    return !link.wanted && link.client == nullptr && link.channels.empty();
  });
}

void PeerLinks::OnUp(const Channel& channel) {
  const std::string& node = channel->facts()->node_uuid;
  const std::uint64_t boot = channel->facts()->boot;
  Link& link = links_[node];
  const bool news = link.channels.empty() || link.boot != boot;
  if (news) {
    // Copied: a channel that is closed is taken out of the list when its task has ended.
    for (const Channel& old : std::vector<Channel>(link.channels)) {
      old->Close(Error(Errc::kFenced, "the daemon of that node has started again"));
    }
    link.channels.clear();
  }
  link.boot = boot;
  link.channels.push_back(channel);
  link.alone_since.reset();
  if (news) {
    hooks_.up(node, boot);
  }
}

void PeerLinks::OnDown(const Channel& channel, const Error& why) {
  const std::string node = channel->facts()->node_uuid;
  const auto found = links_.find(node);
  if (found == links_.end() || std::erase(found->second.channels, channel) == 0) {
    return;  // of an older boot
  }
  if (found->second.channels.empty()) {
    LogInfo("peer.down", transport::UuidText(node) + ": " + why.message);
    hooks_.down(node);
  }
}

PeerLinks::Channel PeerLinks::Find(const std::string& node) const {
  const auto found = links_.find(node);
  if (found == links_.end()) {
    return nullptr;
  }
  for (const Channel& channel : found->second.channels) {
    if (channel->takes_calls()) {
      return channel;
    }
  }
  return nullptr;
}

std::string PeerLinks::WhyNot(const Link& link) {
  if (link.client != nullptr) {
    return link.client->last_error().message;
  }
  return !link.last_error.empty() ? link.last_error
         : link.endpoints.empty() ? "nobody has said where it can be reached"
                                  : "waiting for it to connect";
}

std::string PeerLinks::WhyNot(const std::string& node) const {
  const auto found = links_.find(node);
  return found == links_.end() ? "it is not wanted" : WhyNot(found->second);
}

std::vector<proto::PeerStatus> PeerLinks::Describe() const {
  std::vector<proto::PeerStatus> peers;
  for (const auto& [node, link] : links_) {
    proto::PeerStatus& peer = peers.emplace_back();
    peer.set_node_uuid(node);
    peer.mutable_endpoints()->Assign(link.endpoints.begin(), link.endpoints.end());
    if (!link.channels.empty()) {
      const transport::PeerChannel& channel = *link.channels.front();
      peer.set_connected(true);
      peer.set_address(channel.facts()->remote);
      peer.set_authenticated(channel.facts()->authenticated);
      peer.set_round_trip_us(static_cast<std::uint64_t>(channel.round_trip().count()));
    } else {
      peer.set_last_error(WhyNot(link));
    }
  }
  return peers;
}

std::size_t PeerLinks::connected() const {
  return static_cast<std::size_t>(std::count_if(links_.begin(), links_.end(), [](const auto& link) {
    return !link.second.channels.empty();
  }));
}

void PeerLinks::Stop() {
  stopped_ = true;
  for (auto& [node, link] : links_) {
    Disconnect(&link);
  }
}

// Not ending_.Stop(): its tasks are what waits for the clients.
asio::awaitable<bool> PeerLinks::Join(std::chrono::milliseconds limit) {
  co_return co_await ending_.Join(limit);
}

}  // namespace holdfast::daemon
