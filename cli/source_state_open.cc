#include <array>
#include <fstream>
#include <utility>

#include <unistd.h>

#include "cli/source_state.h"
#include "common/bytes.h"
#include "layout/names.h"
#include "storage_tiers/catalog.h"
#include "storage_tiers/posix_file_system.h"

namespace holdfast::cli {
namespace {

using storage_tiers::JoinPath;

constexpr const char* kBootIdPath = "/proc/sys/kernel/random/boot_id";
// Below the daemon's state_dir.
constexpr std::string_view kCatalogFolder = "catalog";
constexpr std::string_view kUuidMark = "arena.uuid.";

Result<std::string> ReadBootId() {
  std::ifstream file(kBootIdPath);
  std::string id;
  if (!std::getline(file, id) || id.empty()) {
    return Error(Errc::kIoError, std::string(kBootIdPath) + ": cannot be read");
  }
  return id;
}

// The uuid is in the name of an empty file: "arena.uuid.<32 hexadecimal digits>".
Result<std::string> ReadArenaUuid(storage_tiers::FileSystem& fs, const std::string& folder) {
  HF_TRY(const auto entries, fs.List(folder));
  std::string uuid;
  for (const storage_tiers::FolderEntry& entry : entries) {
    if (!entry.name.starts_with(kUuidMark)) {
      continue;
    }
    auto read = FromHex(std::string_view(entry.name).substr(kUuidMark.size()));
    if (!uuid.empty() || !read || read.value().size() != layout::kUidBytes) {
      return Error(Errc::kCorruption,
                   folder + ": does not have one file arena.uuid.<32 hexadecimal digits>");
    }
    uuid = std::move(read).value();
  }
  if (uuid.empty()) {
    return Error(Errc::kNotFound, folder + ": is no arena, it has no arena.uuid");
  }
  return uuid;
}

// The arena where the daemon puts it by itself, unless told otherwise.
Result<std::string> DefaultArena(storage_tiers::FileSystem& fs) {
  const std::array<std::string, 2> candidates = {"/dev/shm/holdfast-" + std::to_string(::getuid()),
                                                 "/dev/shm/holdfast"};
  for (const std::string& folder : candidates) {
    if (ReadArenaUuid(fs, folder)) {
      return folder;
    }
  }
  return Error(Errc::kNotFound,
               "no arena in " + candidates[0] + " or " + candidates[1] + ": name it with --arena");
}

}  // namespace

Result<std::unique_ptr<StateSource>> StateSource::Open(const std::string& state_dir,
                                                       const std::string& arena) {
  storage_tiers::PosixFileSystem fs;
  ArenaIdentity identity;
  identity.folder = arena;
  if (arena.empty()) {
    HF_TRY(identity.folder, DefaultArena(fs));
  }
  HF_TRY(identity.arena_uuid, ReadArenaUuid(fs, identity.folder));
  HF_TRY(identity.boot_id, ReadBootId());
  storage_tiers::CatalogOptions options;
  options.read_only = true;
  options.create = false;
  HF_TRY(const auto catalog,
         storage_tiers::Catalog::Open(JoinPath(state_dir, kCatalogFolder), options));
  HF_TRY(storage_tiers::CatalogContents contents, catalog->Load());
  return std::make_unique<StateSource>(std::move(contents), std::move(identity));
}

}  // namespace holdfast::cli
