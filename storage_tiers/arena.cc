#include "storage_tiers/arena.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <limits>
#include <string_view>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/failpoint.h"
#include "common/random.h"
#include "storage_tiers/mapping_guard.h"
#include "storage_tiers/prefault.h"

namespace holdfast::storage_tiers {
namespace {

constexpr mode_t kPrivateFile = 0600;
constexpr mode_t kOthers = 0077;
constexpr ByteCount kStatBlock = 512;  // unit of st_blocks
constexpr std::size_t kUuidBytes = 16;
constexpr std::string_view kUuidMark = "arena.uuid.";

// Names in an open folder, but "." and "..".  "path" is for messages.
Result<std::vector<std::string>> ListFolder(int folder_fd, const std::string& path) {
  // A descriptor of its own: the position in a folder belongs to the open file description.
  Descriptor listed(::openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(
      listed.valid() ? ::fdopendir(listed.get()) : nullptr, ::closedir);
  if (!folder) {
    return ErrnoError(errno, "list " + path);
  }
  (void)listed.Release();  // closedir closes it
  std::vector<std::string> names;
  errno = 0;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") {
      names.emplace_back(name);
    }
    errno = 0;
  }
  if (errno != 0) {
    return ErrnoError(errno, "list " + path);
  }
  return names;
}

}  // namespace

Arena::Arena(const ArenaOptions& options, Descriptor folder, FolderLock lock, Descriptor slots)
    : options_(options),
      placement_(options.memory_policy),
      folder_(std::move(folder)),
      lock_(std::move(lock)),
      slots_(std::move(slots)) {}

Result<std::unique_ptr<Arena>> Arena::Open(const ArenaOptions& options) {
  if (options.folder.empty() || options.folder.front() != '/' || options.budget_bytes == 0) {
    return Error(Errc::kInvalidArgument,
                 "the arena needs an absolute folder and a budget, not \"" + options.folder +
                     "\" and " + std::to_string(options.budget_bytes) + " bytes");
  }
  HF_TRYV(InstallMappingGuard());
  HF_TRY(Descriptor folder, OpenPrivateFolder(AT_FDCWD, options.folder, /*create=*/true));
  HF_TRY(FolderLock lock, FolderLock::Take(folder.get(), options.folder, "the arena"));
  HF_TRY(Descriptor slots, OpenPrivateFolder(folder.get(), "slots", /*create=*/true));
  std::unique_ptr<Arena> arena(
      new Arena(options, std::move(folder), std::move(lock), std::move(slots)));
  HF_TRYV(arena->ReadOrMakeUuid());
  HF_TRYV(arena->ReadBootId());
  HF_TRYV(arena->CheckSpace());
  return arena;
}

Status Arena::ReadOrMakeUuid() {
  HF_TRY(const std::vector<std::string> names, ListFolder(folder_.get(), options_.folder));
  std::vector<std::string> marks;
  std::copy_if(names.begin(), names.end(), std::back_inserter(marks), [](std::string_view name) {
    return name.starts_with(kUuidMark);
  });
  if (marks.empty()) {
    uuid_ = RandomUid();
    const std::string mark = std::string(kUuidMark) + ToHex(AsBytes(uuid_));
    const Descriptor file(::openat(folder_.get(),
                                   mark.c_str(),
                                   O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                                   kPrivateFile));
    if (!file.valid()) {
      return ErrnoError(errno, "create " + options_.folder + "/" + mark);
    }
    return Ok();
  }
  Result<std::string> uuid = FromHex(std::string_view(marks.front()).substr(kUuidMark.size()));
  if (marks.size() > 1 || !uuid || uuid.value().size() != kUuidBytes) {
    // Not replaced by a new one: that would turn every snapshot in the arena into an orphan.
    return Error(Errc::kCorruption,
                 options_.folder + " does not have one file arena.uuid.<32 hexadecimal digits>: " +
                     "restore its name, or remove all that begin with arena.uuid if no snapshot " +
                     "in this arena is needed");
  }
  uuid_ = std::move(uuid).value();
  return Ok();
}

Status Arena::ReadBootId() {
  constexpr const char* kPath = "/proc/sys/kernel/random/boot_id";
  std::ifstream file(kPath);
  if (!std::getline(file, boot_id_) || boot_id_.empty()) {
    return Error(Errc::kIoError, std::string("cannot read ") + kPath + ": is /proc mounted?");
  }
  return Ok();
}

Status Arena::CheckSpace() {
  HF_TRY(space_, ReadArenaSpace(folder_.get()));
  HF_TRY(const ByteCount used, UsedBytes());
  HF_TRY(warnings_, CheckArenaSpace(options_.folder, space_, options_.budget_bytes, used));
  std::vector<std::string> memory = CheckMemory("", options_.budget_bytes);
  std::move(memory.begin(), memory.end(), std::back_inserter(warnings_));
  return Ok();
}

Result<ByteCount> Arena::RoundedCapacity(ByteCount capacity) const {
  // The comparison comes first: rounding a number near 2^64 would wrap.
  if (capacity == 0 || capacity > options_.budget_bytes ||
      capacity > static_cast<ByteCount>(std::numeric_limits<off_t>::max()) - space_.page_bytes) {
    return Error(Errc::kInvalidArgument,
                 "a slot of " + std::to_string(capacity) +
                     " bytes does not fit the arena's budget of " +
                     std::to_string(options_.budget_bytes));
  }
  const ByteCount rounded = AlignUp(capacity, space_.page_bytes);
  if (rounded > options_.budget_bytes) {
    return Error(Errc::kInvalidArgument,
                 "a slot takes " + FormatBytes(rounded) + " in pages of " +
                     FormatBytes(space_.page_bytes) + ", the arena's budget is " +
                     FormatBytes(options_.budget_bytes));
  }
  return rounded;
}

