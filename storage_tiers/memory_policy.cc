#include "storage_tiers/memory_policy.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <fstream>
#include <string>
#include <utility>

#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"

namespace holdfast::storage_tiers {
namespace {

// CONFIG_NODES_SHIFT is at most 10.
constexpr std::int32_t kMostNodes = 1024;
// Of <linux/mempolicy.h>, which libnuma's header would bring in other words.
constexpr int kPreferred = 1;  // MPOL_PREFERRED

class System final : public MemoryPolicy {
 public:
  [[nodiscard]] std::vector<std::int32_t> Nodes() const override {
    std::ifstream file("/sys/devices/system/node/has_memory");
    std::string text;
    std::getline(file, text);
    return ParseNodes(text);
  }

  [[nodiscard]] Status Prefer(MutableByteView mapping, std::int32_t node) const override {
    constexpr std::size_t kWordBits = sizeof(unsigned long) * CHAR_BIT;
    std::array<unsigned long, kMostNodes / kWordBits> mask{};
    const auto bit = static_cast<std::size_t>(node);
    mask.at(bit / kWordBits) = 1UL << (bit % kWordBits);
    // The kernel takes one bit less than it is told.
    const long result = ::syscall(
        SYS_mbind, mapping.data(), mapping.size(), kPreferred, mask.data(), kMostNodes + 1, 0U);
    return result == 0 ? Status(Ok()) : Status(ErrnoError(errno, "mbind"));
  }
};

}  // namespace

std::shared_ptr<const MemoryPolicy> SystemMemoryPolicy() {
  return std::make_shared<const System>();
}

std::vector<std::int32_t> ParseNodes(std::string_view text) {
  std::vector<std::int32_t> nodes;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto number = [&](std::int32_t* value) {
    const auto [next, error] = std::from_chars(at, end, *value);
    at = next;
    return error == std::errc() && *value >= 0 && *value < kMostNodes;
  };
  while (at != end) {
    std::int32_t first = 0;
    if (!number(&first)) {
      return {};
    }
    std::int32_t last = first;
    if (at != end && *at == '-') {
      ++at;
      if (!number(&last)) {
        return {};
      }
    }
    for (std::int32_t node = first; node <= last; ++node) {
      nodes.push_back(node);
    }
    if (at != end && *at++ != ',') {
      return {};
    }
  }
  return nodes;
}

NodePlacement::NodePlacement(std::shared_ptr<const MemoryPolicy> policy)
    : policy_(std::move(policy)), nodes_(policy_->Nodes()) {}

void NodePlacement::Place(MutableByteView mapping, std::int32_t node) const {
  if (nodes_.size() < 2 || node == kAnyNode) {
    return;
  }
  if (std::find(nodes_.begin(), nodes_.end(), node) == nodes_.end()) {
    Tell("a client names node " + std::to_string(node) + " for its GPU, which is none of the " +
         std::to_string(nodes_.size()) + " nodes with memory here");
    return;
  }
  if (const Status placed = policy_->Prefer(mapping, node); placed.has_error()) {
    Tell(placed.error().ToString());
  }
}

void NodePlacement::Tell(const std::string& why) const {
  if (!told_.exchange(true)) {
    LogWarning("arena.numa",
               "slots are not placed on the NUMA node of their GPU, which costs some of the copy "
               "rate: " +
                   why);
  }
}

}  // namespace holdfast::storage_tiers
