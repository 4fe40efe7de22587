#include "transport/fabric_endpoint.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "transport/fabric_domain.h"
#include "transport/fabric_reader.h"
#include "transport/fabric_signals.h"
#include "transport/fabric_targets.h"
#include "transport/fabric_thread.h"

namespace holdfast::transport {

namespace {

constexpr ByteCount kMaxBlockBytes = 4 * kMiB;
constexpr std::size_t kMaxReadsPerPeer = 256;

Status Check(const FabricOptions& options) {
  const bool sound = options.block_bytes > 0 && options.block_bytes <= kMaxBlockBytes &&
                     options.reads_per_peer > 0 && options.reads_per_peer <= kMaxReadsPerPeer &&
                     options.max_peers > 0 && options.attempts > 0 &&
                     options.first_pause.count() > 0 &&
                     options.longest_pause >= options.first_pause;
  if (!sound) {
    return Error(Errc::kInvalidArgument, "a fabric option is out of its range");
  }
  return Ok();
}

}  // namespace

// --- memory ---

struct FabricMemory::Registration {
  std::shared_ptr<FabricDomain> domain;  // closes after the memory
  FidPtr<fid_mr> memory;
};

FabricMemory::FabricMemory(FabricRegion region, std::unique_ptr<Registration> registration)
    : region_(std::move(region)), registration_(std::move(registration)) {}

FabricMemory::FabricMemory(FabricMemory&& other) noexcept = default;
FabricMemory& FabricMemory::operator=(FabricMemory&& other) noexcept = default;
FabricMemory::~FabricMemory() = default;

FabricTarget::FabricTarget(FabricTarget&& other) noexcept
    : targets_(std::exchange(other.targets_, nullptr)), memory_(other.memory_) {}

FabricTarget::~FabricTarget() {
  if (targets_ != nullptr) {
    targets_->Remove(memory_);
  }
}

// --- endpoint ---

FabricEndpoint::FabricEndpoint(boost::asio::any_io_executor executor,
                               FabricOptions options,
                               std::shared_ptr<FabricDomain> domain)
    : executor_(std::move(executor)),
      options_(std::move(options)),
      domain_(std::move(domain)),
      targets_(std::make_unique<FabricTargets>(domain_)),
      thread_(std::make_unique<FabricThread>(domain_, targets_.get(), &options_, &counters_)) {}

FabricEndpoint::~FabricEndpoint() {
  Stop();
}

Result<std::unique_ptr<FabricEndpoint>> FabricEndpoint::OpenBlocking(
    boost::asio::any_io_executor executor, FabricOptions options) {
  HF_TRYV(Check(options));
  const KeptSignals signals;
  HF_TRY(const FabricLibrary* library, LoadFabricLibrary(options.libraries));
  HF_TRY(auto domain, FabricDomain::Open(library, options));
  std::unique_ptr<FabricEndpoint> endpoint(
      new FabricEndpoint(std::move(executor), std::move(options), std::move(domain)));
  HF_TRYV(endpoint->thread_->Start());
  return endpoint;
}

Result<FabricMemory> FabricEndpoint::LendBlocking(ByteView memory) const {
  if (memory.empty()) {
    return Error(Errc::kInvalidArgument, "no bytes to lend");
  }
  auto registration = std::make_unique<FabricMemory::Registration>();
  registration->domain = domain_;
  HF_TRY(registration->memory,
         domain_->Register(memory, FI_REMOTE_READ, domain_->serving().endpoint.get()));
  FabricRegion region;
  region.provider = domain_->provider();
  region.address = domain_->serving_name();
  region.key = fi_mr_key(registration->memory.get());
  region.base =
      domain_->Wants(FI_MR_VIRT_ADDR) ? reinterpret_cast<std::uintptr_t>(memory.data()) : 0;
  region.length = memory.size();
  return FabricMemory(std::move(region), std::move(registration));
}

Result<FabricTarget> FabricEndpoint::PrepareBlocking(MutableByteView memory) {
  HF_TRYV(targets_->Add(memory));
  return FabricTarget(targets_.get(), memory);
}

Result<std::unique_ptr<RangeReader>> FabricEndpoint::Reader(const FabricRegion& region,
                                                            const std::string& peer) {
  const std::string name = peer + " over " + region.provider;
  if (region.provider != domain_->provider()) {
    return Error(Errc::kInvalidArgument,
                 name + ": this node has " + domain_->provider() + ", and both must be the same");
  }
  const Status address = domain_->CheckAddress(region.address);
  if (!address.has_value()) {
    return Error(address.error()).WithContext(name);
  }
  std::erase_if(peers_, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<Peer> shared = peers_[region.address].lock();
  if (shared == nullptr) {
    if (peers_.size() > options_.max_peers) {
      peers_.erase(region.address);
      return Error(
          Errc::kUnavailable,
          name + ": " + std::to_string(options_.max_peers) + " peers are being read from already");
    }
    shared = std::make_shared<Peer>(executor_, options_.reads_per_peer);
    peers_[region.address] = shared;
  }
  const ByteCount block =
      std::min<ByteCount>(options_.block_bytes, domain_->info().ep_attr->max_msg_size);
  return std::unique_ptr<RangeReader>(std::make_unique<FabricReader>(
      thread_.get(), &options_, block, std::move(shared), region, name));
}

const std::string& FabricEndpoint::provider() const {
  return domain_->provider();
}

const std::string& FabricEndpoint::address() const {
  return domain_->serving_name();
}

std::string FabricEndpoint::Describe() const {
  return provider() + " at " + domain_->TextOf(address()) + " (" +
         domain_->info().domain_attr->name + ")";
}

FabricStats FabricEndpoint::stats() const {
  FabricStats stats;
  stats.reads = counters_.reads.load(std::memory_order_relaxed);
  stats.bytes = counters_.bytes.load(std::memory_order_relaxed);
  stats.retries = counters_.retries.load(std::memory_order_relaxed);
  stats.resets = counters_.resets.load(std::memory_order_relaxed);
  return stats;
}

void FabricEndpoint::Settle() const {
  thread_->Settle();
}

void FabricEndpoint::Stop() {
  thread_->Stop();
}

}  // namespace holdfast::transport