Result<std::shared_ptr<SlotFile>> Arena::CreateSlot(SlotName name,
                                                    ByteCount capacity,
                                                    const std::atomic<bool>& cancel,
                                                    std::int32_t node) const {
  HF_TRY(const ByteCount rounded, RoundedCapacity(capacity));
  Descriptor file(::openat(slots_.get(),
                           name.ToString().c_str(),
                           O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                           kPrivateFile));
  if (!file.valid()) {
    return ErrnoError(errno, "create " + PathOf(name));
  }
  HOLDFAST_FAILPOINT("arena.create.named");
  Result<std::shared_ptr<SlotFile>> filled =
      FillNewFile(std::move(file), name, rounded, cancel, node);
  if (!filled) {
    // I12.  Nobody has seen the file, so its memory comes back at once.
    (void)UnlinkName(name);
    return std::move(filled).error().WithContext("slot of " + FormatBytes(rounded) + ", " +
                                                 PathOf(name));
  }
  HOLDFAST_FAILPOINT("arena.create.filled");
  return filled;
}

Result<std::shared_ptr<SlotFile>> Arena::FillNewFile(Descriptor file,
                                                     SlotName name,
                                                     ByteCount capacity,
                                                     const std::atomic<bool>& cancel,
                                                     std::int32_t node) const {
  HF_TRYV(FailpointStatus("arena.create.fill"));
  if (::ftruncate(file.get(), static_cast<off_t>(capacity)) != 0) {
    return ErrnoError(errno, "ftruncate");
  }
  HF_TRY(std::shared_ptr<SlotFile> slot, SlotFile::Map(std::move(file), name, capacity));
  placement_.Place(slot->mutable_view(), node);
  PrefaultOptions prefault;
  prefault.threads = options_.prefault_threads;
  prefault.piece_bytes = std::max(prefault.piece_bytes, space_.page_bytes);
  HF_TRYV(Prefault(slot->fd(), slot->mutable_view(), prefault, cancel));
  if (slot->poisoned()) {
    return Error(Errc::kNoSpace, "the memory ran out while the pages were made");
  }
  return slot;
}

Result<Arena::OpenedFile> Arena::OpenChecked(SlotName name) const {
  // O_NONBLOCK: opening a FIFO that somebody put there must not wait.
  Descriptor file(::openat(
      slots_.get(), name.ToString().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.valid()) {
    return ErrnoError(errno, "open " + PathOf(name));
  }
  struct stat status = {};
  if (::fstat(file.get(), &status) != 0) {
    return ErrnoError(errno, "fstat of " + PathOf(name));
  }
  if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & kOthers) != 0) {
    return Error(Errc::kPermission,
                 PathOf(name) + " is not a private regular file of ours: it is left alone");
  }
  return OpenedFile{
      std::move(file), static_cast<ByteCount>(status.st_size), {status.st_dev, status.st_ino}};
}

Result<std::shared_ptr<SlotFile>> Arena::OpenSlot(SlotName name, ByteCount capacity) const {
  HF_TRY(OpenedFile opened, OpenChecked(name));
  if (opened.size != capacity || capacity == 0) {
    return Error(Errc::kCorruption,
                 PathOf(name) + " has " + std::to_string(opened.size) + " bytes, recorded are " +
                     std::to_string(capacity) + ": its snapshot is lost");
  }
  return SlotFile::Map(std::move(opened.file), name, capacity);
}

Result<QuarantinedFile> Arena::Quarantine(SlotName name) const {
  HF_TRY(OpenedFile opened, OpenChecked(name));
  return QuarantinedFile(std::move(opened.file), name, opened.size, opened.identity);
}

Result<QuarantinedFile> Arena::Unlink(SlotName name) const {
  HF_TRY(QuarantinedFile file, Quarantine(name));
  HF_TRYV(UnlinkName(name));
  return file;
}

Status Arena::Remove(SlotName name) const {
  HF_TRYV(OpenChecked(name));
  return UnlinkName(name);
}

Status Arena::UnlinkName(SlotName name) const {
  if (::unlinkat(slots_.get(), name.ToString().c_str(), 0) != 0) {
    return ErrnoError(errno, "unlink " + PathOf(name));
  }
  return Ok();
}

Result<ArenaListing> Arena::ListFiles() const {
  HF_TRY(const std::vector<std::string> names,
         ListFolder(slots_.get(), options_.folder + "/slots"));
  ArenaListing listing;
  for (const std::string& text : names) {
    struct stat status = {};
    if (::fstatat(slots_.get(), text.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      continue;  // removed meanwhile
    }
    const Result<SlotName> name = SlotName::Parse(text);
    if (name && S_ISREG(status.st_mode) && status.st_uid == ::geteuid()) {
      listing.files.push_back({name.value(),
                               static_cast<ByteCount>(status.st_size),
                               static_cast<ByteCount>(status.st_blocks) * kStatBlock});
    } else if (listing.strangers.size() < kMaxStrangers) {
      listing.strangers.push_back(text);
    }
  }
  std::sort(listing.files.begin(), listing.files.end(), [](const auto& a, const auto& b) {
    return a.name < b.name;
  });
  return listing;
}

Result<ByteCount> Arena::UsedBytes() const {
  HF_TRY(const ArenaListing listing, ListFiles());
  ByteCount used = 0;
  for (const ArenaFile& file : listing.files) {
    used += file.allocated_bytes;
  }
  return used;
}

std::string Arena::PathOf(SlotName name) const {
  return options_.folder + "/slots/" + name.ToString();
}

}  // namespace holdfast::storage_tiers
