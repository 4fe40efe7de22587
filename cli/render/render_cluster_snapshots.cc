#include <algorithm>

#include "cli/render/cluster_json.h"
#include "cli/render/render_cluster.h"
#include "cli/source.h"
#include "cli/table.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

constexpr std::size_t kMaxReason = 70;

ByteCount BytesOf(const ClusterSnapshot& snapshot) {
  ByteCount bytes = 0;
  for (const auto& [rank, held] : snapshot.shards) {
    bytes += held.front().shard.image_bytes() + held.front().shard.static_image_bytes();
  }
  return bytes;
}

// "4/4": ranks that some node can give, of the world.
std::string RanksCell(const ClusterSnapshot& snapshot) {
  const std::uint32_t world = snapshot.info.world_size();
  return std::to_string(world - snapshot.missing.size()) + "/" + std::to_string(world);
}

std::string Flags(const proto::SnapshotInfo& info) {
  std::string text;
  const auto add = [&](bool set, const char* word) {
    if (set) {
      text += (text.empty() ? "" : ",") + std::string(word);
    }
  };
  add(info.restore_base(), "base");
  add(info.fallback(), "fallback");
  add(info.discarded(), "discarded");
  add(!info.damaged_on().empty(), "damaged");
  add(info.is_protected(), "protected");
  return text;
}

std::string Joined(const google::protobuf::RepeatedPtrField<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) {
    text += (text.empty() ? "" : ",") + part;
  }
  return text;
}

// What one node holds: "rank 2; 2 rows; sidecars of 0-1, 3".
std::string HeldBy(const ClusterSnapshot& snapshot, const std::string& node) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : "; ") + part; };
  std::map<std::string, std::vector<std::uint32_t>> ranks;  // by state
  for (const auto& [rank, held] : snapshot.shards) {
    for (const Holding& one : held) {
      if (one.node == node) {
        ranks[one.shard.state()].push_back(rank);
      }
    }
  }
  for (auto& [state, of_state] : ranks) {
    add("rank " + RankRanges(std::move(of_state)) + (state == "sealed" ? "" : " " + state));
  }
  std::size_t rows = 0;
  for (const SeenSet& set : snapshot.sets) {
    for (std::uint32_t position = 0; position < set.Count(); ++position) {
      const bool its = set.set.node_uuids(static_cast<int>(position)) == node;
      rows += its ? set.rows[position].size() : 0;
    }
  }
  if (rows > 0) {
    add(Count(rows, "row"));
  }
  if (const auto sidecars = snapshot.sidecars.find(node); sidecars != snapshot.sidecars.end()) {
    add("sidecars of " + RankRanges({sidecars->second.begin(), sidecars->second.end()}));
  }
  return text;
}

// A node that did not answer may still hold it.
std::string LostText(const Cluster& cluster, const std::string& last_seen) {
  const std::string lost = "; nothing brings it back";
  bool all_answered = true;
  bool its_answered = last_seen.empty();
  for (const proto::NodeAnswer& answer : cluster.nodes) {
    all_answered = all_answered && answer.has_view();
    its_answered = its_answered || (answer.node_uuid() == last_seen && answer.has_view());
  }
  if (!its_answered) {
    return lost + " unless that node comes back\n";
  }
  return lost + (all_answered ? "\n" : " unless a silent node does\n");
}

std::string MissingLines(const Cluster& cluster, const ClusterSnapshot& snapshot) {
  std::string text;
  for (const std::uint32_t rank : snapshot.missing) {
    const bool lost =
        std::find(snapshot.lost.begin(), snapshot.lost.end(), rank) != snapshot.lost.end();
    text += "  rank " + std::to_string(rank) +
            ": no node that answered can give it; last seen at " +
            WhereText(cluster, snapshot.LastSeen(rank)) +
            (lost                                  ? LostText(cluster, snapshot.LastSeen(rank))
             : !snapshot.info.durable_on().empty() ? "; it is durable\n"
                                                   : "; parity brings it back\n");
  }
  return text;
}

std::string PositionTable(const SeenSet& set) {
  Table table({"POSITION", "NODE", "RANK", "SHARD", "ROWS (ROW:STRIPE)", "WHOLE"},
              {Align::kRight, Align::kLeft, Align::kRight, Align::kRight});
  for (std::uint32_t position = 0; position < set.Count(); ++position) {
    const int at = static_cast<int>(position);
    const bool has_shard = set.set.shard_bytes(at) > 0;
    std::string rows;
    for (const auto& [number, row] : set.rows[position]) {
      rows +=
          (rows.empty() ? "" : " ") + std::to_string(number) + ":" + std::to_string(row.stripe());
    }
    table.AddRow({std::to_string(position),
                  NodeName(set.set.node_uuids(at)),
                  has_shard ? std::to_string(set.set.ranks(at)) : "-",
                  !has_shard             ? "-"
                  : set.shards[position] ? FormatBytes(set.set.shard_bytes(at))
                                         : "missing",
                  rows.empty() ? "none" : rows,
                  set.whole[position] ? "yes" : "no"});
  }
  return table.Render("    ");
}

