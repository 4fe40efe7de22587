// The persistent tier: a shard from memory to disk, and an image from disk into a trainer.
//
//   tier_bench <root> <bytes> <tensors>     <root> is an empty folder on the disk to be measured
//   flush                everything that makes a snapshot of one rank durable: image, sidecar,
//                        folders, manifest
//   restore <threads>    as a trainer restores: descriptor, every tensor, every digest
//   read                 as the daemon reads an image back into a slot
// Each answers: seconds, bytes.  Nothing is read that the page cache has: it is emptied of the file
// before.  Only the newest snapshot stays on the disk.
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "bench/adam_state.h"
#include "bench/commands.h"
#include "bench/pages.h"
#include "client/image_load.h"
#include "client/image_source.h"
#include "common/crc32c.h"
#include "layout/image.h"
#include "layout/manifest.h"
#include "layout/names.h"
#include "layout/sidecar.h"
#include "storage_tiers/persistent_tier.h"
#include "storage_tiers/posix_file_system.h"

namespace holdfast::bench {
namespace {

constexpr std::uint64_t kIncarnation = 1;
const std::string kJobName = "bench";
const std::string kUid(16, 'b');

class TierBench {
 public:
  explicit TierBench(const std::string& root)
      : root_(root), tier_(files_, root, storage_tiers::TierScope::kShared) {}

  Status Prepare(ByteCount bytes, std::size_t tensors) {
    HF_TRY(const auto specs, AdamSpecs(tensors, bytes));
    HF_TRY(memory_, AllocateAdam(specs));
    HF_TRY(const proto::Layout layout, layout::PlanImage(specs));
    const ByteCount length = layout::ImageBytes(layout, proto::DYNAMIC);
    HF_TRY(image_, Pages::Shared(length));
    FillRandom(image_.Bytes(), 2);
    HF_TRY(const std::string header, layout::BuildImageHeader(layout, proto::DYNAMIC));
    std::copy_n(AsBytes(header).data(), header.size(), image_.Bytes().data());
    MakeSidecar(layout);
    std::map<std::string, std::byte*> places;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      places[specs[i].name] = memory_.tensors[i];
    }
    for (const proto::TensorEntry& entry : layout.tensors()) {
      pieces_.push_back({entry.offset_bytes(), entry.length_bytes(), places[entry.name()]});
    }
    return tier_.EnsureJob(kJobName, kUid);
  }

  Result<Numbers> Flush() {
    const std::string before = step_ == 0 ? "" : SnapshotFolder();
    sidecar_.mutable_id()->set_step(++step_);
    const storage_tiers::ShardImage image{proto::DYNAMIC, image_.Bytes()};
    const Stopwatch watch;
    HF_TRY(const auto files, tier_.FlushShard(sidecar_, {&image, 1}, {}));
    proto::Manifest manifest;
    manifest.set_format_version(layout::kManifestFormatVersion);
    *manifest.mutable_id() = sidecar_.id();
    manifest.set_job_name(kJobName);
    manifest.set_world_size(1);
    manifest.set_created_unix_ms(1);
    manifest.mutable_files()->Add(files.begin(), files.end());
    HF_TRYV(tier_.PublishManifest(manifest, kIncarnation));
    const double seconds = watch.Seconds();
    std::error_code ignored;
    if (!before.empty()) {
      std::filesystem::remove_all(before, ignored);
    }
    return Numbers{seconds, static_cast<double>(image_.Bytes().size())};
  }

  Result<Numbers> Restore(std::uint32_t threads) {
    HF_TRY(transport::OwnedFd fd, OpenCold());
    std::vector<client::LoadPiece> pieces = pieces_;
    client::LoadReport report;
    const Stopwatch watch;
    HF_TRY(const auto source, client::ImageSource::Open(std::move(fd), image_.Bytes().size()));
    HF_TRYV(client::LoadPieces(*source, Digests(), std::move(pieces), threads, nullptr, &report));
    return Numbers{watch.Seconds(), static_cast<double>(image_.Bytes().size())};
  }

