#include <algorithm>

#include "cli/cluster/ask_nodes.h"
#include "cli/render/cluster_json.h"
#include "cli/render/job_json.h"
#include "cli/render/render_cluster.h"
#include "cli/source.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

template <class Strings>
std::vector<std::string> ListOf(const Strings& strings) {
  return {strings.begin(), strings.end()};
}

Json StatusNodeJson(const proto::NodeAnswer& answer) {
  Json node = NodeJson(answer);
  const proto::StatusReply& status = answer.view().status();
  const proto::ArenaStatus& arena = status.arena();
  Json daemon = nullptr;
  Json memory = nullptr;
  if (answer.has_view()) {
    daemon = {{"pid", status.daemon_pid()},
              {"boot_number", status.boot_number()},
              {"version", status.software_version()},
              {"uptime_seconds", status.uptime_seconds()},
              {"state_dir", status.state_dir()}};
    memory = {{"path", arena.path()},
              {"budget_bytes", arena.budget_bytes()},
              {"used_bytes", arena.used_bytes()},
              {"quarantined_bytes", arena.quarantined_bytes()},
              {"static_bytes", arena.static_bytes()},
              {"parity_bytes", arena.parity_bytes()}};
  }
  node["daemon"] = daemon;
  node["arena"] = memory;
  node["warnings"] = ListOf(status.warnings());
  return node;
}

Json ClusterJobJson(const ClusterJob& job) {
  Json json = JobJson(job.status);
  for (Json& rank : json["ranks"]) {
    rank["node"] = UidText(job.ServerOf(rank["rank"].get<std::uint32_t>()));
  }
  Json nodes = Json::array();
  for (const std::string& node : job.nodes) {
    nodes.push_back(UidText(node));
  }
  json["decider"] = job.decider.empty() ? Json() : Json(UidText(job.decider));
  json["nodes"] = nodes;
  json["missing_ranks"] = job.missing_ranks;
  return json;
}

Json RowsJson(const SeenSet& set, std::uint32_t position) {
  Json rows = Json::array();
  for (const auto& [number, row] : set.rows[position]) {
    rows.push_back({{"row", number}, {"stripe", row.stripe()}, {"bytes", row.length_bytes()}});
  }
  return rows;
}

Json SetJson(const SeenSet& set) {
  Json positions = Json::array();
  for (std::uint32_t position = 0; position < set.Count(); ++position) {
    const int at = static_cast<int>(position);
    const bool has_shard = set.set.shard_bytes(at) > 0;
    positions.push_back({{"node", UidText(set.set.node_uuids(at))},
                         {"rank", has_shard ? Json(set.set.ranks(at)) : Json()},
                         {"shard_bytes", set.set.shard_bytes(at)},
                         {"shard_readable", has_shard && set.shards[position]},
                         {"rows", RowsJson(set, position)},
                         {"whole", static_cast<bool>(set.whole[position])}});
  }
  Json stripes = Json::array();
  for (std::uint32_t stripe = 0; stripe < set.Count(); ++stripe) {
    stripes.push_back(set.Available(stripe));
  }
  return {{"local_rank", set.set.local_rank()},
          {"image", set.set.kind() == proto::STATIC ? "static" : "dynamic"},
          {"group_epoch", set.set.epoch_number()},
          {"group_version", set.set.version()},
          {"data", set.set.data_shards()},
          {"parity", set.set.parity_shards()},
          {"segment_bytes", set.set.segment_bytes()},
          {"positions", positions},
          {"available_of_stripe", stripes}};
}

}  // namespace

Json NodeJson(const proto::NodeAnswer& answer) {
  Json error = nullptr;
  if (!answer.has_view()) {
    error = {{"code", ErrcName(static_cast<Errc>(answer.error_code()))},
             {"message", answer.error()}};
  }
  return {{"node_uuid", UidText(answer.node_uuid())},
          {"endpoints", ListOf(answer.endpoints())},
          {"answered", answer.has_view()},
          {"error", error}};
}

Json NodesJson(const Cluster& cluster) {
  Json nodes = Json::array();
  for (const proto::NodeAnswer& answer : cluster.nodes) {
    nodes.push_back(NodeJson(answer));
  }
  return nodes;
}

Json ClusterSnapshotValue(const ClusterSnapshot& snapshot) {
  Json json = SnapshotJson(snapshot.info);
  Json shards = Json::array();
  ByteCount bytes = 0;
  ByteCount static_bytes = 0;
  for (const auto& [rank, held] : snapshot.shards) {
    for (const Holding& one : held) {
      shards.push_back({{"rank", rank},
                        {"node", UidText(one.node)},
                        {"state", one.shard.state()},
                        {"bytes", one.shard.image_bytes()},
                        {"static_bytes", one.shard.static_image_bytes()}});
    }
    bytes += held.front().shard.image_bytes();
    static_bytes += held.front().shard.static_image_bytes();
  }
  json["bytes"] = bytes;
  json["static_bytes"] = static_bytes;
  json["shards"] = shards;
  Json sets = Json::array();
  for (const SeenSet& set : snapshot.sets) {
    sets.push_back(SetJson(set));
  }
  Json sidecars = Json::array();
  for (const auto& [node, ranks] : snapshot.sidecars) {
    sidecars.push_back({{"node", UidText(node)}, {"ranks", ranks}});
  }
  Json last_seen = Json::array();
  for (const std::uint32_t rank : snapshot.missing) {
    const std::string node = snapshot.LastSeen(rank);
    last_seen.push_back(
        {{"rank", rank}, {"last_seen", node.empty() ? Json() : Json(UidText(node))}});
  }
  json["margin_seen"] = snapshot.margin_seen;
  json["missing"] = last_seen;
  json["lost_ranks"] = snapshot.lost;
  json["sets"] = sets;
  json["sidecars"] = sidecars;
  return json;
}

std::string ClusterStatusJson(const Cluster& cluster) {
  Json nodes = Json::array();
  for (const proto::NodeAnswer& answer : cluster.nodes) {
    nodes.push_back(StatusNodeJson(answer));
  }
  Json jobs = Json::array();
  for (const ClusterJob& job : cluster.jobs) {
    jobs.push_back(ClusterJobJson(job));
  }
  return JsonText({{"all_answered", AllAnswered(cluster.nodes)}, {"nodes", nodes}, {"jobs", jobs}});
}

std::string ClusterListJson(const Cluster& cluster) {
  Json snapshots = Json::array();
  for (const ClusterSnapshot& snapshot : cluster.snapshots) {
    snapshots.push_back(ClusterSnapshotValue(snapshot));
  }
  return JsonText({{"all_answered", AllAnswered(cluster.nodes)},
                   {"nodes", NodesJson(cluster)},
                   {"snapshots", snapshots}});
}

std::string ClusterSnapshotJson(const Cluster& cluster, const ClusterSnapshot& snapshot) {
  return JsonText({{"all_answered", AllAnswered(cluster.nodes)},
                   {"nodes", NodesJson(cluster)},
                   {"snapshot", ClusterSnapshotValue(snapshot)}});
}

}  // namespace holdfast::cli
