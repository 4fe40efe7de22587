// Groups: which nodes of the job protect each other (ec/grouping.h, docs/peers.md).

#include <algorithm>
#include <utility>

#include "daemon/core/coordinator.h"
#include "ec/grouping.h"

namespace holdfast::daemon {
namespace {

// FNV-1a: tells whether the groups are those that were recorded; never used against an enemy.
class Digest {
 public:
  void Add(const std::string& bytes) {
    for (const char byte : bytes) {
      Mix(static_cast<unsigned char>(byte));
    }
    Mix(0x1FF);
  }

  void Add(std::uint64_t number) { Add(std::to_string(number)); }

  std::uint64_t value() const { return value_; }

 private:
  void Mix(std::uint64_t part) { value_ = (value_ ^ part) * 0x100000001B3ULL; }

  std::uint64_t value_ = 0xCBF29CE484222325ULL;
};

}  // namespace

bool Coordinator::WantsGroups() const {
  return context_->options.code_parity > 0 && ranks_of_.size() > 1;
}

// Every node's lengths, or nothing while one of them has not said its own.
std::optional<std::vector<ec::Node>> Coordinator::NodesToGroup() const {
  std::vector<ec::Node> nodes;
  for (const auto& [uuid, ranks] : ranks_of_) {
    const auto report = reports_.find(uuid);
    if (report == reports_.end()) {
      return std::nullopt;
    }
    ec::Node node{uuid, {}, report->second.failure_domain};
    for (const Rank rank : ranks) {
      const auto state = report->second.ranks.find(rank);
      if (state == report->second.ranks.end() || state->second.image_bytes == 0) {
        return std::nullopt;
      }
      node.shard_bytes.push_back(state->second.image_bytes + state->second.static_bytes);
    }
    nodes.push_back(std::move(node));
  }
  return nodes;
}

// What is made of the same facts is the same again: a coordinator that comes back finds its own
// groups, and rows that were made for them count.
void Coordinator::UpdateGroups() {
  const auto nodes = WantsGroups() && groups_stale_ ? NodesToGroup() : std::nullopt;
  if (!nodes.has_value()) {
    return;
  }
  groups_stale_ = false;
  not_coded_ = "";
  const Result<std::vector<ec::Group>> made =
      ec::MakeGroups(*nodes, {context_->options.code_data, context_->options.code_parity});
  if (!made.has_value()) {
    not_coded_ = made.error().message;
    DropGroups();
    return;
  }
  std::vector<GroupView> groups;
  Digest digest;
  for (const ec::Group& group : made.value()) {
    GroupView view{{}, group.data, group.parity, group.reduced, group.uncovered_domains};
    digest.Add(std::uint64_t{group.data} * 1000 + group.parity);
    for (const std::uint32_t member : group.members) {
      view.nodes.push_back((*nodes)[member].uuid);
      digest.Add(view.nodes.back());
    }
    groups.push_back(std::move(view));
  }
  TakeGroups(std::move(groups), digest.value());
}

void Coordinator::DropGroups() {
  groups_.clear();
  Reindex();
}

void Coordinator::TakeGroups(std::vector<GroupView> groups, std::uint64_t digest) {
  proto::IncarnationRecord* present = job_->Present();
  if (present->groups_version() == 0 || present->groups_digest() != digest) {
    present->set_groups_version(present->groups_version() + 1);
    present->set_groups_digest(digest);
    job_->SaveIncarnation(context_, epoch_.number);  // before anybody hears the number
  }
  const bool same = group_version_ == present->groups_version() && groups_ == groups;
  if (same) {
    return;
  }
  group_version_ = present->groups_version();
  groups_ = std::move(groups);
  group_of_.clear();
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    for (const std::string& node : groups_[i].nodes) {
      group_of_[node] = i;
    }
    for (const std::string& domain : groups_[i].uncovered_domains) {
      Log("the loss of failure domain " + domain + " is not covered: more than " +
          std::to_string(groups_[i].parity) + " of its nodes are in one group");
    }
  }
  SetTarget(std::nullopt);
  ++tailored_;
  Reindex();
}

// The code sets of an id on one group: in the lengths that its own shards have, whatever layouts
// are in force now.
std::optional<std::vector<CodeSet>> Coordinator::SetsOf(const GroupView& group,
                                                        const SealedShards& shards) const {
  std::size_t local_ranks = 0;
  for (const std::string& node : group.nodes) {
    local_ranks = std::max(local_ranks, ranks_of_.at(node).size());
  }
  std::vector<CodeSet> sets;
  for (std::size_t local = 0; local < local_ranks; ++local) {
    CodeSet set;
    set.local_rank = static_cast<std::uint32_t>(local);
    set.epoch = epoch_.number;
    std::vector<ByteCount> lengths;
    std::vector<ByteCount> statics;
    for (const std::string& node : group.nodes) {
      const std::vector<Rank>& ranks = ranks_of_.at(node);
      const auto shard = local < ranks.size() ? shards.find(ranks[local]) : shards.end();
      if (local < ranks.size() && shard == shards.end()) {
        return std::nullopt;
      }
      lengths.push_back(shard == shards.end() ? 0 : shard->second->image_bytes);
      statics.push_back(shard == shards.end() ? 0 : shard->second->static_bytes);
      set.ranks.push_back(shard == shards.end() ? 0 : ranks[local]);
    }
    Result<ec::Geometry> geometry = ec::MakeGeometry(
        group_version_, group.nodes, {group.data, group.parity}, std::move(lengths));
    if (!geometry.has_value()) {
      return std::nullopt;
    }
    set.geometry = std::move(geometry).value();
    if (std::any_of(statics.begin(), statics.end(), [](ByteCount bytes) { return bytes != 0; })) {
      set.static_bytes = std::move(statics);
    }
    std::optional<CodeSet> frozen = StaticSetOf(set);
    if (!frozen.has_value() && !set.static_bytes.empty()) {
      return std::nullopt;
    }
    sets.push_back(std::move(set));
    if (frozen.has_value()) {
      sets.push_back(*std::move(frozen));
    }
  }
  return sets;
}

}  // namespace holdfast::daemon
