#include "cli/source_daemon.h"

#include <algorithm>
#include <utility>

#include "cli/interrupt.h"
#include "cli/snapshot_state.h"
#include "cli/text.h"
#include "cli/touched_tensors.h"
#include "common/crc32c.h"
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

ByteCount BytesOfImage(const proto::SnapshotInfo& snapshot,
                       std::uint32_t rank,
                       proto::ImageKind kind) {
  for (const proto::ShardInfo& shard : snapshot.shards()) {
    if (shard.rank() == rank) {
      return kind == proto::STATIC ? shard.static_image_bytes() : shard.image_bytes();
    }
  }
  return 0;
}

// One request of a verification, so that progress moves and Ctrl-C is heard within a large shard:
// a few in a second, each long beside its round trip.
constexpr std::uint64_t kChunksOfRange = 256;

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
  if (!job.empty() && listing.reply.snapshots().empty()) {
    HF_TRYV(CheckKnown(job));
  }
  for (const proto::SnapshotInfo& snapshot : listing.reply.snapshots()) {
    // Names and ids become paths and messages further on.
    HF_TRYV(layout::ValidateJobName(snapshot.job_name()));
    HF_TRYV(layout::ValidateSnapshotId(snapshot.id()));
  }
  SortNewestFirst(&listing.reply);
  return listing;
}

Result<proto::StatusReply> DaemonSource::Overview(const Listing& /*listing*/) {
  proto::ClientMessage request;
  request.mutable_status();
  HF_TRY(AdminReply reply, channel_.Call(std::move(request), Body::kStatus, kQuickCall));
  return std::move(*reply.message.mutable_status());
}

// A job without snapshots is not the same as a name that was misspelt.
Status DaemonSource::CheckKnown(const std::string& job) {
  HF_TRY(const proto::StatusReply status, Overview({}));
  std::vector<std::string> names;
  for (const proto::JobStatus& known : status.jobs()) {
    if (known.name() == job) {
      return Ok();
    }
    names.push_back(known.name());
  }
  return Error(Errc::kNotFound,
               "the daemon of this node knows no job " + job +
                   (names.empty() ? ", nor any other" : InsteadText(names)));
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

Status DaemonSource::VerifyRanges(const proto::SnapshotInfo& snapshot,
                                  std::uint32_t rank,
                                  proto::ImageKind kind,
                                  Progress* progress,
                                  ByteCount* bytes,
                                  std::vector<std::uint64_t>* bad) {
  const ByteCount whole = BytesOfImage(snapshot, rank, kind);
  const std::chrono::milliseconds timeout =
      kQuickCall + std::chrono::milliseconds(kChunksOfRange * kChunkBytes / kSlowestBytesPerMs);
  do {
    if (InterruptFlag()->load()) {
      return Error(Errc::kCancelled, "interrupted");
    }
    proto::ClientMessage request;
    proto::VerifyShardRequest* range = request.mutable_verify_shard();
    *range->mutable_id() = snapshot.id();
    range->set_rank(rank);
    range->set_image(kind);
    range->set_first_chunk(*bytes / kChunkBytes);
    range->set_chunks(kChunksOfRange);
    HF_TRY(const AdminReply reply, channel_.Call(std::move(request), Body::kVerifyShard, timeout));
    const proto::VerifyShardReply& verified = reply.message.verify_shard();
    *bytes += verified.bytes();
    if (progress != nullptr) {
      progress->Add(verified.bytes());
    }
    bad->insert(bad->end(), verified.bad_chunks().begin(), verified.bad_chunks().end());
    if (*bytes < whole && (verified.bytes() == 0 || *bytes % kChunkBytes != 0)) {
      return Error(Errc::kInternal,
                   "the daemon read " + std::to_string(*bytes) + " of " + std::to_string(whole) +
                       " bytes of " + ShardText(snapshot, rank) + " and then no whole chunk");
    }
  } while (*bytes < whole);
  return Ok();
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

bool DaemonSource::Retired(const proto::SnapshotInfo& /*snapshot*/, const Error& error) {
  return error.code == Errc::kNotFound;
}

Status DaemonSource::VerifyImage(const proto::SnapshotInfo& snapshot,
                                 proto::ImageKind kind,
                                 const proto::Sidecar* sidecar,
                                 Progress* progress,
                                 ShardVerdict* verdict) {
  ByteCount bytes = 0;
  std::vector<std::uint64_t> bad;
  const Status done = VerifyRanges(snapshot, verdict->rank, kind, progress, &bytes, &bad);
  verdict->bytes += bytes;
  if (!done) {
    if (EndsAll(done.error().code)) {
      return done.error();
    }
    verdict->error = done.error();
  }
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
