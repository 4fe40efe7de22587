#include "layout/manifest.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include <google/protobuf/util/json_util.h>

#include "layout/image.h"
#include "layout/utf8.h"

namespace holdfast::layout {
namespace {

// Files of one manifest, and some room.  64 MiB of manifest hold fewer than 300,000.
constexpr std::size_t kMaxJsonObjects = 1'000'000;

Error Invalid(std::string what) {
  return Error(Errc::kInvalidArgument, std::move(what));
}

Error Corrupt(std::string_view file, std::string what) {
  return Error(Errc::kCorruption, std::string(file) + ": " + std::move(what));
}

Status CheckVersion(std::uint32_t version) {
  if (version > kManifestFormatVersion) {
    return Error(Errc::kVersionMismatch,
                 "format version " + std::to_string(version) + ", this software reads up to " +
                     std::to_string(kManifestFormatVersion) + ": upgrade it");
  }
  if (version == 0) {
    return Invalid("no format_version");
  }
  return Ok();
}

Status CheckUid(std::string_view field, std::string_view uid) {
  if (uid.size() != kUidBytes) {
    return Invalid(std::string(field) + " has " + std::to_string(uid.size()) +
                   " bytes in place of 16");
  }
  return Ok();
}

// ---- manifest
// ------------------------------------------------------------------------------------

Status CheckPath(std::string_view what, std::string_view path, const std::string& expected) {
  if (path != expected) {
    return Invalid(std::string(what) + " " + Quoted(path) + " must be " + Quoted(expected));
  }
  return Ok();
}

// "<folder of this or an older snapshot>/[r0256/]rank-00000.static.safetensors".  The owner may
// have been taken in another world size, by another rank.
Status CheckStaticPath(const proto::Manifest& m, std::string_view path) {
  const Error refusal = Invalid("static image path " + Quoted(path) +
                                " is not one of this job's static images up to this snapshot");
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos) {
    return refusal;
  }
  const auto owner = ParseSnapshotFolderName(path.substr(0, slash), m.id().job_uid());
  const auto order = [](const proto::SnapshotId& id) {
    return std::pair(id.incarnation(), id.step());
  };
  if (!owner || order(owner.value()) > order(m.id())) {
    return refusal;
  }
  // The rank is in the name; the name must be one that RankFileName gives for it.
  constexpr std::string_view kSuffix = ".static.safetensors";
  const std::string_view file = path.substr(slash + 1);
  const std::size_t dash = file.rfind('-');
  if (dash == std::string_view::npos || !file.ends_with(kSuffix) ||
      file.size() - kSuffix.size() <= dash) {
    return refusal;
  }
  const std::string_view digits = file.substr(dash + 1, file.size() - kSuffix.size() - dash - 1);
  std::uint32_t rank = 0;
  for (char c : digits) {
    if (c < '0' || c > '9' || rank >= kMaxWorldSize) {
      return refusal;
    }
    rank = rank * 10 + static_cast<std::uint32_t>(c - '0');
  }
  const bool is_small_world =
      rank < kRanksPerFolder && file == RankFileName(rank, 1, proto::STATIC);
  const bool is_large_world = file == RankFileName(rank, kMaxWorldSize, proto::STATIC);
  if (rank >= kMaxWorldSize || !(is_small_world || is_large_world)) {
    return refusal;
  }
  return Ok();
}

Status CheckFile(const proto::Manifest& m, const proto::ManifestFile& file) {
  const std::string folder = SnapshotFolderName(m.id()) + "/";
  if (file.kind() == proto::DYNAMIC) {
    HF_TRYV(
        CheckPath("image path", file.path(), folder + RankFileName(file.rank(), m.world_size())));
  } else {
    HF_TRYV(CheckStaticPath(m, file.path()));
  }
  HF_TRYV(CheckPath(
      "sidecar path", file.sidecar_path(), folder + SidecarFileName(file.rank(), m.world_size())));
  if (file.length_bytes() < kHeaderAlignment || file.length_bytes() >= kMaxImageBytes) {
    return Invalid("an image cannot have " + std::to_string(file.length_bytes()) + " bytes");
  }
  if (file.layout_hash().size() != kLayoutHashBytes) {
    return Invalid("layout_hash must have 16 bytes");
  }
  return Ok();
}

Status CheckFiles(const proto::Manifest& m) {
  std::uint32_t next_rank = 0;
  const proto::ManifestFile* dynamic_file = nullptr;  // the last one seen
  bool has_static = false;                            // after it
  for (const proto::ManifestFile& file : m.files()) {
    if (file.kind() == proto::DYNAMIC) {
      if (file.rank() != next_rank || file.rank() >= m.world_size()) {
        return Invalid("the dynamic image of rank " + std::to_string(file.rank()) +
                       " stands where that of rank " + std::to_string(next_rank) +
                       " of a world of " + std::to_string(m.world_size()) + " belongs");
      }
      ++next_rank;
      dynamic_file = &file;
      has_static = false;
    } else if (file.kind() != proto::STATIC || dynamic_file == nullptr || has_static ||
               file.rank() != dynamic_file->rank() ||
               file.sidecar_crc32c() != dynamic_file->sidecar_crc32c() ||
               file.layout_hash() != dynamic_file->layout_hash()) {
      return Invalid("a static image of rank " + std::to_string(file.rank()) +
                     " must follow the dynamic one of its rank, once, with the same sidecar and "
                     "layout");
    } else {
      has_static = true;
    }
    if (const Status fine = CheckFile(m, file); !fine) {
      return Invalid("file of rank " + std::to_string(file.rank()) + ": " + fine.error().message);
    }
  }
  if (next_rank != m.world_size()) {
    return Invalid("rank " + std::to_string(next_rank) + " of a world of " +
                   std::to_string(m.world_size()) + " has no file");
  }
  return Ok();
}

// ---- incarnation
// ---------------------------------------------------------------------------------

Status CheckDecision(const proto::IncarnationFile& incarnation) {
  const proto::RestoreDecision& decision = incarnation.decision();
  if ((decision.has_choice() || decision.committed()) && !decision.decided()) {
    return Invalid("decision: a choice or a commit that was not decided");
  }
  if (decision.named_step() < 0 || (decision.named_step() != 0 && !decision.has_named_step())) {
    return Invalid("decision: a named step that is negative, or that nobody named");
  }
  if (decision.has_choice()) {
    HF_TRYV(ValidateSnapshotId(decision.choice()));
  }
  if (decision.has_fallback()) {
    HF_TRYV(ValidateSnapshotId(decision.fallback()));
  }
  if (decision.has_boundary()) {
    HF_TRYV(ValidateSnapshotId(decision.boundary()));
  }
  return Ok();
}

Status CheckMembers(const proto::IncarnationFile& incarnation) {
  std::set<std::string_view> members;
  for (const std::string& uuid : incarnation.member_node_uuids()) {
    HF_TRYV(CheckUid("member_node_uuids", uuid));
    if (!members.insert(uuid).second) {
      return Invalid("member_node_uuids names a node twice");
    }
  }
  return Ok();
}

// ---- JSON
// ----------------------------------------------------------------------------------------

template <class Message>
Result<std::string> ToJson(const Message& message, std::string_view file, ByteCount max_bytes) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  try {
    const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
    if (!status.ok()) {
      return Error(Errc::kInternal, std::string(file) + ": " + status.ToString());
    }
  } catch (const std::exception& e) {
    return Error(Errc::kInternal, std::string(file) + ": " + e.what());
  }
  while (json.ends_with('\n')) {
    json.pop_back();
  }
  json += '\n';
  if (json.size() > max_bytes) {
    return Invalid(std::string(file) + " would have " + FormatBytes(json.size()) +
                   ", readers accept " + FormatBytes(max_bytes));
  }
  return json;
}

