#include "storage_tiers/atomic_publish.h"

#include <array>

#include "common/bytes.h"
#include "common/random.h"

namespace holdfast::storage_tiers {

namespace {

// Another node's clean-up may take our temporary file for a leftover; then it is written again.
constexpr int kTries = 3;

std::string TemporaryName(std::string_view name) {
  const std::string uid = RandomUid();
  return std::string(kTemporaryPrefix) + std::string(name) + "-" + ToHex(AsBytes(uid));
}

Status WriteAndSync(FileSystem& fs, const std::string& path, std::string_view contents) {
  HF_TRY(const auto file, fs.OpenForWrite(path));
  HF_TRYV(file->WriteAt(0, AsBytes(contents)));
  return file->Sync();
}

// Writes a temporary file and lets "name_it" give it its name.
template <class NameIt>
Status WriteThenName(FileSystem& fs,
                     const std::string& folder,
                     std::string_view name,
                     std::string_view contents,
                     NameIt name_it) {
  Status status = Ok();
  for (int i = 0; i < kTries; ++i) {
    const std::string temporary = JoinPath(folder, TemporaryName(name));
    status = WriteAndSync(fs, temporary, contents);
    if (status) {
      status = name_it(temporary);
    }
    // After a rename the name is gone already.  A failure leaves a leftover, never a wrong file.
    (void)UnlinkIfPresent(fs, temporary);
    if (status || status.error().code != Errc::kNotFound) {
      return status;
    }
  }
  return status;
}

}  // namespace

Status PublishExclusive(FileSystem& fs,
                        const std::string& folder,
                        std::string_view name,
                        std::string_view contents) {
  const std::string target = JoinPath(folder, name);
  Status linked =
      WriteThenName(fs, folder, name, contents, [&](const std::string& temporary) -> Status {
        return fs.Link(temporary, target);
      });
  if (!linked && linked.error().code == Errc::kAlreadyExists) {
    const Result<std::string> there = ReadSmallFile(fs, target, contents.size());
    if (!there && there.error().code != Errc::kCorruption) {
      return there.error();
    }
    if (!there || there.value() != contents) {
      return Error(Errc::kAlreadyExists, target + ": exists with other contents");
    }
  } else if (!linked) {
    return linked;
  }
  // Synced by us in any case: the other writer of equal bytes may have died before it did.  Its
  // contents were synced before it linked them.
  return fs.SyncFolder(folder);
}

Status ReplaceAtomically(FileSystem& fs,
                         const std::string& folder,
                         std::string_view name,
                         std::string_view contents) {
  const std::string target = JoinPath(folder, name);
  HF_TRYV(WriteThenName(fs, folder, name, contents, [&](const std::string& temporary) -> Status {
    return fs.Rename(temporary, target);
  }));
  return fs.SyncFolder(folder);
}

}  // namespace holdfast::storage_tiers
