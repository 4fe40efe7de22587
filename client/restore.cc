#include "client/restore.h"

#include <algorithm>
#include <utility>

#include <google/protobuf/util/json_util.h>

#include "client/protocol.h"
#include "common/failpoint.h"
#include "layout/sidecar.h"

namespace holdfast::client {
namespace {

const proto::ImageDigest* DigestOf(const proto::Sidecar& sidecar, proto::ImageKind kind) {
  for (const proto::ImageDigest& image : sidecar.images()) {
    if (image.kind() == kind) {
      return &image;
    }
  }
  return nullptr;
}

}  // namespace

Restore::Restore(Session* session, proto::RestoreReply reply)
    : session_(session), reply_(std::move(reply)) {}

Restore::~Restore() {
  if (!finished_) {
    session_->Tell(LoadedMessage("the rank dropped the attempt"));
  }
}

Result<std::unique_ptr<Restore>> Restore::Begin(Session* session,
                                                const RestoreWish& wish,
                                                MonotonicTime deadline) {
  proto::ClientMessage message;
  auto* request = message.mutable_restore();
  request->set_has_named_step(wish.named_step.has_value());
  request->set_named_step(wish.named_step.value_or(0));
  request->set_include_discarded(wish.include_discarded);
  request->set_after_attempt(wish.after_attempt);
  request->set_overwritten(wish.overwritten);
  // 0 would say nothing of it.
  const auto left = std::max(TimeLeft(deadline), std::chrono::milliseconds(1));
  request->set_timeout_ms(static_cast<std::uint64_t>(left.count()));
  HF_TRY(Reply reply, session->RestoreCall(message, deadline));
  if (!reply.message.has_restore()) {
    return Error(Errc::kCorruption, "holdfastd answered a restore with something else");
  }
  std::unique_ptr<Restore> restore(
      new Restore(session, std::move(*reply.message.mutable_restore())));
  const Status opened = restore->Open(std::move(reply.fd));
  if (opened.has_error()) {
    restore->unusable_ = opened.error();
    restore->source_is_bad_ = opened.error().code == Errc::kCorruption;
  }
  return restore;
}

Status Restore::Open(transport::OwnedFd fd) {
  if (!reply_.has_choice()) {
    return Ok();
  }
  const proto::Sidecar& sidecar = reply_.sidecar();
  const Status sound = layout::ValidateSidecar(sidecar);
  if (sound.has_error() || !sidecar.has_layout()) {
    return Error(Errc::kCorruption,
                 "the sidecar of step " + std::to_string(reply_.id().step()) + " is not sound" +
                     (sound.has_error() ? ": " + sound.error().message : ": it has no layout"));
  }
  std::map<proto::ImageKind, transport::OwnedFd> files;
  files[proto::DYNAMIC] = std::move(fd);
  files[proto::STATIC] = session_->TakeStaticSource(reply_.attempt());
  for (const proto::ImageDigest& digest : sidecar.images()) {
    transport::OwnedFd& file = files[digest.kind()];
    if (!file.Valid()) {
      return Error(Errc::kCorruption, "holdfastd chose a snapshot without an image");
    }
    auto opened = ImageSource::Open(std::move(file), digest.length_bytes());
    if (opened.has_error()) {
      bad_image_ = digest.kind();
      return opened.error();
    }
    sources_[digest.kind()] = std::move(opened).value();
  }
  return Ok();
}

Result<const std::string*> Restore::SidecarJson() {
  if (unusable_.has_value()) {
    return *unusable_;
  }
  if (json_.empty()) {
    google::protobuf::util::JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    const auto status =
        google::protobuf::util::MessageToJsonString(reply_.sidecar(), &json_, options);
    if (!status.ok()) {
      return Error(Errc::kInternal, "Protobuf cannot print the sidecar: " + status.ToString());
    }
  }
  return &json_;
}

Status Restore::Load(std::span<const LoadTarget> targets, std::uint32_t threads, LoadSink* sink) {
  if (unusable_.has_value()) {
    return *unusable_;
  }
  if (sources_.empty()) {
    return Error(Errc::kInvalidArgument, "there is nothing to restore in this attempt");
  }
  const proto::Layout& layout = reply_.sidecar().layout();
  std::map<proto::ImageKind, std::vector<LoadPiece>> pieces;
  for (const LoadTarget& target : targets) {
    if (target.tensor >= static_cast<std::uint32_t>(layout.tensors_size())) {
      return Error(Errc::kInvalidArgument,
                   "tensor " + std::to_string(target.tensor) + " of " +
                       std::to_string(layout.tensors_size()));
    }
    const proto::TensorEntry& entry = layout.tensors(static_cast<int>(target.tensor));
    if (!sources_.contains(entry.image()) || entry.length_bytes() != target.bytes) {
      return Error(Errc::kInvalidArgument,
                   "tensor \"" + entry.name() + "\" has " + std::to_string(entry.length_bytes()) +
                       " bytes, its destination " + std::to_string(target.bytes));
    }
    pieces[entry.image()].push_back(LoadPiece{entry.offset_bytes(),
                                              target.bytes,
                                              static_cast<std::byte*>(target.destination),
                                              target.device});
  }
  for (auto& [kind, wanted] : pieces) {
    HF_TRYV(LoadImage(kind, std::move(wanted), threads, sink));
  }
  return Ok();
}

Status Restore::LoadImage(proto::ImageKind kind,
                          std::vector<LoadPiece> pieces,
                          std::uint32_t threads,
                          LoadSink* sink) {
  const proto::ImageDigest& digest = *DigestOf(reply_.sidecar(), kind);
  const std::vector<std::uint32_t> digests(digest.chunk_crc32c().begin(),
                                           digest.chunk_crc32c().end());
  LoadReport report;
  Status status =
      LoadPieces(*sources_.at(kind), digests, std::move(pieces), threads, sink, &report);
  if (status.has_error() && status.error().code == Errc::kCorruption) {
    if (source_is_bad_ && bad_image_ != kind) {
      bad_chunks_.clear();
    }
    bad_image_ = kind;
    source_is_bad_ = true;
    bad_chunks_.insert(bad_chunks_.end(), report.bad_chunks.begin(), report.bad_chunks.end());
  }
  return status;
}

proto::ClientMessage Restore::LoadedMessage(const std::string& failure) const {
  proto::ClientMessage message;
  auto* loaded = message.mutable_loaded();
  loaded->set_attempt(reply_.attempt());
  loaded->set_ok(failure.empty() && !source_is_bad_ && !unusable_.has_value());
  if (!loaded->ok()) {
    const std::string found = unusable_.has_value() ? unusable_->message : "digests did not match";
    loaded->set_failure(failure.empty() ? found : failure);
  }
  loaded->set_source_is_bad(source_is_bad_);
  loaded->set_bad_image(bad_image_);
  loaded->mutable_bad_chunks()->Add(bad_chunks_.begin(), bad_chunks_.end());
  return message;
}

Result<bool> Restore::Finish(const std::string& failure, MonotonicTime deadline) {
  HOLDFAST_FAILPOINT("client.before_loaded");
  const auto reply = session_->RestoreCall(LoadedMessage(failure), deadline);
  // Any answer ends the attempt for this rank: an error says that the restore is over for all.
  finished_ = reply.has_value() || reply.error().code != Errc::kTimeout;
  if (reply.has_error()) {
    return reply.error();
  }
  if (!reply.value().message.has_loaded()) {
    return Error(Errc::kCorruption, "holdfastd answered with something else than loaded");
  }
  return reply.value().message.loaded().committed();
}

Status Restore::Refuse(const std::string& reason, MonotonicTime deadline) {
  proto::ClientMessage message = LoadedMessage(reason);
  message.mutable_loaded()->set_ok(false);
  message.mutable_loaded()->set_failure(reason);
  message.mutable_loaded()->set_fatal(true);
  const auto reply = session_->RestoreCall(message, deadline);
  finished_ = true;
  if (reply.has_error() && reply.error().code == Errc::kTimeout) {
    return reply.error();
  }
  return Ok();
}

}  // namespace holdfast::client
