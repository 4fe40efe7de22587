#include "layout/names.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "layout/utf8.h"

namespace holdfast::layout {
namespace {

std::string Padded(std::uint64_t number, std::size_t digits) {
  std::string text = std::to_string(number);
  return text.size() < digits ? std::string(digits - text.size(), '0') + text : text;
}

std::string RankStem(std::uint32_t rank, std::uint32_t world_size) {
  return RankSubfolder(rank, world_size) + "rank-" + Padded(rank, 5);
}

// Takes decimal digits off the front of "text"; false without a digit or above 2^64 - 1.
bool TakeNumber(std::string_view* text, std::uint64_t* number) {
  const char* end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, *number);
  if (error != std::errc()) {
    return false;
  }
  text->remove_prefix(static_cast<std::size_t>(stop - text->data()));
  return true;
}

bool TakeText(std::string_view* text, std::string_view expected) {
  if (!text->starts_with(expected)) {
    return false;
  }
  text->remove_prefix(expected.size());
  return true;
}

}  // namespace

Status ValidateJobName(std::string_view name) {
  constexpr std::size_t kLongest = 128;
  const bool characters_fit = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  });
  if (name.empty() || name.size() > kLongest || !characters_fit || name == "." || name == "..") {
    return Error(Errc::kInvalidArgument,
                 "job name " + Quoted(name) +
                     " must be 1 to 128 of the characters A-Z a-z 0-9 _ . - and not \".\" or "
                     "\"..\"");
  }
  return Ok();
}

Status ValidateSnapshotId(const proto::SnapshotId& id) {
  if (id.job_uid().size() != kUidBytes) {
    return Error(Errc::kInvalidArgument,
                 "snapshot id: job_uid has " + std::to_string(id.job_uid().size()) +
                     " bytes in place of 16");
  }
  if (id.incarnation() == 0 || id.step() < 0) {
    return Error(Errc::kInvalidArgument,
                 "snapshot id: incarnation " + std::to_string(id.incarnation()) + " and step " +
                     std::to_string(id.step()) + " must be from 1 and from 0");
  }
  return Ok();
}

Status ValidateRank(std::uint32_t rank, std::uint32_t world_size) {
  if (world_size == 0 || world_size > kMaxWorldSize) {
    return Error(Errc::kInvalidArgument,
                 "world size " + std::to_string(world_size) + " is not in 1 to " +
                     std::to_string(kMaxWorldSize));
  }
  if (rank >= world_size) {
    return Error(Errc::kInvalidArgument,
                 "rank " + std::to_string(rank) + " is not below the world size " +
                     std::to_string(world_size));
  }
  return Ok();
}

std::string SnapshotFolderName(const proto::SnapshotId& id) {
  return "step-" + Padded(static_cast<std::uint64_t>(id.step()), 8) + ".i" +
         Padded(id.incarnation(), 4);
}

Result<proto::SnapshotId> ParseSnapshotFolderName(std::string_view name, std::string_view job_uid) {
  std::string_view rest = name;
  std::uint64_t step = 0;
  std::uint64_t incarnation = 0;
  const bool matches = TakeText(&rest, "step-") && TakeNumber(&rest, &step) &&
                       TakeText(&rest, ".i") && TakeNumber(&rest, &incarnation) && rest.empty();
  proto::SnapshotId id;
  id.set_job_uid(std::string(job_uid));
  id.set_incarnation(incarnation);
  constexpr auto kMaxStep = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (matches && step <= kMaxStep) {
    id.set_step(static_cast<std::int64_t>(step));
    if (SnapshotFolderName(id) == name) {
      HF_TRYV(ValidateSnapshotId(id));
      return id;
    }
  }
  return Error(Errc::kInvalidArgument,
               Quoted(name) + " is not the name of a snapshot's folder (step-00001200.i0007)");
}

std::string RankSubfolder(std::uint32_t rank, std::uint32_t world_size) {
  if (world_size <= kRanksPerFolder) {
    return "";
  }
  return "r" + Padded(rank - rank % kRanksPerFolder, 4) + "/";
}

std::string RankFileName(std::uint32_t rank, std::uint32_t world_size, proto::ImageKind kind) {
  return RankStem(rank, world_size) +
         (kind == proto::STATIC ? ".static.safetensors" : ".safetensors");
}

std::string SidecarFileName(std::uint32_t rank, std::uint32_t world_size) {
  return RankStem(rank, world_size) + ".meta";
}

}  // namespace holdfast::layout
