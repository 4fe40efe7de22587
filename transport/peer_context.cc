#include "transport/peer_context.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/version.h"
#include "transport/peer_messages.h"

namespace holdfast::transport {
namespace {

// Without TLS a peer may say that it is anybody.
constexpr std::size_t kMaxBoots = 65'536;

}  // namespace

PeerContext::PeerContext(std::string node_uuid,
                         std::uint64_t boot,
                         std::shared_ptr<const TlsContext> tls,
                         PeerLimits limits,
                         Hooks hooks)
    : node_uuid_(std::move(node_uuid)),
      boot_(boot),
      tls_(std::move(tls)),
      limits_(limits),
      hooks_(std::move(hooks)) {}

Status PeerContext::Check() const {
  if (node_uuid_.size() != kUuidBytes) {
    return Error(Errc::kInvalidArgument, "a node uuid has 16 bytes");
  }
  if (tls_ != nullptr && tls_->node_uuid() != node_uuid_) {
    return Error(Errc::kPermission,
                 "the certificate is of node " + UuidText(tls_->node_uuid()) + ", this node is " +
                     UuidText(node_uuid_) +
                     ": bring this node's certificate (`holdfast certs "
                     "issue DIR --node " +
                     UuidText(node_uuid_) + "`)");
  }
  return Ok();
}

proto::PeerHello PeerContext::Hello() const {
  proto::PeerHello hello;
  hello.set_protocol_version(kPeerProtocolVersion);
  hello.set_software_version(std::string(kVersion));
  hello.set_node_uuid(node_uuid_);
  hello.set_boot_number(boot_);
  for (const proto::DataPlane& plane : planes_) {
    *hello.add_planes() = plane;
  }
  constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max();
  hello.set_max_requests(static_cast<std::uint32_t>(std::min(limits_.max_served, kMost)));
  return hello;
}

Status PeerContext::NoteBoot(const std::string& node_uuid, std::uint64_t boot) {
  const auto found = boots_.find(node_uuid);
  if (found != boots_.end() && boot < found->second) {
    return Error(Errc::kFenced,
                 "a daemon of node " + UuidText(node_uuid) + " with boot " +
                     std::to_string(found->second) + " was here, this one has boot " +
                     std::to_string(boot) + ": end the old one");
  }
  if (found == boots_.end() && boots_.size() >= kMaxBoots) {
    boots_.erase(boots_.begin());
  }
  boots_[node_uuid] = boot;
  return Ok();
}

}  // namespace holdfast::transport
