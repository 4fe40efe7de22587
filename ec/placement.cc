#include "ec/placement.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace holdfast::ec {
namespace {

using Nodes = std::vector<std::uint32_t>;

// A group that is being filled.
struct Bin {
  std::uint32_t size = 0;
  Nodes nodes;
  std::map<std::uint32_t, std::uint32_t> domains;  // how many members of each

  [[nodiscard]] std::uint32_t Free() const {
    return size - static_cast<std::uint32_t>(nodes.size());
  }

  [[nodiscard]] std::uint32_t Of(std::uint32_t domain) const {
    const auto found = domains.find(domain);
    return found == domains.end() ? 0 : found->second;
  }

  // What the loss of a domain would take beyond what parity gives back.
  [[nodiscard]] std::uint32_t Excess(std::uint32_t domain, std::uint32_t parity) const {
    const std::uint32_t count = Of(domain);
    return count - std::min(count, parity);
  }
};

// Which groups the nodes of a class go to, and how many of them to each.
struct Share {
  std::size_t bin;
  std::uint32_t nodes;
};

class Placement {
 public:
  explicit Placement(const PlacementInput& input) : input_(input) {
    for (const std::uint32_t size : input.sizes) {
      bins_.push_back({.size = size, .nodes = {}, .domains = {}});
    }
  }

  std::vector<Nodes> Run() {
    std::vector<const Nodes*> rest;
    for (const Nodes& members : input_.classes) {
      const auto shares = WholeGroups(members.size());
      if (shares.empty()) {
        rest.push_back(&members);
      } else {
        Spread(members, shares);
      }
    }
    for (const Nodes* members : rest) {
      Spread(*members, NextGroups(members->size()));
    }
    Mend();
    std::vector<Nodes> groups;
    for (Bin& bin : bins_) {
      groups.push_back(std::move(bin.nodes));
    }
    return groups;
  }

 private:
  // Empty groups that "count" nodes fill exactly; none if there are no such.
  [[nodiscard]] std::vector<Share> WholeGroups(std::size_t count) const {
    const std::uint32_t small = input_.sizes.back();
    std::vector<std::size_t> larger;
    std::vector<std::size_t> smaller;
    for (std::size_t i = 0; i < bins_.size(); ++i) {
      if (bins_[i].nodes.empty()) {
        (bins_[i].size > small ? larger : smaller).push_back(i);
      }
    }
    for (std::size_t a = 0; a <= larger.size() && a * (small + 1) <= count; ++a) {
      const std::size_t left = count - a * (small + 1);
      if (left % small == 0 && left / small <= smaller.size()) {
        std::vector<Share> shares;
        for (std::size_t i = 0; i < a; ++i) {
          shares.push_back({larger[i], small + 1});
        }
        for (std::size_t i = 0; i < left / small; ++i) {
          shares.push_back({smaller[i], small});
        }
        return shares;
      }
    }
    return {};
  }

  // The next free places: first of the group that is begun, then of empty ones in order.
  [[nodiscard]] std::vector<Share> NextGroups(std::size_t count) const {
    std::vector<Share> shares;
    const auto take = [&](bool begun) {
      for (std::size_t i = 0; i < bins_.size() && count > 0; ++i) {
        if (bins_[i].Free() > 0 && bins_[i].nodes.empty() != begun) {
          const auto nodes =
              static_cast<std::uint32_t>(std::min<std::size_t>(bins_[i].Free(), count));
          shares.push_back({i, nodes});
          count -= nodes;
        }
      }
    };
    take(true);
    take(false);
    return shares;
  }

