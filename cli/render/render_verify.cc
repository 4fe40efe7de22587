#include "cli/render/render_verify.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "cli/json_value.h"
#include "cli/table.h"
#include "cli/text.h"

namespace holdfast::cli {
namespace {

constexpr std::size_t kNamed = 12;  // chunks and tensors in a line for people; JSON has all

template <class Item, class ToText>
std::string FirstOf(const std::vector<Item>& items, ToText to_text) {
  std::string text;
  for (std::size_t i = 0; i < items.size() && i < kNamed; ++i) {
    text += (i == 0 ? "" : ", ") + to_text(items[i]);
  }
  return items.size() > kNamed ? text + ", ... (" + std::to_string(items.size()) + " in all)"
                               : text;
}

std::string BadLine(const ShardVerdict& verdict) {
  std::string text = "BAD " + SafeText(verdict.job) + " " + IdText(verdict.id) + " rank " +
                     std::to_string(verdict.rank) + " in " + SafeText(verdict.place) + ": ";
  if (verdict.error) {
    text += SafeText(verdict.error->message);
    text += verdict.bad.empty() ? "" : "; ";
  }
  bool first = true;
  for (const ShardVerdict::BadImage& image : verdict.bad) {
    text += first ? "" : "; ";
    text += image.kind == proto::STATIC ? "static image, chunk " : "chunk ";
    text += FirstOf(image.chunks, [](std::uint64_t chunk) { return std::to_string(chunk); });
    first = false;
  }
  if (!verdict.tensors.empty()) {
    text += " (tensors: " +
            FirstOf(verdict.tensors, [](const std::string& name) { return SafeText(name); }) + ")";
  }
  return text + "\n";
}

// Whether the error says something about the data rather than about us.
bool BlamesData(Errc code) {
  return code == Errc::kCorruption || code == Errc::kNotFound || code == Errc::kIoError;
}

std::vector<Problem> AllProblems(const VerifyReport& report) {
  std::vector<Problem> all = report.problems;
  all.insert(all.end(), report.absent.begin(), report.absent.end());
  return all;
}

Json VerdictJson(const ShardVerdict& verdict) {
  Json bad = Json::array();
  for (const ShardVerdict::BadImage& image : verdict.bad) {
    Json one = Json::object();
    one["image"] = image.kind == proto::STATIC ? "static" : "dynamic";
    one["chunks"] = image.chunks;
    bad.push_back(one);
  }
  Json error = nullptr;
  if (verdict.error) {
    error = Json::object();
    error["code"] = ErrcName(verdict.error->code);
    error["message"] = verdict.error->message;
  }
  Json json = IdJson(verdict.job, verdict.id);
  json["rank"] = verdict.rank;
  json["place"] = verdict.place;
  json["ok"] = verdict.ok();
  json["bytes"] = verdict.bytes;
  json["bad"] = bad;
  json["tensors"] = verdict.tensors;
  json["error"] = error;
  return json;
}

}  // namespace

ExitCode VerifyExit(const VerifyReport& report) {
  ExitCode exit = ExitCode::kOk;
  const auto count = [&](const Error& error) {
    const ExitCode own = BlamesData(error.code)            ? ExitCode::kDataBad
                         : error.code == Errc::kPermission ? ExitCode::kRefused
                                                           : ExitCode::kFailed;
    exit = exit == ExitCode::kDataBad || own == ExitCode::kDataBad ? ExitCode::kDataBad : own;
  };
  for (const ShardVerdict& verdict : report.shards) {
    if (!verdict.bad.empty()) {
      exit = ExitCode::kDataBad;
    }
    if (verdict.error) {
      count(*verdict.error);
    }
  }
  for (const Problem& problem : report.problems) {
    // A stranger's file in the folder is worth a line, but nothing of ours is bad.
    if (problem.error.code != Errc::kInvalidArgument) {
      count(problem.error);
    }
  }
  return exit == ExitCode::kOk && !report.absent.empty() ? ExitCode::kNotFound : exit;
}

std::string VerifyText(const VerifyReport& report) {
  struct Sum {
    std::uint64_t good = 0;
    std::uint64_t bad = 0;
    ByteCount bytes = 0;
  };

  // In the order of the report, which is newest first.
  std::vector<std::tuple<std::string, std::string, std::string>> order;
  std::map<std::tuple<std::string, std::string, std::string>, Sum> sums;
  for (const ShardVerdict& verdict : report.shards) {
    const std::tuple key(verdict.job, IdText(verdict.id), verdict.place);
    if (!sums.contains(key)) {
      order.push_back(key);
    }
    Sum& sum = sums[key];
    (verdict.ok() ? sum.good : sum.bad) += 1;
    sum.bytes += verdict.bytes;
  }
  Table table({"JOB", "SNAPSHOT", "WHERE", "RESULT", "RANKS GOOD", "RANKS BAD", "READ"},
              {Align::kLeft,
               Align::kRight,
               Align::kLeft,
               Align::kLeft,
               Align::kRight,
               Align::kRight,
               Align::kRight});
  for (const auto& key : order) {
    const Sum& sum = sums[key];
    table.AddRow({std::get<0>(key),
                  std::get<1>(key),
                  std::get<2>(key),
                  sum.bad == 0 ? "ok" : "BAD",
                  std::to_string(sum.good),
                  std::to_string(sum.bad),
                  FormatBytes(sum.bytes)});
  }
  std::string text = table.empty() ? "nothing to verify\n" : table.Render();
  for (const ShardVerdict& verdict : report.shards) {
    text += verdict.ok() ? "" : BadLine(verdict);
  }
  for (const Problem& problem : AllProblems(report)) {
    text += "problem: " + SafeText(problem.what) + ": " + SafeText(problem.error.message) + "\n";
  }
  return text;
}

std::string VerifyJson(const VerifyReport& report) {
  Json shards = Json::array();
  ByteCount bytes = 0;
  for (const ShardVerdict& verdict : report.shards) {
    shards.push_back(VerdictJson(verdict));
    bytes += verdict.bytes;
  }
  Json document = Json::object();
  document["ok"] = VerifyExit(report) == ExitCode::kOk;
  document["bytes"] = bytes;
  document["shards"] = shards;
  document["problems"] = ProblemsJson(AllProblems(report));
  return JsonText(document);
}

}  // namespace holdfast::cli