  Result<Numbers> Read() {
    HF_TRY(const transport::OwnedFd cold, OpenCold());
    std::vector<std::uint64_t> bad_chunks;
    const Stopwatch watch;
    HF_TRYV(tier_.ReadImage(sidecar_, proto::DYNAMIC, image_.Bytes(), {}, &bad_chunks));
    return Numbers{watch.Seconds(), static_cast<double>(image_.Bytes().size())};
  }

 private:
  void MakeSidecar(const proto::Layout& layout) {
    sidecar_.set_format_version(layout::kSidecarFormatVersion);
    sidecar_.mutable_id()->set_job_uid(kUid);
    sidecar_.mutable_id()->set_incarnation(kIncarnation);
    sidecar_.set_job_name(kJobName);
    sidecar_.set_world_size(1);
    sidecar_.set_layout_hash(layout::LayoutHash(layout));
    *sidecar_.mutable_layout() = layout;
    proto::ImageDigest& digest = *sidecar_.add_images();
    digest.set_kind(proto::DYNAMIC);
    digest.set_length_bytes(image_.Bytes().size());
    digest.set_chunk_bytes(kChunkBytes);
    for (const std::uint32_t crc : ChunkDigests(image_.Bytes())) {
      digest.add_chunk_crc32c(crc);
    }
  }

  [[nodiscard]] std::string SnapshotFolder() const {
    return root_ + "/" + kJobName + "/" + layout::SnapshotFolderName(sidecar_.id());
  }

  [[nodiscard]] std::span<const std::uint32_t> Digests() const {
    const auto& digests = sidecar_.images(0).chunk_crc32c();
    return {digests.data(), static_cast<std::size_t>(digests.size())};
  }

  // The newest image, with none of it in the page cache.
  Result<transport::OwnedFd> OpenCold() {
    if (step_ == 0) {
      return Error(Errc::kInvalidArgument, "there is nothing to read before a flush");
    }
    const std::string path = SnapshotFolder() + "/" + layout::RankFileName(0, 1, proto::DYNAMIC);
    transport::OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.Valid()) {
      return ErrnoError(errno, "open " + path);
    }
    const int advised = ::posix_fadvise(fd.Get(), 0, 0, POSIX_FADV_DONTNEED);
    if (advised != 0) {
      return ErrnoError(advised, "posix_fadvise " + path);
    }
    return fd;
  }

  const std::string root_;
  storage_tiers::PosixFileSystem files_;
  storage_tiers::PersistentTier tier_;
  AdamMemory memory_;  // of the trainer that restores
  Pages image_;        // the slot
  proto::Sidecar sidecar_;
  std::vector<client::LoadPiece> pieces_;
  std::int64_t step_ = 0;
};

int Main(const Arguments& arguments) {
  const auto bytes = NumberAt(arguments, 1, kMiB, kGiB * 1024);
  const auto tensors = NumberAt(arguments, 2, 4, 1'000'000);
  if (!bytes || !tensors) {
    return Refuse((bytes ? tensors : bytes).error());
  }
  TierBench bench(arguments[0]);
  const Status prepared = bench.Prepare(bytes.value(), tensors.value());
  if (!prepared) {
    return Refuse(prepared.error());
  }
  Commands commands;
  commands.Add("flush", [&](const Arguments&) { return bench.Flush(); });
  commands.Add("read", [&](const Arguments&) { return bench.Read(); });
  commands.Add("restore", [&](const Arguments& given) -> Result<Numbers> {
    HF_TRY(const std::uint64_t threads, NumberAt(given, 0, 1, 256));
    return bench.Restore(static_cast<std::uint32_t>(threads));
  });
  return commands.Serve();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  return holdfast::bench::Main(holdfast::bench::ArgumentsOf(argc, argv));
}
