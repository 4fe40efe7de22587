#include "cli/render/render_scrub.h"

#include <algorithm>
#include <string>

#include "cli/cluster/ask_nodes.h"
#include "cli/render/cluster_json.h"
#include "cli/table.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

constexpr std::size_t kNamed = 12;  // chunks in a line for people; JSON has all
constexpr std::size_t kMaxReason = 80;

// "rank 3", "rank 3, static image", "row 1 of stripe 2 (local rank 0)".
std::string WhatText(const proto::StoredKey& key) {
  if (key.has_parity()) {
    return "row " + std::to_string(key.parity().row()) + " of stripe " +
           std::to_string(key.parity().stripe()) + " (local rank " +
           std::to_string(key.parity().local_rank()) + ")";
  }
  return "rank " + std::to_string(key.image().rank()) +
         (key.image().kind() == proto::STATIC ? ", static image" : "");
}

std::string ChunksText(const std::vector<std::uint64_t>& chunks) {
  std::string text;
  for (std::size_t i = 0; i < chunks.size() && i < kNamed; ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(chunks[i]);
  }
  return chunks.size() > kNamed ? text + ", ... (" + std::to_string(chunks.size()) + " in all)"
                                : text;
}

std::string BadLine(const ScrubItem& item) {
  std::string text = "BAD " + SafeText(item.job) + " " + IdText(item.key.id()) + " " +
                     WhatText(item.key) + " at node " + NodeName(item.node) + ": ";
  if (!item.bad_chunks.empty()) {
    text += "chunk " + ChunksText(item.bad_chunks) + "\n";
  } else if (item.error) {
    text += SafeText(item.error->message) + "\n";
  } else {
    text += "poisoned: its digests did not match before\n";
  }
  return text;
}

// Of a node that went away in the middle, its line in the table speaks for all that was left.
std::string UnreadLine(const ScrubReport& report, const ScrubItem& item) {
  if (!item.error || report.gone.contains(item.node)) {
    return "";
  }
  return "NOT READ " + SafeText(item.job) + " " + IdText(item.key.id()) + " " + WhatText(item.key) +
         " at node " + NodeName(item.node) + ": " + SafeText(item.error->message) + "\n";
}

// Whether the item is bad, rather than not read.
bool IsBad(const ScrubItem& item) {
  return !item.bad_chunks.empty() || item.was_poisoned ||
         (item.error && item.error->code == Errc::kCorruption);
}

struct Sum {
  std::uint64_t good = 0;
  std::uint64_t bad = 0;
  std::uint64_t unread = 0;
  std::uint64_t freed = 0;
  ByteCount bytes = 0;
};

Sum SumOf(const ScrubReport& report, const std::string& node) {
  Sum sum;
  for (const ScrubItem& item : report.items) {
    if (item.node != node) {
      continue;
    }
    sum.bytes += item.bytes;
    (IsBad(item) ? sum.bad : item.error ? sum.unread : item.freed ? sum.freed : sum.good) += 1;
  }
  return sum;
}

Json ItemJson(const ScrubItem& item) {
  Json json = IdJson(item.job, item.key.id());
  json["node"] = UidText(item.node);
  const bool row = item.key.has_parity();
  json["kind"] = row ? "row" : item.key.image().kind() == proto::STATIC ? "static" : "dynamic";
  json["rank"] = row ? Json() : Json(item.key.image().rank());
  json["local_rank"] = row ? Json(item.key.parity().local_rank()) : Json();
  json["stripe"] = row ? Json(item.key.parity().stripe()) : Json();
  json["row"] = row ? Json(item.key.parity().row()) : Json();
  json["ok"] = item.ok();
  json["freed"] = item.freed;
  json["bytes"] = item.bytes;
  json["bad_chunks"] = item.bad_chunks;
  json["was_poisoned"] = item.was_poisoned;
  Json error = nullptr;
  if (item.error) {
    error = {{"code", ErrcName(item.error->code)}, {"message", item.error->message}};
  }
  json["error"] = error;
  return json;
}

}  // namespace

ExitCode ScrubExit(const ScrubReport& report) {
  if (std::any_of(report.items.begin(), report.items.end(), IsBad)) {
    return ExitCode::kDataBad;
  }
  if (!report.gone.empty() || !AllAnswered(report.nodes)) {
    return ExitCode::kIncomplete;
  }
  for (const ScrubItem& item : report.items) {
    if (item.error) {
      return item.error->code == Errc::kPermission ? ExitCode::kRefused : ExitCode::kFailed;
    }
  }
  return ExitCode::kOk;
}

std::string ScrubText(const ScrubReport& report) {
  Table table(
      {"NODE", "RESULT", "GOOD", "BAD", "NOT READ", "READ", "BECAUSE"},
      {Align::kLeft, Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  for (const proto::NodeAnswer& answer : report.nodes) {
    const Sum sum = SumOf(report, answer.node_uuid());
    const auto gone = report.gone.find(answer.node_uuid());
    const std::string because = !answer.has_view()          ? answer.error()
                                : gone != report.gone.end() ? gone->second.message
                                                            : "";
    table.AddRow({NodeName(answer.node_uuid()),
                  !answer.has_view()                   ? SilenceWord(answer)
                  : sum.bad > 0                        ? "BAD"
                  : because.empty() && sum.unread == 0 ? "ok"
                                                       : "not all read",
                  std::to_string(sum.good),
                  std::to_string(sum.bad),
                  std::to_string(sum.unread),
                  FormatBytes(sum.bytes),
                  ShortText(because, kMaxReason)});
  }
  std::string text = table.Render();
  for (const ScrubItem& item : report.items) {
    text += IsBad(item) ? BadLine(item) : UnreadLine(report, item);
  }
  return text;
}

std::string ScrubJson(const ScrubReport& report) {
  Json nodes = Json::array();
  ByteCount bytes = 0;
  for (const proto::NodeAnswer& answer : report.nodes) {
    Json node = NodeJson(answer);
    const Sum sum = SumOf(report, answer.node_uuid());
    if (const auto gone = report.gone.find(answer.node_uuid()); gone != report.gone.end()) {
      node["error"] = {{"code", ErrcName(gone->second.code)}, {"message", gone->second.message}};
    }
    node["good"] = sum.good;
    node["bad"] = sum.bad;
    node["not_read"] = sum.unread;
    node["bytes"] = sum.bytes;
    nodes.push_back(node);
    bytes += sum.bytes;
  }
  Json items = Json::array();
  for (const ScrubItem& item : report.items) {
    items.push_back(ItemJson(item));
  }
  return JsonText({{"ok", ScrubExit(report) == ExitCode::kOk},
                   {"all_answered", AllAnswered(report.nodes) && report.gone.empty()},
                   {"bytes", bytes},
                   {"nodes", nodes},
                   {"held", items}});
}

}  // namespace holdfast::cli
