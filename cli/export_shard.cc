#include "cli/export_shard.h"

#include <memory>
#include <utility>

#include "cli/image_check.h"
#include "cli/text.h"
#include "cli/touched_tensors.h"
#include "common/bytes.h"
#include "common/random.h"
#include "layout/names.h"
#include "storage_tiers/atomic_publish.h"

namespace holdfast::cli {
namespace {

using storage_tiers::JoinPath;

constexpr std::uint32_t kFlat = 1;  // names of a world of one: without subfolders

std::string ImageName(std::uint32_t rank, proto::ImageKind kind) {
  return layout::RankFileName(rank, kFlat, kind);
}

std::string StateName(std::uint32_t rank) {
  const std::string meta = layout::SidecarFileName(rank, kFlat);
  return meta.substr(0, meta.rfind('.')) + ".state.json";
}

Error Exists(const std::string& path) {
  return Error(Errc::kAlreadyExists,
               path + ": exists; nothing is ever overwritten, export to an empty folder");
}

// Removes the temporary file, whatever happens.
class Temporary {
 public:
  Temporary(storage_tiers::FileSystem& fs, const std::string& folder, const std::string& name)
      : fs_(fs),
        path_(JoinPath(folder,
                       std::string(storage_tiers::kTemporaryPrefix) + name + "-" +
                           ToHex(AsBytes(RandomUid())))) {}

  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;

  ~Temporary() {
    // What cannot be removed keeps a name that nobody takes for a result.
    (void)storage_tiers::UnlinkIfPresent(fs_, path_);
  }

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  storage_tiers::FileSystem& fs_;
  const std::string path_;
};

// The temporary file gets its name, unless the name is taken.
Status Name(storage_tiers::FileSystem& fs, const Temporary& temporary, const std::string& target) {
  Status linked = fs.Link(temporary.path(), target);
  if (!linked && linked.error().code == Errc::kAlreadyExists) {
    return Exists(target);
  }
  return linked;
}

Error BadImage(const OpenedShard& shard,
               const OpenedImage& image,
               const std::vector<std::uint64_t>& bad) {
  const auto tensors = TouchedTensors(shard.sidecar.layout(), image.digest.kind(), bad);
  return Error(Errc::kCorruption,
               image.reader.name() + ": chunk " + std::to_string(bad.front()) +
                   " does not match its digest" +
                   (tensors.empty() ? "" : " (tensor " + tensors.front() + ")") +
                   "; nothing of it was exported");
}

// A file whose bytes are all there, checked and synced, without its name.
struct Unnamed {
  std::unique_ptr<Temporary> temporary;
  ExportedFile file;
};

Result<Unnamed> WriteImage(storage_tiers::FileSystem& fs,
                           const OpenedShard& shard,
                           const OpenedImage& image,
                           const std::string& folder,
                           Progress* progress) {
  const std::string name = ImageName(shard.sidecar.rank(), image.digest.kind());
  Unnamed written;
  written.file = {JoinPath(folder, name), image.digest.length_bytes()};
  written.temporary = std::make_unique<Temporary>(fs, folder, name);
  HF_TRY(const std::unique_ptr<storage_tiers::File> file,
         fs.OpenForWrite(written.temporary->path()));
  HF_TRYV(file->Preallocate(image.digest.length_bytes()));
  const BlockSink write = [&](ByteCount offset, ByteView block) -> Status {
    return file->WriteAt(offset, block);
  };
  HF_TRY(const auto bad, CheckImage(image.reader, image.digest, progress, write));
  if (!bad.empty()) {
    return BadImage(shard, image, bad);
  }
  HF_TRYV(file->Truncate(image.digest.length_bytes()));
  HF_TRYV(file->Sync());
  return written;
}

Result<Unnamed> WriteState(storage_tiers::FileSystem& fs,
                           const OpenedShard& shard,
                           const std::string& folder) {
  const std::string state = StateDocument(shard.sidecar);
  const std::string name = StateName(shard.sidecar.rank());
  Unnamed written;
  written.file = {JoinPath(folder, name), state.size()};
  written.temporary = std::make_unique<Temporary>(fs, folder, name);
  HF_TRY(const std::unique_ptr<storage_tiers::File> file,
         fs.OpenForWrite(written.temporary->path()));
  HF_TRYV(file->WriteAt(0, AsBytes(state)));
  HF_TRYV(file->Sync());
  return written;
}

}  // namespace

Status RefuseExported(storage_tiers::FileSystem& fs,
                      const std::string& folder,
                      std::uint32_t rank) {
  for (const std::string& name :
       {ImageName(rank, proto::DYNAMIC), ImageName(rank, proto::STATIC), StateName(rank)}) {
    const std::string path = JoinPath(folder, name);
    HF_TRY(const bool exists, storage_tiers::Exists(fs, path));
    if (exists) {
      return Exists(path);
    }
  }
  return Ok();
}

Result<std::vector<ExportedFile>> ExportShard(storage_tiers::FileSystem& fs,
                                              const OpenedShard& shard,
                                              const std::string& folder,
                                              Progress* progress) {
  HF_TRYV(RefuseExported(fs, folder, shard.sidecar.rank()));
  // No name before all of the shard is good: another copy of it may be tried after this one.
  std::vector<Unnamed> written;
  for (const OpenedImage& image : shard.images) {
    HF_TRY(Unnamed one, WriteImage(fs, shard, image, folder, progress));
    written.push_back(std::move(one));
  }
  HF_TRY(Unnamed state, WriteState(fs, shard, folder));
  written.push_back(std::move(state));
  std::vector<ExportedFile> files;
  for (Unnamed& one : written) {
    HF_TRYV(Name(fs, *one.temporary, one.file.path));
    files.push_back(std::move(one.file));
  }
  written.clear();
  HF_TRYV(fs.SyncFolder(folder));
  return files;
}

}  // namespace holdfast::cli