std::string StripeTable(const SeenSet& set) {
  Table table({"STRIPE", "SEGMENTS OF", "ROWS AT", "THERE", "NEEDED"},
              {Align::kRight, Align::kLeft, Align::kLeft, Align::kRight, Align::kRight});
  for (std::uint32_t stripe = 0; stripe < set.Count(); ++stripe) {
    std::string segments;
    std::string rows;
    for (std::uint32_t position = 0; position < set.Count(); ++position) {
      const bool owner = set.OwnsRowOf(position, stripe);
      const std::uint32_t row = (position + set.Count() - stripe) % set.Count();
      const bool there = owner ? set.rows[position].contains(row) : set.shards[position];
      std::string* cell = owner ? &rows : &segments;
      *cell += (cell->empty() ? "" : " ") + std::to_string(position) + (there ? "" : "(!)");
    }
    table.AddRow({std::to_string(stripe),
                  segments,
                  rows,
                  std::to_string(set.Available(stripe)),
                  std::to_string(set.set.data_shards())});
  }
  return table.Render("    ");
}

std::string SetLines(const SeenSet& set) {
  return "  local rank " + std::to_string(set.set.local_rank()) +
         (set.set.kind() == proto::STATIC ? ", frozen tensors" : "") + ", group " +
         std::to_string(set.set.data_shards()) + "+" + std::to_string(set.set.parity_shards()) +
         " of incarnation " + std::to_string(set.set.epoch_number()) + ", version " +
         std::to_string(set.set.version()) + ", segments of " +
         FormatBytes(set.set.segment_bytes()) + "\n" + PositionTable(set) + StripeTable(set);
}

std::string HeadLines(const ClusterSnapshot& snapshot) {
  Table table(
      {"JOB", "SNAPSHOT", "STATE", "RANKS", "SIZE", "MARGIN", "DURABLE ON", "FLAGS", "REASON"},
      {Align::kLeft, Align::kRight, Align::kLeft, Align::kRight, Align::kRight, Align::kRight});
  const proto::SnapshotInfo& info = snapshot.info;
  table.AddRow({info.job_name(),
                IdText(info.id()),
                info.state(),
                RanksCell(snapshot),
                snapshot.shards.empty() ? "-" : FormatBytes(BytesOf(snapshot)),
                snapshot.sets.empty() ? "" : std::to_string(snapshot.margin_seen),
                Joined(info.durable_on()),
                Flags(info),
                ShortText(info.reason(), kMaxReason)});
  return table.Render();
}

}  // namespace

std::string ClusterListText(const Cluster& cluster) {
  std::string text;
  for (const ClusterSnapshot& snapshot : cluster.snapshots) {
    text += HeadLines(snapshot);
    Table table({"NODE", "HOLDS"});
    for (const std::string& node : snapshot.Nodes()) {
      table.AddRow({NodeName(node), HeldBy(snapshot, node)});
    }
    text += (table.empty() ? "" : table.Render("  ")) + MissingLines(cluster, snapshot) + "\n";
  }
  return (text.empty() ? "no snapshots\n" : text) + SilentNodesText(cluster);
}

std::string ClusterSnapshotText(const Cluster& cluster, const ClusterSnapshot& snapshot) {
  std::string text = HeadLines(snapshot);
  Table table({"RANK", "NODE", "STATE", "SIZE", "SHARED"},
              {Align::kRight, Align::kLeft, Align::kLeft, Align::kRight, Align::kRight});
  for (const auto& [rank, held] : snapshot.shards) {
    for (const Holding& one : held) {
      table.AddRow(
          {std::to_string(rank),
           NodeName(one.node),
           one.shard.state(),
           FormatBytes(one.shard.image_bytes()),
           one.shard.static_image_bytes() > 0 ? FormatBytes(one.shard.static_image_bytes()) : ""});
    }
  }
  text += table.empty() ? "" : table.Render("  ");
  text += MissingLines(cluster, snapshot);
  for (const auto& [node, ranks] : snapshot.sidecars) {
    text += "  sidecars at " + NodeName(node) + ": of " + RankRanges({ranks.begin(), ranks.end()}) +
            "\n";
  }
  for (const SeenSet& set : snapshot.sets) {
    text += SetLines(set);
  }
  text += snapshot.sets.empty() ? "  no node that answered has parity of it\n" : "";
  return text + SilentNodesText(cluster);
}

}  // namespace holdfast::cli
