#include "storage_tiers/file_system.h"

#include <algorithm>

#include "common/bandwidth_budget.h"
#include "common/crc32c.h"

namespace holdfast::storage_tiers {

namespace {

constexpr int kMaxTreeDepth = 16;

Status Refuse(const std::string& what) {
  return Error(Errc::kInvalidArgument, "image I/O options: " + what);
}

bool Cancelled(const ImageIoOptions& options) {
  return options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed);
}

Status BeforeBlock(const ImageIoOptions& options, const std::string& path, ByteCount bytes) {
  if (Cancelled(options)) {
    return Error(Errc::kCancelled, path + ": transfer cancelled");
  }
  if (options.budget != nullptr) {
    HF_TRYV(options.budget->Acquire(bytes, options.cancel));
  }
  return Ok();
}

Status RemoveTreeBelow(FileSystem& fs, const std::string& path, int depth) {
  if (depth > kMaxTreeDepth) {
    return Error(Errc::kCorruption,
                 path + ": folders nested deeper than Holdfast makes them; remove it by hand");
  }
  const Result<std::vector<FolderEntry>> entries = fs.List(path);
  if (!entries) {
    // Another node may be removing the same tree.
    return entries.error().code == Errc::kNotFound ? Status(Ok()) : Status(entries.error());
  }
  for (const FolderEntry& entry : entries.value()) {
    const std::string child = JoinPath(path, entry.name);
    if (entry.kind == FileKind::kFolder) {
      HF_TRYV(RemoveTreeBelow(fs, child, depth + 1));
    } else {
      HF_TRYV(UnlinkIfPresent(fs, child));
    }
  }
  Status removed = fs.RemoveFolder(path);
  if (!removed && removed.error().code != Errc::kNotFound) {
    return removed;
  }
  return Ok();
}

}  // namespace

Status ValidateImageIoOptions(const ImageIoOptions& options) {
  if (options.block_bytes == 0 || options.block_bytes % kChunkBytes != 0 ||
      options.block_bytes > 64 * kMiB) {
    return Refuse("block_bytes must be a multiple of 1 MiB, at most 64 MiB, not " +
                  FormatBytes(options.block_bytes));
  }
  if (options.blocks_in_flight == 0 || options.blocks_in_flight > 64) {
    return Refuse("blocks_in_flight must be 1 to 64, not " +
                  std::to_string(options.blocks_in_flight));
  }
  if (options.progress_timeout.count() <= 0 || options.sync_timeout.count() <= 0) {
    return Refuse("progress_timeout and sync_timeout must be above 0");
  }
  return Ok();
}

Status FileSystem::WriteImage(const std::string& path,
                              ByteView image,
                              const ImageIoOptions& options) {
  HF_TRYV(ValidateImageIoOptions(options));
  HF_TRY(const auto file, OpenForWrite(path));
  HF_TRYV(file->Preallocate(image.size()));
  for (ByteCount offset = 0; offset < image.size(); offset += options.block_bytes) {
    const ByteView block =
        image.subspan(offset, std::min<ByteCount>(options.block_bytes, image.size() - offset));
    HF_TRYV(BeforeBlock(options, path, block.size()));
    if (options.inspect) {
      HF_TRYV(options.inspect(offset, block));
    }
    HF_TRYV(file->WriteAt(offset, block));
  }
  HF_TRYV(file->Truncate(image.size()));
  if (Cancelled(options)) {
    return Error(Errc::kCancelled, path + ": transfer cancelled");
  }
  return file->Sync();
}

Status FileSystem::ReadImage(const std::string& path,
                             MutableByteView destination,
                             const ImageIoOptions& options) {
  HF_TRYV(ValidateImageIoOptions(options));
  HF_TRY(const auto file, OpenForRead(path));
  HF_TRY(const ByteCount size, file->Size());
  if (size != destination.size()) {
    return Error(Errc::kCorruption,
                 path + ": has " + std::to_string(size) + " bytes, " +
                     std::to_string(destination.size()) + " expected");
  }
  for (ByteCount offset = 0; offset < destination.size(); offset += options.block_bytes) {
    const MutableByteView block = destination.subspan(
        offset, std::min<ByteCount>(options.block_bytes, destination.size() - offset));
    HF_TRYV(BeforeBlock(options, path, block.size()));
    HF_TRYV(file->ReadAt(offset, block));
    if (options.inspect) {
      HF_TRYV(options.inspect(offset, block));
    }
  }
  return Ok();
}

std::string JoinPath(std::string_view folder, std::string_view name) {
  std::string path(folder);
  if (!path.empty() && path.back() != '/') {
    path += '/';
  }
  path += name;
  return path;
}

std::string ParentFolder(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) {
    return ".";
  }
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

Result<bool> Exists(FileSystem& fs, const std::string& path) {
  const Result<FileInfo> info = fs.Stat(path);
  if (info) {
    return true;
  }
  if (info.error().code == Errc::kNotFound) {
    return false;
  }
  return info.error();
}

Status CreateFolderIfMissing(FileSystem& fs, const std::string& path) {
  Status created = fs.CreateFolder(path);
  if (created || created.error().code != Errc::kAlreadyExists) {
    return created;
  }
  HF_TRY(const FileInfo info, fs.Stat(path));
  if (info.kind != FileKind::kFolder) {
    return Error(Errc::kAlreadyExists, path + ": exists and is not a folder; move it away");
  }
  return Ok();
}

Result<std::vector<FolderEntry>> ListIfPresent(FileSystem& fs, const std::string& path) {
  Result<std::vector<FolderEntry>> entries = fs.List(path);
  if (!entries && entries.error().code == Errc::kNotFound) {
    return std::vector<FolderEntry>();
  }
  return entries;
}

Status UnlinkIfPresent(FileSystem& fs, const std::string& path) {
  Status unlinked = fs.Unlink(path);
  if (!unlinked && unlinked.error().code == Errc::kNotFound) {
    return Ok();
  }
  return unlinked;
}

Status RemoveTree(FileSystem& fs, const std::string& path) {
  return RemoveTreeBelow(fs, path, 0);
}

Result<std::string> ReadSmallFile(FileSystem& fs, const std::string& path, ByteCount limit) {
  HF_TRY(const auto file, fs.OpenForRead(path));
  HF_TRY(const ByteCount size, file->Size());
  if (size > limit) {
    return Error(Errc::kCorruption,
                 path + ": has " + FormatBytes(size) + ", more than the " + FormatBytes(limit) +
                     " that such a file can have");
  }
  std::string text(size, '\0');
  HF_TRYV(file->ReadAt(0, std::as_writable_bytes(std::span(text.data(), text.size()))));
  return text;
}

}  // namespace holdfast::storage_tiers