// Parses and validates.  An element of a JSON array takes two characters and far more memory, so
// objects are counted before protobuf sees the text; it bounds nesting itself.
template <class Message>
Result<Message> FromJson(ByteView file,
                         std::string_view name,
                         ByteCount max_bytes,
                         Status (*validate)(const Message&)) {
  if (file.size() > max_bytes) {
    return Corrupt(name,
                   "it has " + FormatBytes(file.size()) + ", at most " + FormatBytes(max_bytes) +
                       " are accepted");
  }
  const std::string_view json = AsText(file);
  if (!IsUtf8(json)) {
    return Corrupt(name, "it is not UTF-8");
  }
  if (static_cast<std::size_t>(std::count(json.begin(), json.end(), '{')) > kMaxJsonObjects) {
    return Corrupt(name, "it has more than 1,000,000 objects");
  }
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  Message message;
  try {
    const auto status =
        google::protobuf::util::JsonStringToMessage({json.data(), json.size()}, &message, options);
    if (!status.ok()) {
      return Corrupt(name, "it is not the JSON expected: " + Quoted(status.ToString()));
    }
  } catch (const std::exception& e) {
    return Corrupt(name, std::string("the JSON parser gave up: ") + e.what());
  }
  if (const Status valid = validate(message); !valid) {
    Error error = valid.error();
    if (error.code == Errc::kInvalidArgument) {
      error.code = Errc::kCorruption;
    }
    return std::move(error).WithContext(name);
  }
  return message;
}

