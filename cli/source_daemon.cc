#include "cli/source_daemon.h"

#include <algorithm>
#include <utility>

#include "cli/snapshot_state.h"
#include "cli/touched_tensors.h"
#include "layout/names.h"
#include "layout/sidecar.h"
#include "storage_tiers/retention.h"

namespace holdfast::cli {
namespace {

using Body = proto::ServerMessage::BodyCase;

// Slower than any memory that works.
constexpr ByteCount kSlowestBytesPerMs = 50'000;

std::string ShardText(const proto::SnapshotInfo& snapshot, std::uint32_t rank) {
  return "rank " + std::to_string(rank) + " of " + snapshot.job_name() + " step " +
         std::to_string(snapshot.id().step()) + " of incarnation " +
         std::to_string(snapshot.id().incarnation());
}

// The daemon is trusted with the bytes, not with being of our version: what it sends is checked.
Status CheckSidecar(const proto::Sidecar& sidecar,
                    const proto::SnapshotInfo& snapshot,
                    std::uint32_t rank) {
  HF_TRYV(layout::ValidateSidecar(sidecar));
  if (!storage_tiers::SameSnapshot(sidecar.id(), snapshot.id()) || sidecar.rank() != rank) {
    return Error(Errc::kInternal,
                 "the daemon answered with another shard than " + ShardText(snapshot, rank));
  }
  if (!sidecar.has_layout()) {
    return Error(Errc::kInternal, "the daemon sent a sidecar without layout");
  }
  return Ok();
}

ByteCount BytesOfShard(const proto::SnapshotInfo& snapshot, std::uint32_t rank) {
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    if (shard.rank() == rank) {
      return shard.image_bytes() + shard.static_image_bytes();
    }
  }
  return 0;
}

// What ends a verification rather than being its result.
bool EndsAll(Errc code) {
  return code == Errc::kUnavailable || code == Errc::kTimeout || code == Errc::kCancelled ||
         code == Errc::kPermission;
}

}  // namespace

DaemonSource::DaemonSource(AdminChannel& channel) : channel_(channel) {}

Result<Listing> DaemonSource::List(const std::string& job) {
  if (!job.empty()) {
    HF_TRYV(layout::ValidateJobName(job));
  }
  proto::ClientMessage request;
  request.mutable_list()->set_job_name(job);
  HF_TRY(AdminReply reply, channel_.Call(std::move(request), Body::kList, kQuickCall));
  Listing listing;
  listing.reply = std::move(*reply.message.mutable_list());
  for (const proto::SnapshotInfo& snapshot : listing.reply.snapshots()) {
    // Names and ids become paths and messages further on.
    HF_TRYV(layout::ValidateJobName(snapshot.job_name()));
    HF_TRYV(layout::ValidateSnapshotId(snapshot.id()));
  }
  SortNewestFirst(&listing.reply);
  return listing;
}

Result<AdminReply> DaemonSource::Open(const proto::SnapshotInfo& snapshot,
                                      std::uint32_t rank,
                                      proto::ImageKind image) {
  proto::ClientMessage request;
  *request.mutable_open_shard()->mutable_id() = snapshot.id();
  request.mutable_open_shard()->set_rank(rank);
  request.mutable_open_shard()->set_image(image);
  HF_TRY(AdminReply reply, channel_.Call(std::move(request), Body::kOpenShard, kQuickCall));
  HF_TRYV(CheckSidecar(reply.message.open_shard().sidecar(), snapshot, rank));
  return reply;
}

Result<OpenedShard> DaemonSource::OpenShard(const proto::SnapshotInfo& snapshot,
                                            std::uint32_t rank) {
  HF_TRY(AdminReply reply, Open(snapshot, rank, proto::DYNAMIC));
  OpenedShard shard;
  shard.sidecar = std::move(*reply.message.mutable_open_shard()->mutable_sidecar());
  for (const proto::ImageDigest& image : shard.sidecar.images()) {
    if (image.kind() == proto::STATIC) {
      HF_TRY(reply, Open(snapshot, rank, proto::STATIC));
    }
    if (!reply.descriptor.valid()) {
      return Error(Errc::kInternal,
                   "the daemon sent no descriptor of " + ShardText(snapshot, rank));
    }
    HF_TRY(ImageReader reader,
           ImageReader::FromDescriptor(std::move(reply.descriptor),
                                       "memory of " + ShardText(snapshot, rank)));
    shard.images.push_back({image, std::move(reader)});
  }
  return shard;
}

Result<ShardVerdict> DaemonSource::VerifyShard(const proto::SnapshotInfo& snapshot,
                                               std::uint32_t rank,
                                               Progress* progress) {
  ShardVerdict verdict = NewVerdict(snapshot, rank);
  // Before the verification, which poisons what is bad: then it cannot be opened any more.
  const Result<AdminReply> opened = Open(snapshot, rank, proto::DYNAMIC);
  if (!opened && EndsAll(opened.error().code)) {
    return opened.error();
  }
  const proto::Sidecar* sidecar = opened ? &opened.value().message.open_shard().sidecar() : nullptr;
  for (const proto::ImageKind kind : {proto::DYNAMIC, proto::STATIC}) {
    const bool there = kind == proto::DYNAMIC || (sidecar != nullptr && sidecar->images_size() > 1);
    if (there && !verdict.error) {
      HF_TRYV(VerifyImage(snapshot, kind, sidecar, progress, &verdict));
    }
  }
  return verdict;
}

// What is wrong is added to the verdict; an error ends the whole verification.
Status DaemonSource::VerifyImage(const proto::SnapshotInfo& snapshot,
                                 proto::ImageKind kind,
                                 const proto::Sidecar* sidecar,
                                 Progress* progress,
                                 ShardVerdict* verdict) {
  proto::ClientMessage request;
  *request.mutable_verify_shard()->mutable_id() = snapshot.id();
  request.mutable_verify_shard()->set_rank(verdict->rank);
  request.mutable_verify_shard()->set_image(kind);
  const std::chrono::milliseconds timeout =
      kQuickCall +
      std::chrono::milliseconds(BytesOfShard(snapshot, verdict->rank) / kSlowestBytesPerMs);
  Result<AdminReply> reply = channel_.Call(std::move(request), Body::kVerifyShard, timeout);
  if (!reply) {
    if (EndsAll(reply.error().code)) {
      return reply.error();
    }
    verdict->error = reply.error();
    return Ok();
  }
  const proto::VerifyShardReply& verified = reply.value().message.verify_shard();
  verdict->bytes += verified.bytes();
  if (progress != nullptr) {
    progress->Add(verified.bytes());
  }
  std::vector<std::uint64_t> bad(verified.bad_chunks().begin(), verified.bad_chunks().end());
  if (!bad.empty()) {
    std::sort(bad.begin(), bad.end());
    if (sidecar != nullptr) {
      const auto touched = TouchedTensors(sidecar->layout(), kind, bad);
      verdict->tensors.insert(verdict->tensors.end(), touched.begin(), touched.end());
    }
    verdict->bad.push_back({kind, std::move(bad)});
  }
  return Ok();
}

}  // namespace holdfast::cli
