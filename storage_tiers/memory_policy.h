// On which NUMA node the pages of a slot are made: next to the GPU that will write them.
//
// A policy of the mapping (mbind), not of the threads that pre-fault: on tmpfs it becomes the
// policy of the file, so it holds whoever touches a page first, also for one that was swapped out,
// with small and with huge pages, for a touch and for fallocate, and over an mpol= of the mount.
// On hugetlbfs it is that of our mapping, by which its pages are made.  Preferred, not bound: a
// slot on the other node is slower, none at all is a job that cannot start.
//
// Threads:   any.
// Ownership: values; borrows the mapping for the call.
// Errors:    none that a slot sees: what cannot be done is told once in the log.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"

namespace holdfast::storage_tiers {

// No node in particular.
inline constexpr std::int32_t kAnyNode = -1;

// The system calls; tests have others.
class MemoryPolicy {
 public:
  virtual ~MemoryPolicy() = default;

  // The nodes with memory, rising.  Empty: not known.
  [[nodiscard]] virtual std::vector<std::int32_t> Nodes() const = 0;

  // Pages of "mapping" that are not there yet are made on "node", or elsewhere if it is full.
  [[nodiscard]] virtual Status Prefer(MutableByteView mapping, std::int32_t node) const = 0;
};

// Of this machine.
[[nodiscard]] std::shared_ptr<const MemoryPolicy> SystemMemoryPolicy();

// "0-1,4" as sysfs writes sets of nodes.  Empty: it cannot be read, or names a node from 1024 on.
[[nodiscard]] std::vector<std::int32_t> ParseNodes(std::string_view text);

class NodePlacement {
 public:
  explicit NodePlacement(std::shared_ptr<const MemoryPolicy> policy);

  // Before the first page of the mapping is touched.  Nothing is called where there is one node,
  // or none is wanted.  "node" comes from a client and may be anything.
  void Place(MutableByteView mapping, std::int32_t node) const;

 private:
  void Tell(const std::string& why) const;

  const std::shared_ptr<const MemoryPolicy> policy_;
  const std::vector<std::int32_t> nodes_;
  mutable std::atomic<bool> told_{false};
};

}  // namespace holdfast::storage_tiers
