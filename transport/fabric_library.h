// libfabric's entry points, and owners of its objects.  For transport/fabric_* only.
//
// Most of libfabric's interface is inline functions over tables that its objects carry; only these
// few are symbols.
//
// Threads:   any; the table is constant once loaded.
// Ownership: FidPtr closes on destruction.  An object refuses to close while another that was made
//            of it is open, so members are declared parents first.
// Errors:    fabric_version.h.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "common/result.h"

namespace holdfast::transport {

struct FabricLibrary {
  decltype(&::fi_getinfo) getinfo = nullptr;
  decltype(&::fi_freeinfo) freeinfo = nullptr;
  decltype(&::fi_dupinfo) dupinfo = nullptr;
  decltype(&::fi_fabric) fabric = nullptr;
  decltype(&::fi_version) version = nullptr;
  decltype(&::fi_strerror) strerror = nullptr;
  std::string path;  // the file
};

[[nodiscard]] Result<const FabricLibrary*> LoadFabricLibrary(
    const std::vector<std::string>& libraries);

struct CloseFid {
  template <class Object>
  void operator()(Object* object) const {
    (void)fi_close(&object->fid);
  }
};

template <class Object>
using FidPtr = std::unique_ptr<Object, CloseFid>;

using InfoPtr = std::unique_ptr<fi_info, decltype(&::fi_freeinfo)>;

// "code": libfabric's, positive or negative.  kUnavailable for what another try may mend, kNotFound
// for a key or range that the peer refuses, kNoSpace, kPermission, else kIoError.
[[nodiscard]] Error FabricError(const FabricLibrary& library,
                                long code,
                                std::string_view what,
                                SourceLine where = SourceLine::Current());

// Whether the same read may go through if it is tried again, on a new connection.
[[nodiscard]] bool IsTransient(long code);

}  // namespace holdfast::transport
