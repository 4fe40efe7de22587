#include "transport/fabric_targets.h"

#include <utility>

namespace holdfast::transport {

namespace {

std::uintptr_t BeginOf(MutableByteView memory) {
  return reinterpret_cast<std::uintptr_t>(memory.data());
}

}  // namespace

Result<std::shared_ptr<fid_mr>> FabricTargets::Register(MutableByteView memory, fid_ep* endpoint) {
  HF_TRY(FidPtr<fid_mr> made, domain_->Register(memory, FI_READ, endpoint));
  fid_mr* raw = made.release();
  return std::shared_ptr<fid_mr>(raw, [domain = domain_](fid_mr* mr) { CloseFid{}(mr); });
}

Status FabricTargets::Add(MutableByteView memory) {
  // Memory that is bound to an endpoint is registered for each read: lanes come and go.
  if (!domain_->Wants(FI_MR_LOCAL) || domain_->Wants(FI_MR_ENDPOINT) || memory.empty()) {
    return Ok();
  }
  const std::uintptr_t begin = BeginOf(memory);
  const std::uintptr_t end = begin + memory.size();
  HF_TRY(auto registration, Register(memory, nullptr));
  const MutexLock lock(mutex_);
  const auto next = entries_.lower_bound(begin);
  const bool overlaps = (next != entries_.end() && next->first < end) ||
                        (next != entries_.begin() && std::prev(next)->second.end > begin);
  if (overlaps) {
    return Error(Errc::kAlreadyExists, "memory that overlaps a fabric target of this process");
  }
  entries_.emplace(begin, Entry{end, std::move(registration)});
  return Ok();
}

void FabricTargets::Remove(MutableByteView memory) {
  std::shared_ptr<fid_mr> last;  // closed without the lock
  const MutexLock lock(mutex_);
  const auto found = entries_.find(BeginOf(memory));
  if (found != entries_.end()) {
    last = std::move(found->second.registration);
    entries_.erase(found);
  }
}

Result<std::shared_ptr<fid_mr>> FabricTargets::Find(MutableByteView memory, fid_ep* endpoint) {
  if (!domain_->Wants(FI_MR_LOCAL)) {
    return std::shared_ptr<fid_mr>();
  }
  const std::uintptr_t begin = BeginOf(memory);
  {
    const MutexLock lock(mutex_);
    const auto next = entries_.upper_bound(begin);
    if (next != entries_.begin() && begin + memory.size() <= std::prev(next)->second.end) {
      return std::prev(next)->second.registration;
    }
  }
  return Register(memory, endpoint);
}

}  // namespace holdfast::transport
