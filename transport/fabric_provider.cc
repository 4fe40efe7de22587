// Which card a provider has at an address.
#include <cstring>
#include <string>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/random.h"
#include "transport/fabric_domain.h"

namespace holdfast::transport {

namespace {

// What we call is older; a newer number would change what providers promise, and an old libfabric
// of a host would refuse it.
constexpr std::uint32_t kInterface = FI_VERSION(1, 9);

bool HasIpAddresses(const std::string& provider) {
  return provider != "shm" && provider != "efa";
}

// fi_freeinfo frees these.
char* Copy(const std::string& text) {
  return strdup(text.c_str());
}

InfoPtr MakeHints(const FabricLibrary& library,
                  const FabricOptions& options,
                  const std::string& provider) {
  InfoPtr hints(library.dupinfo(nullptr), library.freeinfo);
  if (hints == nullptr) {
    return hints;
  }
  hints->caps = FI_RMA | FI_READ | FI_REMOTE_READ;
  hints->mode = FI_CONTEXT | FI_CONTEXT2;
  hints->ep_attr->type = FI_EP_RDM;
  hints->domain_attr->mr_mode =
      FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT;
  hints->domain_attr->threading = FI_THREAD_SAFE;
  hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
  hints->fabric_attr->prov_name = Copy(provider);
  if (!options.device.empty()) {
    hints->domain_attr->name = Copy(options.device);
  }
  return hints;
}

// The IP address in "address", as text; empty where it holds none.
std::string IpText(const void* address, std::size_t size) {
  char text[INET6_ADDRSTRLEN] = {};
  sa_family_t family = AF_UNSPEC;
  if (address == nullptr || size < sizeof(sockaddr_in)) {
    return "";
  }
  std::memcpy(&family, address, sizeof family);
  if (family == AF_INET) {
    sockaddr_in ip{};
    std::memcpy(&ip, address, sizeof ip);
    (void)inet_ntop(AF_INET, &ip.sin_addr, text, sizeof text);
  } else if (family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    sockaddr_in6 ip{};
    std::memcpy(&ip, address, sizeof ip);
    (void)inet_ntop(AF_INET6, &ip.sin6_addr, text, sizeof text);
  }
  return text;
}

bool IsIpAddress(const std::string& text) {
  in6_addr bytes{};
  return inet_pton(AF_INET, text.c_str(), &bytes) == 1 ||
         inet_pton(AF_INET6, text.c_str(), &bytes) == 1;
}

// The text of the address as inet_ntop writes it, so that "::01" is "::1".
bool SameAddress(const fi_info& info, const std::string& wanted) {
  const std::string have = IpText(info.src_addr, info.src_addrlen);
  in6_addr a{};
  in6_addr b{};
  const int family = wanted.find(':') == std::string::npos ? AF_INET : AF_INET6;
  return inet_pton(family, have.c_str(), &a) == 1 && inet_pton(family, wanted.c_str(), &b) == 1 &&
         std::memcmp(&a, &b, family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr)) == 0;
}

// Takes the first of the list that is bound where it should be, and frees the others.
InfoPtr Pick(const FabricLibrary& library, fi_info* list, const FabricOptions& options, bool ip) {
  const InfoPtr all(list, library.freeinfo);
  for (fi_info* info = list; info != nullptr; info = info->next) {
    // libfabric takes the nearest card where none has the address: its word is not enough.
    if (!ip || SameAddress(*info, options.bind_address)) {
      return {library.dupinfo(info), library.freeinfo};
    }
  }
  return {nullptr, library.freeinfo};
}

}  // namespace

Result<InfoPtr> AskProvider(const FabricLibrary& library,
                            const FabricOptions& options,
                            const std::string& provider) {
  const bool ip = HasIpAddresses(provider);
  if (ip && !IsIpAddress(options.bind_address)) {
    return Error(Errc::kInvalidArgument,
                 "\"" + options.bind_address + "\" is no IP address to bind to");
  }
  // shm names itself by process number, which two containers share as they do /dev/shm.
  const bool named = provider == "shm";
  const std::string node =
      named ? "holdfast-" + std::to_string(RandomToken()) : options.bind_address;
  const InfoPtr hints = MakeHints(library, options, provider);
  if (hints == nullptr) {
    return Error(Errc::kNoSpace, "no memory for libfabric's hints");
  }
  fi_info* list = nullptr;
  const int code = library.getinfo(kInterface,
                                   ip || named ? node.c_str() : nullptr,
                                   nullptr,
                                   ip || named ? FI_SOURCE : 0,
                                   hints.get(),
                                   &list);
  if (code == -FI_ENODATA) {
    return Error(Errc::kUnavailable, "not on this machine, or not at this address");
  }
  if (code != 0) {
    return FabricError(library, code, "fi_getinfo");
  }
  InfoPtr picked = Pick(library, list, options, ip);
  if (picked == nullptr) {
    return Error(Errc::kUnavailable, "no card of it has this address");
  }
  return picked;
}

}  // namespace holdfast::transport