constexpr std::string_view kManifestName = "manifest.json";
constexpr std::string_view kJobName = "job.json";
constexpr std::string_view kIncarnationName = "incarnation file";

}  // namespace

Status ValidateManifest(const proto::Manifest& manifest) {
  HF_TRYV(CheckVersion(manifest.format_version()));
  HF_TRYV(ValidateSnapshotId(manifest.id()));
  HF_TRYV(ValidateJobName(manifest.job_name()));
  HF_TRYV(ValidateRank(0, manifest.world_size()));
  if (manifest.has_parent()) {
    HF_TRYV(ValidateSnapshotId(manifest.parent()));
  }
  return CheckFiles(manifest);
}

Status ValidateJobFile(const proto::JobFile& job) {
  HF_TRYV(CheckVersion(job.format_version()));
  HF_TRYV(CheckUid("job_uid", job.job_uid()));
  return ValidateJobName(job.job_name());
}

Status ValidateIncarnationFile(const proto::IncarnationFile& incarnation) {
  HF_TRYV(CheckVersion(incarnation.format_version()));
  HF_TRYV(CheckUid("job_uid", incarnation.job_uid()));
  if (incarnation.number() == 0 || incarnation.token() == 0) {
    return Invalid("number and token of an incarnation must not be 0");
  }
  HF_TRYV(ValidateRank(0, incarnation.world_size()));
  HF_TRYV(CheckMembers(incarnation));
  return CheckDecision(incarnation);
}

Result<std::string> EncodeManifest(const proto::Manifest& manifest) {
  HF_TRYV(ValidateManifest(manifest));
  return ToJson(manifest, kManifestName, kMaxManifestFileBytes);
}

Result<std::string> EncodeJobFile(const proto::JobFile& job) {
  HF_TRYV(ValidateJobFile(job));
  return ToJson(job, kJobName, kMaxSmallFileBytes);
}

Result<std::string> EncodeIncarnationFile(const proto::IncarnationFile& incarnation) {
  HF_TRYV(ValidateIncarnationFile(incarnation));
  return ToJson(incarnation, kIncarnationName, kMaxSmallFileBytes);
}

Result<proto::Manifest> DecodeManifest(ByteView file) {
  return FromJson<proto::Manifest>(file, kManifestName, kMaxManifestFileBytes, ValidateManifest);
}

Result<proto::JobFile> DecodeJobFile(ByteView file) {
  return FromJson<proto::JobFile>(file, kJobName, kMaxSmallFileBytes, ValidateJobFile);
}

Result<proto::IncarnationFile> DecodeIncarnationFile(ByteView file) {
  return FromJson<proto::IncarnationFile>(
      file, kIncarnationName, kMaxSmallFileBytes, ValidateIncarnationFile);
}

}  // namespace holdfast::layout
