#include <string>
#include <vector>

#include "cli/render/job_json.h"
#include "cli/render/render_status.h"

namespace holdfast::cli {
namespace {

Json RankJson(const proto::RankStatus& rank) {
  return {{"rank", rank.rank()},
          {"pid", rank.pid()},
          {"connected", rank.connected()},
          {"image_bytes", rank.image_bytes()},
          {"static_image_bytes", rank.static_image_bytes()},
          {"last_begun_step", rank.last_begun_step()},
          {"sealed", rank.snapshots_sealed()},
          {"missed", rank.snapshots_missed()},
          {"last_missed_reason", rank.last_missed_reason()}};
}

Json TierJson(const std::string& job, const proto::TierStatus& tier) {
  Json newest = nullptr;
  if (tier.newest_durable_step() >= 0) {
    proto::SnapshotId id;
    id.set_incarnation(tier.newest_durable_incarnation());
    id.set_step(tier.newest_durable_step());
    newest = IdJson(job, id);
  }
  return {{"root", tier.root()},
          {"scope", tier.scope() == proto::NODE ? "node" : "shared"},
          {"healthy", tier.healthy()},
          {"last_error", tier.last_error()},
          {"newest_durable", newest},
          {"flushed_bytes", tier.flushed_bytes()},
          {"flushing", tier.has_flushing() ? IdJson(job, tier.flushing()) : Json()},
          {"flushing_bytes", tier.flushing_bytes()},
          {"flushing_done_bytes", tier.flushing_done_bytes()}};
}

Json GroupsJson(const proto::JobStatus& job) {
  Json groups = Json::array();
  for (const proto::GroupStatus& group : job.groups()) {
    Json nodes = Json::array();
    for (const std::string& uuid : group.node_uuids()) {
      nodes.push_back(UidText(uuid));
    }
    groups.push_back({{"nodes", nodes},
                      {"data", group.data()},
                      {"parity", group.parity()},
                      {"reduced", group.reduced()},
                      {"uncovered_domains",
                       std::vector<std::string>(group.uncovered_domains().begin(),
                                                group.uncovered_domains().end())}});
  }
  return groups;
}

}  // namespace

Json JobJson(const proto::JobStatus& job) {
  Json ranks = Json::array();
  for (const proto::RankStatus& rank : job.ranks()) {
    ranks.push_back(RankJson(rank));
  }
  Json tiers = Json::array();
  for (const proto::TierStatus& tier : job.tiers()) {
    tiers.push_back(TierJson(job.name(), tier));
  }
  Json log = Json::array();
  for (const std::string& line : job.restore_log()) {
    log.push_back(line);
  }
  Json bringing = Json::array();
  for (const proto::ShardOnItsWay& shard : job.bringing()) {
    bringing.push_back({{"rank", shard.rank()},
                        {"id", IdJson(job.name(), shard.id())},
                        {"done_bytes", shard.done_bytes()},
                        {"total_bytes", shard.total_bytes()},
                        {"from", shard.from()}});
  }
  return {{"name", job.name()},
          {"job_uid", UidText(job.job_uid())},
          {"owner_uid", job.owner_uid()},
          {"incarnation", job.incarnation()},
          {"world_size", job.world_size()},
          {"phase", job.phase()},
          {"live", job.live()},
          {"arena_bytes", job.arena_bytes()},
          {"newest_complete",
           job.has_newest_complete() ? IdJson(job.name(), job.newest_complete()) : Json()},
          {"restored", job.has_restored() ? IdJson(job.name(), job.restored()) : Json()},
          {"restore_attempt", job.restore_attempt()},
          {"restore_log", log},
          {"protected", job.has_protected_id() ? IdJson(job.name(), job.protected_id()) : Json()},
          {"margin", job.margin()},
          {"protecting", job.has_protecting() ? IdJson(job.name(), job.protecting()) : Json()},
          {"groups", GroupsJson(job)},
          {"not_protected", job.not_protected()},
          {"bringing", bringing},
          {"ranks", ranks},
          {"tiers", tiers}};
}

namespace {

Json PeersJson(const proto::StatusReply& status) {
  Json peers = Json::array();
  for (const proto::PeerStatus& peer : status.peers()) {
    peers.push_back(
        {{"node_uuid", UidText(peer.node_uuid())},
         {"endpoints", std::vector<std::string>(peer.endpoints().begin(), peer.endpoints().end())},
         {"connected", peer.connected()},
         {"address", peer.address()},
         {"authenticated", peer.authenticated()},
         {"round_trip_us", peer.round_trip_us()},
         {"last_error", peer.last_error()}});
  }
  return peers;
}

}  // namespace

std::string StatusJson(const proto::StatusReply& status) {
  Json jobs = Json::array();
  for (const proto::JobStatus& job : status.jobs()) {
    jobs.push_back(JobJson(job));
  }
  Json warnings = Json::array();
  for (const std::string& warning : status.warnings()) {
    warnings.push_back(warning);
  }
  const proto::ArenaStatus& arena = status.arena();
  return JsonText(
      {{"daemon",
        {{"running", true},
         {"pid", status.daemon_pid()},
         {"node_uuid", UidText(status.node_uuid())},
         {"boot_number", status.boot_number()},
         {"version", status.software_version()},
         {"uptime_seconds", status.uptime_seconds()},
         {"state_dir", status.state_dir()},
         {"metrics_address", status.metrics_address()},
         {"peer_endpoints",
          std::vector<std::string>(status.peer_endpoints().begin(), status.peer_endpoints().end())},
         {"data_plane", status.data_plane()},
         {"peers", PeersJson(status)}}},
       {"arena",
        {{"path", arena.path()},
         {"budget_bytes", arena.budget_bytes()},
         {"used_bytes", arena.used_bytes()},
         {"quarantined_bytes", arena.quarantined_bytes()},
         {"static_bytes", arena.static_bytes()},
         {"free_slots", arena.free_slots()},
         {"sealed_slots", arena.sealed_slots()},
         {"filling_slots", arena.filling_slots()}}},
       {"jobs", jobs},
       {"warnings", warnings}});
}

}  // namespace holdfast::cli