  // The nodes, those of the largest domain first.
  [[nodiscard]] Nodes ByDomain(const Nodes& members) const {
    std::map<std::uint32_t, std::size_t> counts;
    for (const std::uint32_t node : members) {
      ++counts[input_.domains[node]];
    }
    Nodes order = members;
    std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      const std::uint32_t x = input_.domains[a];
      const std::uint32_t y = input_.domains[b];
      return std::tuple(counts[y], x) < std::tuple(counts[x], y);
    });
    return order;
  }

  void Put(std::uint32_t node, Bin* bin) {
    bin->nodes.push_back(node);
    ++bin->domains[input_.domains[node]];
  }

  // Each node goes where its domain has the fewest members; of those, where most places are left.
  void Spread(const Nodes& members, std::vector<Share> shares) {
    for (const std::uint32_t node : ByDomain(members)) {
      const std::uint32_t domain = input_.domains[node];
      Share* best = nullptr;
      for (Share& share : shares) {
        if (share.nodes == 0) {
          continue;
        }
        const std::uint32_t here = bins_[share.bin].Of(domain);
        const std::uint32_t there = best == nullptr ? 0 : bins_[best->bin].Of(domain);
        if (best == nullptr || here < there || (here == there && share.nodes > best->nodes)) {
          best = &share;
        }
      }
      Put(node, &bins_[best->bin]);
      --best->nodes;
    }
  }

  // What the two groups' domains "a" and "b" have too many of.
  [[nodiscard]] std::uint32_t ExcessOf(const Bin& one,
                                       const Bin& other,
                                       std::uint32_t a,
                                       std::uint32_t b) const {
    const std::uint32_t m = input_.parity;
    return one.Excess(a, m) + other.Excess(a, m) + one.Excess(b, m) + other.Excess(b, m);
  }

  void Exchange(Bin* one, std::size_t i, Bin* other, std::size_t j) {
    const std::uint32_t a = input_.domains[one->nodes[i]];
    const std::uint32_t b = input_.domains[other->nodes[j]];
    --one->domains[a];
    ++one->domains[b];
    --other->domains[b];
    ++other->domains[a];
    std::swap(one->nodes[i], other->nodes[j]);
  }

  // Looks for a node of the same class elsewhere that can take the place of node "i" of "bin" so
  // that fewer members are beyond parity; true if there was one.
  bool MoveAway(Bin* bin, std::size_t i) {
    const std::uint32_t a = input_.domains[bin->nodes[i]];
    for (Bin& other : bins_) {
      // Where the domain is at its limit too, nothing is won.
      if (&other == bin || other.Of(a) >= input_.parity) {
        continue;
      }
      for (std::size_t j = 0; j < other.nodes.size(); ++j) {
        const std::uint32_t b = input_.domains[other.nodes[j]];
        if (b == a || class_of_[other.nodes[j]] != class_of_[bin->nodes[i]]) {
          continue;
        }
        const std::uint32_t before = ExcessOf(*bin, other, a, b);
        Exchange(bin, i, &other, j);
        if (ExcessOf(*bin, other, a, b) < before) {
          return true;
        }
        Exchange(bin, i, &other, j);
      }
    }
    return false;
  }

  // Classes meet in groups that neither of them filled alone: exchanges mend what that cost.  Each
  // lowers the sum of what is beyond parity, so it ends.
  void Mend() {
    class_of_.resize(input_.domains.size());
    for (std::uint32_t c = 0; c < input_.classes.size(); ++c) {
      for (const std::uint32_t node : input_.classes[c]) {
        class_of_[node] = c;
      }
    }
    for (Bin& bin : bins_) {
      for (std::size_t i = 0; i < bin.nodes.size();) {
        const bool too_many = bin.Excess(input_.domains[bin.nodes[i]], input_.parity) > 0;
        // What took the place is looked at too.
        i += too_many && MoveAway(&bin, i) ? 0 : 1;
      }
    }
  }

  const PlacementInput& input_;
  std::vector<Bin> bins_;
  Nodes class_of_;  // by node
};

}  // namespace

std::vector<std::vector<std::uint32_t>> PlaceNodes(const PlacementInput& input) {
  return Placement(input).Run();
}

}  // namespace holdfast::ec
