#include "cli/render/render_export.h"

#include "cli/json_value.h"
#include "cli/text.h"

namespace holdfast::cli {

std::string ExportText(const ExportReport& report) {
  ByteCount bytes = 0;
  for (const ExportedFile& file : report.files) {
    bytes += file.bytes;
  }
  std::string text = "exported " + SafeText(report.snapshot.job_name()) + " " +
                     IdText(report.snapshot.id()) + " to " + SafeText(report.folder) + ": " +
                     Count(report.files.size(), "file") + ", " + FormatBytes(bytes) +
                     ", every chunk verified\n";
  if (!report.missing_ranks.empty()) {
    text += "not exported, not here: rank " + RankRanges(report.missing_ranks) + "\n";
  }
  return text;
}

std::string ExportJson(const ExportReport& report) {
  Json files = Json::array();
  for (const ExportedFile& file : report.files) {
    Json one = Json::object();
    one["path"] = file.path;
    one["bytes"] = file.bytes;
    files.push_back(one);
  }
  Json document = Json::object();
  document["id"] = IdJson(report.snapshot.job_name(), report.snapshot.id());
  document["folder"] = report.folder;
  document["files"] = files;
  document["missing_ranks"] = report.missing_ranks;
  return JsonText(document);
}

std::string RestoreText(const RestoreReport& report) {
  const proto::SnapshotInfo& snapshot = report.snapshot;
  return "restored " + SafeText(snapshot.job_name()) + " " + IdText(snapshot.id()) + " from " +
         SafeText(report.from_root) + " to " + SafeText(report.to_root) + ": " +
         Count(snapshot.world_size(), "rank") + ", " +
         FormatBytes(BytesOf(snapshot) + StaticBytesOf(snapshot)) +
         ", every chunk verified\nthe next start of the job with this root finds it\n";
}

std::string RestoreJson(const RestoreReport& report) {
  Json document = Json::object();
  document["id"] = IdJson(report.snapshot.job_name(), report.snapshot.id());
  document["from_root"] = report.from_root;
  document["to_root"] = report.to_root;
  document["world_size"] = report.snapshot.world_size();
  document["bytes"] = BytesOf(report.snapshot) + StaticBytesOf(report.snapshot);
  document["incarnations_copied"] = report.incarnations;
  return JsonText(document);
}

std::string RemovedJson(const proto::SnapshotInfo& snapshot, const std::string& place) {
  Json document = Json::object();
  document["removed"] = IdJson(snapshot.job_name(), snapshot.id());
  document["place"] = place;
  return JsonText(document);
}

}  // namespace holdfast::cli
