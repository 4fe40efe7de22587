// The jobs of a cluster, from what each node says of them.

#include <algorithm>
#include <tuple>
#include <utility>

#include "cli/cluster/cluster_merge.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

using Named = std::pair<std::string, const proto::JobStatus*>;  // node, what it says

bool ServesRankZero(const std::string& node, const proto::JobStatus& job) {
  if (job.members().empty()) {
    return true;
  }
  return std::any_of(job.members().begin(), job.members().end(), [&](const auto& member) {
    return member.node_uuid() == node &&
           std::count(member.ranks().begin(), member.ranks().end(), 0U) > 0;
  });
}

// Who is believed first: the latest start, then who decides.
const Named& Best(const std::vector<Named>& said) {
  return *std::max_element(said.begin(), said.end(), [](const Named& a, const Named& b) {
    return std::tuple(a.second->incarnation(), ServesRankZero(a.first, *a.second)) <
           std::tuple(b.second->incarnation(), ServesRankZero(b.first, *b.second));
  });
}

bool IsNewer(const proto::SnapshotId& a, const proto::SnapshotId& b) {
  return std::tuple(a.incarnation(), a.step()) > std::tuple(b.incarnation(), b.step());
}

void MergeTier(const proto::TierStatus& tier, const std::string& node, proto::JobStatus* job) {
  auto* tiers = job->mutable_tiers();
  const auto same = std::find_if(
      tiers->begin(), tiers->end(), [&](const auto& known) { return known.root() == tier.root(); });
  if (same == tiers->end()) {
    *job->add_tiers() = tier;
    return;
  }
  if (std::tuple(tier.newest_durable_incarnation(), tier.newest_durable_step()) >
      std::tuple(same->newest_durable_incarnation(), same->newest_durable_step())) {
    same->set_newest_durable_incarnation(tier.newest_durable_incarnation());
    same->set_newest_durable_step(tier.newest_durable_step());
  }
  same->set_flushed_bytes(same->flushed_bytes() + tier.flushed_bytes());
  if (tier.has_flushing() && same->has_flushing()) {
    same->set_flushing_bytes(same->flushing_bytes() + tier.flushing_bytes());
    same->set_flushing_done_bytes(same->flushing_done_bytes() + tier.flushing_done_bytes());
  }
  if (!tier.healthy() && same->healthy()) {
    same->set_healthy(false);
    same->set_last_error("node " + NodeName(node) + ": " + tier.last_error());
  }
}

void MergeGroups(const proto::JobStatus& from, proto::JobStatus* job) {
  for (const proto::GroupStatus& group : from.groups()) {
    const bool known =
        std::any_of(job->groups().begin(), job->groups().end(), [&](const proto::GroupStatus& g) {
          return std::equal(g.node_uuids().begin(),
                            g.node_uuids().end(),
                            group.node_uuids().begin(),
                            group.node_uuids().end());
        });
    if (!known) {
      *job->add_groups() = group;
    }
  }
}

void MergeStatus(const Named& said, ClusterJob* job) {
  const auto& [node, from] = said;
  job->nodes.insert(node);
  proto::JobStatus* into = &job->status;
  into->set_arena_bytes(into->arena_bytes() + from->arena_bytes());
  if (from->has_newest_complete() &&
      (!into->has_newest_complete() || IsNewer(from->newest_complete(), into->newest_complete()))) {
    *into->mutable_newest_complete() = from->newest_complete();
  }
  if (from->incarnation() != into->incarnation()) {
    return;  // it has not heard of the latest start
  }
  into->set_live(into->live() || from->live());
  for (const proto::RankStatus& rank : from->ranks()) {
    *into->add_ranks() = rank;
    job->servers[rank.rank()] = node;
  }
  for (const proto::TierStatus& tier : from->tiers()) {
    MergeTier(tier, node, into);
  }
  if (job->decider != node) {
    MergeGroups(*from, into);
  }
}

ClusterJob MergeJob(const std::vector<Named>& said) {
  const Named& best = Best(said);
  ClusterJob job;
  job.status = *best.second;
  job.status.clear_ranks();
  job.status.clear_tiers();
  job.status.clear_arena_bytes();
  job.status.clear_newest_complete();
  job.decider = ServesRankZero(best.first, *best.second) ? best.first : "";
  for (const proto::MemberNode& member : job.status.members()) {
    for (const std::uint32_t rank : member.ranks()) {
      job.servers[rank] = member.node_uuid();
    }
  }
  for (const Named& one : said) {
    MergeStatus(one, &job);
  }
  auto* ranks = job.status.mutable_ranks();
  std::stable_sort(ranks->pointer_begin(), ranks->pointer_end(), [](const auto* a, const auto* b) {
    return a->rank() < b->rank();
  });
  std::set<std::uint32_t> served;
  for (const proto::RankStatus& rank : *ranks) {
    served.insert(rank.rank());
  }
  for (std::uint32_t rank = 0; rank < job.status.world_size(); ++rank) {
    if (!served.contains(rank)) {
      job.missing_ranks.push_back(rank);
    }
  }
  return job;
}

}  // namespace

std::string ClusterJob::ServerOf(std::uint32_t rank) const {
  const auto found = servers.find(rank);
  return found == servers.end() ? "" : found->second;
}

std::vector<ClusterJob> MergeJobs(const std::vector<proto::NodeAnswer>& nodes) {
  // By name for people, by uid since two jobs of one name are two jobs.
  std::map<std::pair<std::string, std::string>, std::vector<Named>> by_job;
  for (const proto::NodeAnswer& answer : nodes) {
    for (const proto::JobStatus& job : answer.view().status().jobs()) {
      by_job[{job.name(), job.job_uid()}].emplace_back(answer.node_uuid(), &job);
    }
  }
  std::vector<ClusterJob> jobs;
  jobs.reserve(by_job.size());
  for (const auto& [name, said] : by_job) {
    jobs.push_back(MergeJob(said));
  }
  return jobs;
}

}  // namespace holdfast::cli
