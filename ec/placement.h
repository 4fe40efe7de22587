// Puts nodes into groups of given sizes: like with like first, then no domain twice where it can be
// helped.  The part of grouping.h that is a search; nodes are numbers here.
//
// Threads:   pure functions; any thread.
// Errors:    none: the input is grouping.cc's own.
#pragma once

#include <cstdint>
#include <vector>

namespace holdfast::ec {

struct PlacementInput {
  // Nodes that belong together, in an order that depends on the nodes alone.
  std::vector<std::vector<std::uint32_t>> classes;
  std::vector<std::uint32_t> domains;  // by node
  std::vector<std::uint32_t> sizes;  // of the groups, falling; together as many as there are nodes
  std::uint32_t parity = 0;          // members of one domain that a group can lose
};

// The nodes of each group.
//
// At most one group fewer than there are classes holds nodes of two or more classes.  If all nodes
// are of one class, no group has more than ceil(d / groups) of the d nodes of a domain.
[[nodiscard]] std::vector<std::vector<std::uint32_t>> PlaceNodes(const PlacementInput& input);

}  // namespace holdfast::ec
