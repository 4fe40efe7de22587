#include "cli/render/render_snapshots.h"

#include <algorithm>

#include "cli/json_value.h"
#include "cli/table.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

constexpr std::size_t kMaxReason = 70;

std::string Joined(const google::protobuf::RepeatedPtrField<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) {
    text += (text.empty() ? "" : ",") + part;
  }
  return text;
}

// "8/8": shards that can be read here, of the world; "8/8 -1 poisoned" says what cannot.
std::string RanksHere(const proto::SnapshotInfo& snapshot) {
  const auto readable = std::count_if(snapshot.shards().begin(),
                                      snapshot.shards().end(),
                                      [](const auto& shard) { return Readable(shard); });
  const auto poisoned =
      std::count_if(snapshot.shards().begin(), snapshot.shards().end(), [](const auto& shard) {
        return shard.state() == "poisoned";
      });
  std::string text = std::to_string(readable) + "/" +
                     (snapshot.world_size() > 0 ? std::to_string(snapshot.world_size()) : "?");
  return poisoned > 0 ? text + " (" + std::to_string(poisoned) + " poisoned)" : text;
}

// "2 MiB + 14 GiB": what is its own, and what it shares with others.
std::string Size(const proto::SnapshotInfo& snapshot) {
  if (snapshot.shards().empty()) {
    return "-";
  }
  const ByteCount shared = StaticBytesOf(snapshot);
  return FormatBytes(BytesOf(snapshot)) + (shared == 0 ? "" : " + " + FormatBytes(shared));
}

std::string Flags(const proto::SnapshotInfo& snapshot) {
  std::string text;
  const auto add = [&](bool set, const char* word) {
    if (set) {
      text += (text.empty() ? "" : ",") + std::string(word);
    }
  };
  add(snapshot.restore_base(), "base");
  add(snapshot.fallback(), "fallback");
  add(snapshot.discarded(), "discarded");
  add(!snapshot.damaged_on().empty(), "damaged");
  add(snapshot.is_protected(), "protected");
  return text;
}

}  // namespace

Json SnapshotJson(const proto::SnapshotInfo& snapshot) {
  Json shards = Json::array();
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    shards.push_back({{"rank", shard.rank()},
                      {"state", shard.state()},
                      {"bytes", shard.image_bytes()},
                      {"static_bytes", shard.static_image_bytes()}});
  }
  Json durable_on = Json::array();
  for (const std::string& root : snapshot.durable_on()) {
    durable_on.push_back(root);
  }
  Json damaged_on = Json::array();
  for (const std::string& root : snapshot.damaged_on()) {
    damaged_on.push_back(root);
  }
  return {{"job", snapshot.job_name()},
          {"job_uid", UidText(snapshot.id().job_uid())},
          {"incarnation", snapshot.id().incarnation()},
          {"step", snapshot.id().step()},
          {"state", snapshot.state()},
          {"world_size", snapshot.world_size()},
          {"bytes", BytesOf(snapshot)},
          {"static_bytes", StaticBytesOf(snapshot)},
          {"discarded", snapshot.discarded()},
          {"reason", snapshot.reason()},
          {"restore_base", snapshot.restore_base()},
          {"fallback", snapshot.fallback()},
          {"durable_on", durable_on},
          {"damaged_on", damaged_on},
          {"protected", snapshot.is_protected()},
          {"margin", snapshot.margin()},
          {"parity_rows", snapshot.parity_rows()},
          {"shards", shards}};
}

std::string SnapshotsText(const Listing& listing) {
  Table table(
      {"JOB", "SNAPSHOT", "STATE", "RANKS HERE", "SIZE", "MARGIN", "DURABLE ON", "FLAGS", "REASON"},
      {Align::kLeft, Align::kRight, Align::kLeft, Align::kRight, Align::kRight, Align::kRight});
  for (const proto::SnapshotInfo& snapshot : listing.reply.snapshots()) {
    table.AddRow({snapshot.job_name(),
                  IdText(snapshot.id()),
                  snapshot.state(),
                  RanksHere(snapshot),
                  Size(snapshot),
                  snapshot.margin() > 0 ? std::to_string(snapshot.margin()) : "",
                  Joined(snapshot.durable_on()),
                  Flags(snapshot),
                  ShortText(snapshot.reason(), kMaxReason)});
  }
  std::string text = table.empty() ? "no snapshots\n" : table.Render();
  for (const Problem& problem : listing.problems) {
    text += "problem: " + SafeText(problem.what) + ": " + SafeText(problem.error.message) + "\n";
  }
  return text;
}

std::string SnapshotsJson(const Listing& listing) {
  Json snapshots = Json::array();
  for (const proto::SnapshotInfo& snapshot : listing.reply.snapshots()) {
    snapshots.push_back(SnapshotJson(snapshot));
  }
  return JsonText({{"snapshots", snapshots}, {"problems", ProblemsJson(listing.problems)}});
}

}  // namespace holdfast::cli
