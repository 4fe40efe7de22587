#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <utility>

#include <unistd.h>

#include "cli/source_state.h"
#include "common/bytes.h"
#include "layout/names.h"
#include "storage_tiers/arena_folder_lock.h"
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
  auto listed = fs.List(folder);
  if (!listed && (listed.error().code == Errc::kNotFound || listed.error().sys_errno == ENOTDIR)) {
    return Error(Errc::kNotFound,
                 folder +
                     ": there is no such folder, so it is no arena; if the machine has started "
                     "anew, its memory is gone and --root shows what is durable");
  }
  HF_TRY(const auto entries, std::move(listed));
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

// Where the daemon puts it by itself, unless told otherwise: the one that this catalog has used.
// Another daemon's arena of the same machine is no help.
Result<std::string> DefaultArena(storage_tiers::FileSystem& fs,
                                 const storage_tiers::CatalogContents& catalog) {
  const std::array<std::string, 2> candidates = {"/dev/shm/holdfast-" + std::to_string(::getuid()),
                                                 "/dev/shm/holdfast"};
  for (const std::string& folder : candidates) {
    const auto uuid = ReadArenaUuid(fs, folder);
    if (!uuid || !catalog.header) {
      continue;
    }
    const auto& known = catalog.header->arena_uuids();
    if (std::find(known.begin(), known.end(), uuid.value()) != known.end()) {
      return folder;
    }
  }
  return Error(Errc::kNotFound,
               "this state's arena is neither " + candidates[0] + " nor " + candidates[1] +
                   ": name it with --arena; if the machine has started anew, its memory is gone "
                   "and --root shows what is durable");
}

}  // namespace

Result<std::unique_ptr<StateSource>> StateSource::Open(const std::string& state_dir,
                                                       const std::string& arena) {
  storage_tiers::PosixFileSystem fs;
  const std::string catalog_folder = JoinPath(state_dir, kCatalogFolder);
  storage_tiers::CatalogOptions options;
  options.read_only = true;
  options.create = false;
  auto opened = storage_tiers::Catalog::Open(catalog_folder, options);
  if (!opened && opened.error().code == Errc::kNotFound) {
    return Error(Errc::kNotFound,
                 opened.error().message +
                     ": name the daemon's state_dir (daemon.state_dir of its "
                     "configuration)");
  }
  HF_TRY(const auto catalog, std::move(opened));
  HF_TRY(storage_tiers::CatalogContents contents, catalog->Load());
  ArenaIdentity identity;
  identity.state_dir = state_dir;
  identity.folder = arena;
  if (arena.empty()) {
    HF_TRY(identity.folder, DefaultArena(fs, contents));
  }
  HF_TRY(identity.arena_uuid, ReadArenaUuid(fs, identity.folder));
  HF_TRY(identity.boot_id, ReadBootId());
  for (const std::string& folder : {catalog_folder, identity.folder}) {
    const auto holder = storage_tiers::FolderLock::HolderOf(folder);
    identity.daemon_pid = identity.daemon_pid ? identity.daemon_pid : holder;
  }
  return std::make_unique<StateSource>(std::move(contents), std::move(identity));
}

}  // namespace holdfast::cli
