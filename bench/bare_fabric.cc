#include "bench/bare_fabric.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

namespace holdfast::bench {

namespace {

Error Failed(const char* what, long code) {
  return {Errc::kIoError, std::string(what) + ": " + fi_strerror(static_cast<int>(-code))};
}

}  // namespace

// What a process that ends leaves to the system.
struct BareFabric::Parts {
  fi_info* info = nullptr;
  fid_fabric* fabric = nullptr;
  fid_domain* domain = nullptr;
  fid_cq* queue = nullptr;
  fid_av* addresses = nullptr;
  fid_ep* endpoint = nullptr;
  fid_mr* lent = nullptr;
  fid_mr* local = nullptr;
  fi_addr_t peer = FI_ADDR_UNSPEC;
  BareRegion remote;
  bool sleeps = false;
};

BareFabric::BareFabric(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

BareFabric::~BareFabric() {
  for (fid* each : {parts_->lent == nullptr ? nullptr : &parts_->lent->fid,
                    parts_->local == nullptr ? nullptr : &parts_->local->fid,
                    parts_->endpoint == nullptr ? nullptr : &parts_->endpoint->fid}) {
    if (each != nullptr) {
      (void)fi_close(each);
    }
  }
}

Result<std::unique_ptr<BareFabric>> BareFabric::Open(const std::string& provider,
                                                     const std::string& address,
                                                     bool sleeps) {
  auto parts = std::make_unique<Parts>();
  fi_info* hints = fi_allocinfo();
  hints->caps = FI_RMA | FI_READ | FI_REMOTE_READ;
  hints->mode = FI_CONTEXT;
  hints->ep_attr->type = FI_EP_RDM;
  hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
  hints->fabric_attr->prov_name = strdup(provider.c_str());
  const bool ip = provider != "shm" && provider != "efa";
  parts->sleeps = sleeps && ip;  // the others cannot
  long code = fi_getinfo(FI_VERSION(1, 9),
                         ip ? address.c_str() : nullptr,
                         nullptr,
                         ip ? FI_SOURCE : 0,
                         hints,
                         &parts->info);
  fi_freeinfo(hints);
  if (code != 0) {
    return Failed("fi_getinfo", code);
  }
  fi_cq_attr queue{};
  queue.format = FI_CQ_FORMAT_CONTEXT;
  queue.size = 1024;
  queue.wait_obj = parts->sleeps ? FI_WAIT_UNSPEC : FI_WAIT_NONE;
  fi_av_attr table{};
  table.type = FI_AV_TABLE;
  if ((code = fi_fabric(parts->info->fabric_attr, &parts->fabric, nullptr)) != 0 ||
      (code = fi_domain(parts->fabric, parts->info, &parts->domain, nullptr)) != 0 ||
      (code = fi_cq_open(parts->domain, &queue, &parts->queue, nullptr)) != 0 ||
      (code = fi_av_open(parts->domain, &table, &parts->addresses, nullptr)) != 0 ||
      (code = fi_endpoint(parts->domain, parts->info, &parts->endpoint, nullptr)) != 0 ||
      (code = fi_ep_bind(parts->endpoint, &parts->queue->fid, FI_TRANSMIT | FI_RECV)) != 0 ||
      (code = fi_ep_bind(parts->endpoint, &parts->addresses->fid, 0)) != 0 ||
      (code = fi_enable(parts->endpoint)) != 0) {
    return Failed("opening an endpoint", code);
  }
  return std::unique_ptr<BareFabric>(new BareFabric(std::move(parts)));
}

Result<BareRegion> BareFabric::Lend(MutableByteView memory) {
  const long code = fi_mr_reg(parts_->domain,
                              memory.data(),
                              memory.size(),
                              FI_REMOTE_READ,
                              0,
                              7,
                              0,
                              &parts_->lent,
                              nullptr);
  if (code != 0) {
    return Failed("fi_mr_reg", code);
  }
  std::array<char, 256> name{};
  std::size_t size = name.size();
  (void)fi_getname(&parts_->endpoint->fid, name.data(), &size);
  BareRegion region;
  region.address.assign(name.data(), size);
  region.key = fi_mr_key(parts_->lent);
  if ((parts_->info->domain_attr->mr_mode & FI_MR_VIRT_ADDR) != 0) {
    region.base = reinterpret_cast<std::uintptr_t>(memory.data());
  }
  return region;
}

long BareFabric::TakeCompletions() {
  constexpr int kSleepMilliseconds = 10;
  std::array<fi_cq_entry, 16> entries{};
  const long count = fi_cq_read(parts_->queue, entries.data(), entries.size());
  if (count != -FI_EAGAIN || !parts_->sleeps) {
    return count;
  }
  return fi_cq_sread(parts_->queue, entries.data(), entries.size(), nullptr, kSleepMilliseconds);
}

void BareFabric::Serve() {
  for (;;) {
    if (TakeCompletions() == -FI_EAVAIL) {
      fi_cq_err_entry error{};
      (void)fi_cq_readerr(parts_->queue, &error, 0);
    }
  }
}

Status BareFabric::Connect(const BareRegion& region) {
  parts_->remote = region;
  const int inserted =
      fi_av_insert(parts_->addresses, region.address.data(), 1, &parts_->peer, 0, nullptr);
  return inserted == 1 ? Status(Ok()) : Status(Failed("fi_av_insert", inserted));
}

Status BareFabric::Read(MutableByteView into, std::size_t block, std::size_t depth) {
  void* descriptor = nullptr;
  if ((parts_->info->domain_attr->mr_mode & FI_MR_LOCAL) != 0) {
    if (parts_->local == nullptr) {
      const long code = fi_mr_reg(
          parts_->domain, into.data(), into.size(), FI_READ, 0, 8, 0, &parts_->local, nullptr);
      if (code != 0) {
        return Failed("fi_mr_reg", code);
      }
    }
    descriptor = fi_mr_desc(parts_->local);
  }
  std::vector<fi_context> contexts((into.size() + block - 1) / block);
  std::size_t asked = 0;
  std::size_t came = 0;
  while (came < contexts.size()) {
    while (asked < contexts.size() && asked - came < depth) {
      const std::size_t begin = asked * block;
      const long code = fi_read(parts_->endpoint,
                                into.data() + begin,
                                std::min(block, into.size() - begin),
                                descriptor,
                                parts_->peer,
                                parts_->remote.base + begin,
                                parts_->remote.key,
                                &contexts[asked]);
      if (code == -FI_EAGAIN) {
        break;
      }
      if (code != 0) {
        return Failed("fi_read", code);
      }
      ++asked;
    }
    const long count = TakeCompletions();
    if (count > 0) {
      came += static_cast<std::size_t>(count);
    } else if (count != -FI_EAGAIN) {
      return Failed("fi_cq_read", count);
    }
  }
  return Ok();
}

}  // namespace holdfast::bench
