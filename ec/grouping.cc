#include "ec/grouping.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "ec/geometry.h"
#include "ec/placement.h"

namespace holdfast::ec {
namespace {

Error Invalid(const std::string& message) {
  return {Errc::kInvalidArgument, "grouping: " + message};
}

Status CheckNode(const Node& node, std::size_t index) {
  const std::string name = "node " + std::to_string(index);
  if (node.uuid.size() != kNodeUuidBytes) {
    return Invalid(name + " has a uuid of " + std::to_string(node.uuid.size()) +
                   " bytes in place of 16");
  }
  if (node.shard_bytes.size() > kMaxLocalRanks) {
    return Invalid(name + " has " + std::to_string(node.shard_bytes.size()) + " local ranks; " +
                   std::to_string(kMaxLocalRanks) + " is the most");
  }
  for (const ByteCount bytes : node.shard_bytes) {
    if (bytes > kMaxShardBytes) {
      return Invalid(name + " has a shard of " + std::to_string(bytes) + " bytes; " +
                     std::to_string(kMaxShardBytes) + " is the most");
    }
  }
  return Ok();
}

// The nodes' indices by uuid.
Result<std::vector<std::uint32_t>> OrderByUuid(std::span<const Node> nodes) {
  std::vector<std::uint32_t> order(nodes.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return nodes[a].uuid < nodes[b].uuid;
  });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (nodes[order[i - 1]].uuid == nodes[order[i]].uuid) {
      return Invalid("nodes " + std::to_string(order[i - 1]) + " and " + std::to_string(order[i]) +
                     " have the same uuid");
    }
  }
  return order;
}

ByteCount ShardAt(const Node& node, std::size_t local_rank) {
  return local_rank < node.shard_bytes.size() ? node.shard_bytes[local_rank] : 0;
}

bool NearlyEqual(const Node& a, const Node& b) {
  constexpr ByteCount kPart = 32;
  for (std::size_t i = 0; i < std::max(a.shard_bytes.size(), b.shard_bytes.size()); ++i) {
    const auto [less, more] = std::minmax({ShardAt(a, i), ShardAt(b, i)});
    if (more - less > more / kPart) {
      return false;
    }
  }
  return true;
}

// Falling lengths, empty ranks at the end counting as missing; equal ones by uuid.
bool LargerShards(const Node& a, const Node& b) {
  for (std::size_t i = 0; i < std::max(a.shard_bytes.size(), b.shard_bytes.size()); ++i) {
    if (ShardAt(a, i) != ShardAt(b, i)) {
      return ShardAt(a, i) > ShardAt(b, i);
    }
  }
  return a.uuid < b.uuid;
}

// A job has some dozens of stages; the bound keeps lengths that all differ from costing minutes.
constexpr std::size_t kMaxClasses = 256;

// The nodes in classes of nearly equal shards, the largest first.
std::vector<std::vector<std::uint32_t>> ClassesOf(std::span<const Node> nodes,
                                                  std::vector<std::uint32_t> order) {
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return LargerShards(nodes[a], nodes[b]);
  });
  std::vector<std::vector<std::uint32_t>> classes;
  for (const std::uint32_t index : order) {
    // Each class is known by its first node, so that many small steps do not add up.
    const auto fitting = std::find_if(classes.begin(), classes.end(), [&](const auto& members) {
      return NearlyEqual(nodes[members.front()], nodes[index]);
    });
    if (fitting != classes.end()) {
      fitting->push_back(index);
    } else if (classes.size() < kMaxClasses) {
      classes.push_back({index});
    } else {
      classes.back().push_back(index);
    }
  }
  return classes;
}

// Numbers for domains, by name; nodes whose domain is not known get one each.
std::vector<std::uint32_t> DomainsOf(std::span<const Node> nodes,
                                     const std::vector<std::uint32_t>& by_uuid) {
  std::map<std::string_view, std::uint32_t> numbers;
  for (const Node& node : nodes) {
    if (!node.failure_domain.empty()) {
      numbers.emplace(node.failure_domain, 0);
    }
  }
  std::uint32_t next = 0;
  for (auto& [name, number] : numbers) {
    number = next++;
  }
  std::vector<std::uint32_t> domains(nodes.size());
  for (const std::uint32_t index : by_uuid) {
    const std::string& name = nodes[index].failure_domain;
    domains[index] = name.empty() ? next++ : numbers[name];
  }
  return domains;
}

std::vector<std::uint32_t> GroupSizes(std::size_t nodes, const GroupingOptions& options) {
  const std::size_t wished = std::size_t{options.data} + options.parity;
  std::size_t groups = (nodes + wished - 1) / wished;
  while (groups > 1 && nodes / groups < std::size_t{options.parity} + 2) {
    --groups;
  }
  std::vector<std::uint32_t> sizes(groups);
  for (std::size_t i = 0; i < groups; ++i) {
    sizes[i] = static_cast<std::uint32_t>(nodes / groups + (i < nodes % groups ? 1 : 0));
  }
  return sizes;
}

Group Describe(std::span<const Node> nodes,
               std::vector<std::uint32_t> members,
               const GroupingOptions& options) {
  std::sort(members.begin(), members.end(), [&](std::uint32_t a, std::uint32_t b) {
    return nodes[a].uuid < nodes[b].uuid;
  });
  const auto size = static_cast<std::uint32_t>(members.size());
  Group group;
  group.parity = std::min(options.parity, size - 1);
  group.data = size - group.parity;
  group.reduced = group.parity < options.parity;
  std::map<std::string, std::uint32_t> counts;
  for (const std::uint32_t index : members) {
    if (!nodes[index].failure_domain.empty()) {
      ++counts[nodes[index].failure_domain];
    }
  }
  for (const auto& [domain, count] : counts) {
    if (count > group.parity) {
      group.uncovered_domains.push_back(domain);
    }
  }
  group.members = std::move(members);
  return group;
}

}  // namespace

Result<std::vector<Group>> MakeGroups(std::span<const Node> nodes, const GroupingOptions& options) {
  HF_TRYV(ValidateCode({.data = options.data, .parity = options.parity}));
  if (nodes.size() > kMaxNodes) {
    return Invalid(std::to_string(nodes.size()) + " nodes; " + std::to_string(kMaxNodes) +
                   " is the most");
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    HF_TRYV(CheckNode(nodes[i], i));
  }
  if (nodes.empty()) {
    return std::vector<Group>();
  }
  HF_TRY(const auto by_uuid, OrderByUuid(nodes));
  const PlacementInput input{.classes = ClassesOf(nodes, by_uuid),
                             .domains = DomainsOf(nodes, by_uuid),
                             .sizes = GroupSizes(nodes.size(), options),
                             .parity = options.parity};
  std::vector<Group> groups;
  for (auto& members : PlaceNodes(input)) {
    groups.push_back(Describe(nodes, std::move(members), options));
  }
  std::sort(groups.begin(), groups.end(), [&](const Group& a, const Group& b) {
    return nodes[a.members.front()].uuid < nodes[b.members.front()].uuid;
  });
  return groups;
}

std::vector<ByteCount> ShardBytesOf(std::span<const Node> nodes,
                                    const Group& group,
                                    std::uint32_t local_rank) {
  std::vector<ByteCount> bytes;
  bytes.reserve(group.members.size());
  for (const std::uint32_t index : group.members) {
    bytes.push_back(ShardAt(nodes[index], local_rank));
  }
  return bytes;
}

}  // namespace holdfast::ec
