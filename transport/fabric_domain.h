// One opened network card: libfabric's fabric and domain, the endpoint that peers read from, and
// what else is made of them.  For transport/fabric_* only.
//
// The provider says in mr_mode what it wants of registered memory, and everything here asks these
// bits, never the provider's name:
//   FI_MR_LOCAL      memory that is read into is registered too, and its descriptor handed over
//   FI_MR_VIRT_ADDR  remote addresses are the lender's virtual ones, else offsets from 0
//   FI_MR_PROV_KEY   the provider chooses keys, else they are random here
//   FI_MR_ALLOCATED  pages must be there when they are registered (slots are pre-faulted)
//   FI_MR_ENDPOINT   memory is bound to the endpoint that it is read through
//
// Threads:   any (FI_THREAD_SAFE is asked for); a port is used by one thread at a time.
// Ownership: shared by the endpoint and by everything registered, so that it closes last.
// Errors:    of libfabric, with the provider's name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/bytes.h"
#include "common/result.h"
#include "transport/fabric_library.h"
#include "transport/fabric_options.h"

namespace holdfast::transport {

// An endpoint with a completion queue and an address vector of its own: when it is closed, nothing
// of it can be heard or written any more.
struct FabricPort {
  // Closed in reverse: first the endpoint.
  FidPtr<fid_cq> completions;
  FidPtr<fid_av> addresses;
  FidPtr<fid_ep> endpoint;
  int wait_fd = -1;  // readable when something has happened; -1 where the provider has none
};

class FabricDomain {
 public:
  // The first provider of the list that is there and can be bound to the address.  kUnavailable
  // says of each why not.
  [[nodiscard]] static Result<std::shared_ptr<FabricDomain>> Open(const FabricLibrary* library,
                                                                  const FabricOptions& options);

  // "reads": of one peer at once.
  [[nodiscard]] Result<FabricPort> OpenPort(std::size_t reads) const;

  // Returns when the endpoint can write nothing any more.  An endpoint that libfabric keeps for
  // busy ends the process: its buffers are about to be used by others, and no snapshot in the arena
  // is lost by a daemon that starts again.
  void Close(FabricPort* port) const;

  // fi_getname's bytes.
  [[nodiscard]] Result<std::string> NameOf(const FabricPort& port) const;

  // For people: "fi_sockaddr_in://10.0.0.7:41235".
  [[nodiscard]] std::string TextOf(const std::string& address) const;

  // Hostile input: whether fi_av_insert may see it.  kInvalidArgument.
  [[nodiscard]] Status CheckAddress(const std::string& address) const;

  // The peer's handle in the port's address vector.
  [[nodiscard]] Result<fi_addr_t> Insert(const FabricPort& port, const std::string& address) const;

  // "access": FI_REMOTE_READ or FI_READ.  "endpoint": what it is bound to, where that is wanted.
  [[nodiscard]] Result<FidPtr<fid_mr>> Register(ByteView memory,
                                                std::uint64_t access,
                                                fid_ep* endpoint) const;

  [[nodiscard]] bool Wants(std::uint64_t mr_mode) const { return (mr_mode_ & mr_mode) != 0; }

  [[nodiscard]] const std::string& provider() const { return provider_; }

  [[nodiscard]] const std::string& serving_name() const { return serving_name_; }

  [[nodiscard]] const FabricPort& serving() const { return serving_; }

  [[nodiscard]] fid_fabric* fabric() const { return fabric_.get(); }

  [[nodiscard]] const FabricLibrary& library() const { return *library_; }

  [[nodiscard]] const fi_info& info() const { return *info_; }

  // "what over <provider>: why".
  [[nodiscard]] Error Failed(long code, const std::string& what) const;

 private:
  FabricDomain(const FabricLibrary* library, InfoPtr info);

  [[nodiscard]] static Result<std::shared_ptr<FabricDomain>> OpenOne(const FabricLibrary* library,
                                                                     const FabricOptions& options,
                                                                     const std::string& provider);

  [[nodiscard]] Result<FidPtr<fid_cq>> OpenQueue(std::size_t size, int* wait_fd) const;

  const FabricLibrary* const library_;
  const InfoPtr info_;
  const std::string provider_;
  std::uint64_t mr_mode_ = 0;
  // Parents first.
  FidPtr<fid_fabric> fabric_;
  FidPtr<fid_domain> domain_;
  FabricPort serving_;
  std::string serving_name_;
};

// fabric_provider.cc: the provider's card that has the address.  kUnavailable: it has none;
// kInvalidArgument: no address.
[[nodiscard]] Result<InfoPtr> AskProvider(const FabricLibrary& library,
                                          const FabricOptions& options,
                                          const std::string& provider);

}  // namespace holdfast::transport
