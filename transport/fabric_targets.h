// Local memory that is registered to be read into, where the provider wants that (FI_MR_LOCAL).
// For transport/fabric_* only.
//
// Threads:   any; one mutex.
// Ownership: shares registrations with the reads that use them.
// Errors:    of Find: those of a registration.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "common/bytes.h"
#include "common/mutex.h"
#include "common/result.h"
#include "transport/fabric_domain.h"

namespace holdfast::transport {

class FabricTargets {
 public:
  explicit FabricTargets(std::shared_ptr<FabricDomain> domain) : domain_(std::move(domain)) {}

  // Blocks for as long as pinning takes.  Nothing to do where the provider registers by itself.
  // kAlreadyExists: it overlaps another one.
  [[nodiscard]] Status Add(MutableByteView memory);
  void Remove(MutableByteView memory);

  // The registration that holds "memory", or one made for it alone: slow, but right.  Null where
  // none is wanted.
  [[nodiscard]] Result<std::shared_ptr<fid_mr>> Find(MutableByteView memory, fid_ep* endpoint);

 private:
  struct Entry {
    std::uintptr_t end;
    std::shared_ptr<fid_mr> registration;
  };

  // It closes before the domain, also where a read is the last to hold it.
  [[nodiscard]] Result<std::shared_ptr<fid_mr>> Register(MutableByteView memory, fid_ep* endpoint);

  const std::shared_ptr<FabricDomain> domain_;
  Mutex mutex_;
  std::map<std::uintptr_t, Entry> entries_ HF_GUARDED_BY(mutex_);  // by begin
};

}  // namespace holdfast::transport
