#include "transport/fabric_domain.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include <sys/socket.h>

#include "common/check.h"
#include "common/log.h"
#include "common/random.h"
#include "transport/fabric_region.h"

namespace holdfast::transport {

namespace {

// Nothing is ever received, and nobody but readers connects: small rings keep ofi_rxm's buffers
// small.
constexpr std::size_t kRing = 64;
constexpr int kKeyTries = 8;

}  // namespace

FabricDomain::FabricDomain(const FabricLibrary* library, InfoPtr info)
    : library_(library),
      info_(std::move(info)),
      provider_(info_->fabric_attr->prov_name),
      mr_mode_(static_cast<std::uint64_t>(info_->domain_attr->mr_mode)) {}

Error FabricDomain::Failed(long code, const std::string& what) const {
  return FabricError(*library_, code, what + " over " + provider_);
}

Result<std::shared_ptr<FabricDomain>> FabricDomain::Open(const FabricLibrary* library,
                                                         const FabricOptions& options) {
  if (options.providers.empty()) {
    return Error(Errc::kInvalidArgument, "no fabric provider was named");
  }
  std::string why;
  Errc code = Errc::kUnavailable;
  for (const std::string& provider : options.providers) {
    auto domain = OpenOne(library, options, provider);
    if (domain.has_value()) {
      return domain;
    }
    why += (why.empty() ? "" : "; ") + provider + ": " + domain.error().message;
    code = domain.error().code;
  }
  // The caller's mistake is one only where nothing else was asked for.
  return Error(options.providers.size() == 1 ? code : Errc::kUnavailable,
               "no fabric at " + options.bind_address +
                   (options.device.empty() ? "" : " on " + options.device) + " (" + why + ")");
}

Result<std::shared_ptr<FabricDomain>> FabricDomain::OpenOne(const FabricLibrary* library,
                                                            const FabricOptions& options,
                                                            const std::string& provider) {
  HF_TRY(InfoPtr info, AskProvider(*library, options, provider));
  std::shared_ptr<FabricDomain> domain(new FabricDomain(library, std::move(info)));
  if (options.always_register_local) {
    domain->mr_mode_ |= FI_MR_LOCAL;
  }
  fid_fabric* fabric = nullptr;
  if (const int code = library->fabric(domain->info_->fabric_attr, &fabric, nullptr); code != 0) {
    return domain->Failed(code, "fi_fabric");
  }
  domain->fabric_.reset(fabric);
  fid_domain* opened = nullptr;
  if (const int code = fi_domain(fabric, domain->info_.get(), &opened, nullptr); code != 0) {
    return domain->Failed(code, "fi_domain");
  }
  domain->domain_.reset(opened);
  HF_TRY(domain->serving_, domain->OpenPort(kRing));
  HF_TRY(domain->serving_name_, domain->NameOf(domain->serving_));
  return domain;
}

Result<FidPtr<fid_cq>> FabricDomain::OpenQueue(std::size_t size, int* wait_fd) const {
  fi_cq_attr attributes{};
  attributes.format = FI_CQ_FORMAT_CONTEXT;
  attributes.size = size;
  attributes.wait_obj = FI_WAIT_FD;
  fid_cq* queue = nullptr;
  int code = fi_cq_open(domain_.get(), &attributes, &queue, nullptr);
  if (code == 0) {
    FidPtr<fid_cq> owned(queue);
    if (fi_control(&queue->fid, FI_GETWAIT, wait_fd) == 0) {
      return owned;
    }
  }
  // No descriptor to sleep on: it is polled.
  *wait_fd = -1;
  attributes.wait_obj = FI_WAIT_NONE;
  queue = nullptr;
  code = fi_cq_open(domain_.get(), &attributes, &queue, nullptr);
  if (code != 0) {
    return Failed(code, "fi_cq_open");
  }
  return FidPtr<fid_cq>(queue);
}

Result<FabricPort> FabricDomain::OpenPort(std::size_t reads) const {
  FabricPort port;
  const std::size_t ring = std::max(reads, kRing);
  HF_TRY(port.completions, OpenQueue(2 * ring, &port.wait_fd));
  fi_av_attr attributes{};
  attributes.type =
      info_->domain_attr->av_type == FI_AV_UNSPEC ? FI_AV_TABLE : info_->domain_attr->av_type;
  attributes.count = 1;
  fid_av* addresses = nullptr;
  if (const int code = fi_av_open(domain_.get(), &attributes, &addresses, nullptr); code != 0) {
    return Failed(code, "fi_av_open");
  }
  port.addresses.reset(addresses);
  InfoPtr own(library_->dupinfo(info_.get()), library_->freeinfo);
  if (own == nullptr) {
    return Error(Errc::kNoSpace, "no memory for a fabric endpoint");
  }
  own->tx_attr->size = std::min(own->tx_attr->size, ring);
  own->rx_attr->size = std::min(own->rx_attr->size, kRing);
  fid_ep* endpoint = nullptr;
  if (const int code = fi_endpoint(domain_.get(), own.get(), &endpoint, nullptr); code != 0) {
    return Failed(code, "fi_endpoint");
  }
  port.endpoint.reset(endpoint);
  int code = fi_ep_bind(endpoint, &port.completions->fid, FI_TRANSMIT | FI_RECV);
  code = code != 0 ? code : fi_ep_bind(endpoint, &port.addresses->fid, 0);
  code = code != 0 ? code : fi_enable(endpoint);
  if (code != 0) {
    return Failed(code, "fi_enable");
  }
  return port;
}

void FabricDomain::Close(FabricPort* port) const {
  fid_ep* endpoint = port->endpoint.release();
  if (endpoint == nullptr) {
    return;
  }
  const int code = fi_close(&endpoint->fid);
  if (code != 0) {
    LogError("fabric.close", Failed(code, "fi_close").message);
  }
  HOLDFAST_CHECK(code != -FI_EBUSY);
}

Result<std::string> FabricDomain::NameOf(const FabricPort& port) const {
  std::array<char, kMaxFabricAddressBytes> name{};
  std::size_t size = name.size();
  if (const int code = fi_getname(&port.endpoint->fid, name.data(), &size); code != 0) {
    return Failed(code, "fi_getname");
  }
  return std::string(name.data(), size);
}

std::string FabricDomain::TextOf(const std::string& address) const {
  if (!CheckAddress(address).has_value()) {
    return "an address that is none";
  }
  // Zeros behind it: who takes it for text finds an end.
  std::array<char, 2 * kMaxFabricAddressBytes> padded{};
  std::memcpy(padded.data(), address.data(), address.size());
  std::array<char, kMaxFabricAddressBytes> text{};
  std::size_t size = text.size();
  (void)fi_av_straddr(serving_.addresses.get(), padded.data(), text.data(), &size);
  text.back() = '\0';
  return text.data();
}

Status FabricDomain::CheckAddress(const std::string& address) const {
  const bool text = info_->addr_format == FI_ADDR_STR;
  const bool sound = !address.empty() && address.size() <= kMaxFabricAddressBytes &&
                     (text || address.size() == serving_name_.size());
  if (!sound) {
    return Error(
        Errc::kInvalidArgument,
        "an address of " + std::to_string(address.size()) + " bytes is none of " + provider_);
  }
  // The family says how much of it libfabric reads.
  const bool ip = info_->addr_format == FI_SOCKADDR || info_->addr_format == FI_SOCKADDR_IN ||
                  info_->addr_format == FI_SOCKADDR_IN6;
  if (ip && address.compare(0, sizeof(sa_family_t), serving_name_, 0, sizeof(sa_family_t)) != 0) {
    return Error(Errc::kInvalidArgument, "an address of another family than that of this node");
  }
  return Ok();
}

Result<fi_addr_t> FabricDomain::Insert(const FabricPort& port, const std::string& address) const {
  HF_TRYV(CheckAddress(address));
  std::array<char, 2 * kMaxFabricAddressBytes> padded{};
  std::memcpy(padded.data(), address.data(), address.size());
  fi_addr_t handle = FI_ADDR_UNSPEC;
  const int inserted = fi_av_insert(port.addresses.get(), padded.data(), 1, &handle, 0, nullptr);
  if (inserted != 1 || handle == FI_ADDR_NOTAVAIL) {
    return Failed(inserted < 0 ? inserted : FI_EADDRNOTAVAIL, "fi_av_insert");
  }
  return handle;
}

Result<FidPtr<fid_mr>> FabricDomain::Register(ByteView memory,
                                              std::uint64_t access,
                                              fid_ep* endpoint) const {
  const std::size_t key_bytes = info_->domain_attr->mr_key_size;
  const std::uint64_t mask = key_bytes >= sizeof(std::uint64_t)
                                 ? std::numeric_limits<std::uint64_t>::max()
                                 : (std::uint64_t{1} << (8 * key_bytes)) - 1;
  int code = 0;
  for (int i = 0; i < kKeyTries; ++i) {
    const std::uint64_t key = Wants(FI_MR_PROV_KEY) ? 0 : RandomToken() & mask;
    fid_mr* made = nullptr;
    code =
        fi_mr_reg(domain_.get(), memory.data(), memory.size(), access, 0, key, 0, &made, nullptr);
    if (code == -FI_ENOKEY) {
      continue;  // somebody has it: another one
    }
    if (code != 0) {
      break;
    }
    FidPtr<fid_mr> owned(made);
    if (Wants(FI_MR_ENDPOINT)) {
      code = fi_mr_bind(made, &endpoint->fid, 0);
      code = code != 0 ? code : fi_mr_enable(made);
      if (code != 0) {
        break;
      }
    }
    return owned;
  }
  return Failed(code, "fi_mr_reg of " + FormatBytes(memory.size()));
}

}  // namespace holdfast::transport
