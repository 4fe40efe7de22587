#include "storage_tiers/catalog_log_mark.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <memory>
#include <string_view>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "storage_tiers/catalog_rocksdb.h"

namespace holdfast::storage_tiers {
namespace {

constexpr std::string_view kPrefix = "holdfast log mark ";
constexpr std::size_t kMaxFileBytes = 128;

std::string MarkPath(const std::string& path) {
  return path + "/" + kLogMarkFileName;
}

// "holdfast log mark 7 crc 0123abcd\n"; the digest is of what stands before " crc".
std::string Encode(std::uint64_t mark) {
  std::string text = std::string(kPrefix) + std::to_string(mark);
  std::array<char, 16> digest{};
  (void)std::snprintf(digest.data(), digest.size(), "%08x", Crc32c(0, AsBytes(text)));
  return text + " crc " + digest.data() + "\n";
}

std::uint64_t Decode(std::string_view text) {
  if (!text.starts_with(kPrefix)) {
    return 0;
  }
  const std::string_view digits = text.substr(kPrefix.size());
  std::uint64_t mark = 0;
  (void)std::from_chars(digits.data(), digits.data() + digits.size(), mark);
  return Encode(mark) == text ? mark : 0;
}

rocksdb::Status WriteFile(rocksdb::Env* env, const std::string& path, const std::string& text) {
  std::unique_ptr<rocksdb::WritableFile> file;
  rocksdb::Status status = env->NewWritableFile(path, &file, rocksdb::EnvOptions());
  if (status.ok()) {
    status = file->Append(text);
  }
  if (status.ok()) {
    status = file->Fsync();
  }
  if (file != nullptr) {
    const rocksdb::Status closed = file->Close();
    status = status.ok() ? closed : status;
  }
  return status;
}

}  // namespace

std::uint64_t ReadLogMark(rocksdb::Env* env, const std::string& path) {
  std::unique_ptr<rocksdb::SequentialFile> file;
  std::array<char, kMaxFileBytes> room{};
  rocksdb::Slice text;
  if (!env->NewSequentialFile(MarkPath(path), &file, rocksdb::EnvOptions()).ok() ||
      !file->Read(room.size(), &text, room.data()).ok()) {
    return 0;
  }
  return Decode({text.data(), text.size()});
}

Status WriteLogMark(rocksdb::Env* env, const std::string& path, std::uint64_t mark) {
  const std::string temporary = MarkPath(path) + ".new";
  rocksdb::Status status = WriteFile(env, temporary, Encode(mark));
  if (status.ok()) {
    status = env->RenameFile(temporary, MarkPath(path));
  }
  std::unique_ptr<rocksdb::Directory> folder;
  if (status.ok()) {
    status = env->NewDirectory(path, &folder);
  }
  if (status.ok()) {
    status = folder->Fsync();
  }
  return status.ok() ? Status(Ok()) : CatalogError(status, "write " + MarkPath(path));
}

}  // namespace holdfast::storage_tiers
