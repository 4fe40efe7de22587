#include "daemon/data_plane/data_plane.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "daemon/core/ids.h"
#include "daemon/data_plane/plane_reader.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using std::chrono::seconds;
using std::chrono::steady_clock;

namespace {

constexpr seconds kFirstPause{30};
constexpr seconds kLongestPause{600};
// Nodes that are remembered; far more than any of this node's groups have.
constexpr std::size_t kMaxAway = 4'096;

}  // namespace

Status DataPlane::OpenBlocking(const DataPlaneOptions& options,
                               WorkerPool* pool,
                               Lender::Find find) {
  transport::FabricOptions fabric;
  const auto connection = std::find(options.planes.begin(), options.planes.end(), kConnectionPlane);
  fabric.providers.assign(options.planes.begin(), connection);
  fabric.bind_address = options.bind_address;
  fabric.device = options.device;
  if (fabric.providers.empty()) {
    return Ok();
  }
  const Status opened = OpenFabricBlocking(std::move(fabric));
  if (opened.has_value()) {
    lender_ = std::make_unique<Lender>(executor_, pool, lending_.get(), std::move(find));
    return Ok();
  }
  if (connection == options.planes.end()) {
    return Error(opened.error()).WithContext("peer.data_plane without tls");
  }
  LogDebug("data_plane.none", opened.error().ToString());
  return Ok();
}

Status DataPlane::OpenFabricBlocking(transport::FabricOptions options) {
  HF_TRY(auto lending, transport::FabricEndpoint::OpenBlocking(executor_, options));
  options.providers = {lending->provider()};
  HF_TRY(reading_, transport::FabricEndpoint::OpenBlocking(executor_, std::move(options)));
  lending_ = std::move(lending);
  return Ok();
}

std::shared_ptr<transport::RangeReader> DataPlane::Reader(NodeCall call,
                                                          const std::string& node,
                                                          const proto::StoredKey& key,
                                                          ByteCount length) {
  return std::make_shared<PlaneReader>(executor_, this, std::move(call), node, key, length);
}

asio::awaitable<Result<proto::LendReply>> DataPlane::Lend(proto::LendRequest request,
                                                          std::chrono::milliseconds limit) {
  if (lending_ == nullptr || lending_->provider() != request.provider()) {
    co_return Error(
        Errc::kUnavailable,
        "this node's bytes are read over " + Describe() + ", not over " + request.provider());
  }
  HF_CO_TRY(const transport::FabricRegion region, co_await lender_->Lend(request.key(), limit));
  proto::LendReply reply;
  *reply.mutable_region() = ToProto(region);
  co_return reply;
}

std::string DataPlane::Describe() const {
  return lending_ == nullptr ? "the peers' connection" : lending_->Describe();
}

std::vector<proto::DataPlane> DataPlane::Planes() const {
  std::vector<proto::DataPlane> planes;
  if (lending_ != nullptr) {
    proto::DataPlane& plane = planes.emplace_back();
    plane.set_kind("fabric");
    plane.set_provider(lending_->provider());
    plane.set_address(lending_->address());
  }
  planes.emplace_back().set_kind(kConnectionPlane);
  return planes;
}

asio::awaitable<void> DataPlane::Watch() {
  if (lender_ != nullptr) {
    co_await lender_->Watch();
  }
}

void DataPlane::Stop() {
  if (reading_ != nullptr) {
    reading_->Stop();
    lending_->Stop();
  }
}

bool DataPlane::IsWorthTrying(const std::string& node) const {
  const auto away = away_.find(node);
  return reading_ != nullptr && (away == away_.end() || steady_clock::now() >= away->second.until);
}

void DataPlane::OnFabricRead(const std::string& node, ByteCount bytes) {
  counters_.fabric_bytes += bytes;
  if (away_.erase(node) > 0) {
    LogInfo("data_plane.back", "node " + NodeText(node) + " is read over the fabric again");
  }
}

void DataPlane::OnFabricFailed(const std::string& node, const Error& why) {
  const auto now = steady_clock::now();
  if (away_.size() >= kMaxAway) {
    std::erase_if(away_, [now](const auto& entry) { return now >= entry.second.until; });
  }
  Away& away = away_[node];
  if (now < away.until) {
    return;  // another block of the same trouble
  }
  away.pause = std::clamp(2 * away.pause, kFirstPause, kLongestPause);
  away.until = now + away.pause;
  ++counters_.fallbacks;
  LogWarning("data_plane.fallback",
             "node " + NodeText(node) + " is read over the peers' connection for the next " +
                 std::to_string(away.pause.count()) + " s: " + why.ToString());
}

}  // namespace holdfast::daemon
