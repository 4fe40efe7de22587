#include "daemon/action_runner.h"

#include <utility>
#include <variant>

#include "common/log.h"
#include "common/with_timeout.h"
#include "daemon/digest.h"
#include "daemon/pipeline/claim.h"
#include "daemon/pipeline/flush.h"
#include "daemon/pipeline/publish.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// Slots, flushes and requests of a node bound what can run; this only bounds a bug.
constexpr std::size_t kMostActions = 65'536;

constexpr std::chrono::seconds kRecordRetry{5};

// Not where the record belongs to another start, or to a newer one by now.
bool MayHeal(Errc code) {
  return code == Errc::kUnavailable || code == Errc::kTimeout || code == Errc::kIoError ||
         code == Errc::kNoSpace || code == Errc::kPermission;
}

Error Refused() {
  return Error(Errc::kCancelled, "the daemon is ending");
}

}  // namespace

ActionRunner::ActionRunner(const asio::any_io_executor& executor,
                           PipelineContext context,
                           WorkerPool* cpu,
                           CoreGate* core,
                           Outlets outlets)
    : context_(context),
      cpu_(cpu),
      core_(core),
      outlets_(std::move(outlets)),
      tasks_(executor, "actions", kMostActions) {}

void ActionRunner::Run(Action action) {
  std::visit([this](auto&& one) { Do(std::forward<decltype(one)>(one)); }, std::move(action));
}

void ActionRunner::Stop() {
  for (const auto& [key, cancel] : flushes_) {
    cancel->store(true);
  }
  context_.slots.Cancel();
  tasks_.Stop();
}

asio::awaitable<bool> ActionRunner::Join(std::chrono::milliseconds limit) {
  return tasks_.Join(limit);
}

// ---- immediate ----

bool ActionRunner::RefuseGrant(const proto::ServerMessage& message) {
  if (!message.has_grant()) {
    return false;
  }
  const SlotRef ref{message.grant().slot(), message.grant().generation()};
  const auto slot = context_.slots.Find(ref);
  if (slot.has_value() && slot.value()->Intact()) {
    return false;
  }
  ++counters_.slots_poisoned;
  LogWarning("slot.spoilt",
             "slot " + std::to_string(ref.slot) + "." + std::to_string(ref.generation) +
                 " has another length than it was made with, or lost pages: not used any more");
  (*core_)->OnGrantRefused(ref);
  return true;
}

void ActionRunner::Do(Send action) {
  if (RefuseGrant(action.message)) {
    return;
  }
  Outgoing outgoing;
  outgoing.message = std::move(action.message);
  outgoing.writable = action.fd_writable;
  if (action.fd_slot.has_value()) {
    auto slot = context_.slots.Find(*action.fd_slot);
    if (slot.has_value()) {
      outgoing.slot = std::move(slot).value();
    }
  } else if (action.fd_file.has_value()) {
    outgoing.file = files_.Find(*action.fd_file, action.fd_image);
  }
  const bool wants_fd = action.fd_slot.has_value() || action.fd_file.has_value();
  if (wants_fd && outgoing.slot == nullptr && outgoing.file == nullptr) {
    const RequestId request = outgoing.message.request_id();
    LogError("action.no_descriptor", "a slot or file that was to be sent is not there");
    outgoing.message.Clear();
    outgoing.message.set_request_id(request);
    outgoing.message.mutable_error()->set_code(static_cast<std::uint32_t>(Errc::kInternal));
    outgoing.message.mutable_error()->set_message("the memory behind this answer is gone");
    if (request == 0) {
      return;  // an event without its descriptor means nothing
    }
  }
  outlets_.send(action.session, std::move(outgoing));
}

void ActionRunner::Do(const CloseSession& action) {
  outlets_.close(action.session);
}

void ActionRunner::Do(const SendReport& action) {
  if (outlets_.report != nullptr) {
    outlets_.report(action);
  }
}

void ActionRunner::Do(const SendCommand& action) {
  if (outlets_.command != nullptr) {
    outlets_.command(action);
  }
}

void ActionRunner::Do(const AnswerPeer& action) {
  if (outlets_.answer_peer != nullptr) {
    outlets_.answer_peer(action);
  }
}

void ActionRunner::Do(const QuarantineSlot& action) {
  context_.layouts.OnSlotRemoved(action.slot);
  context_.slots.Quarantine(action.slot);
}

void ActionRunner::Do(const CloseShardFile& action) {
  files_.Close(action.ticket);
}

void ActionRunner::Do(const CancelFlush& action) {
  const auto found = flushes_.find({action.job_uid, action.root, action.id, action.rank});
  if (found != flushes_.end()) {
    found->second->store(true);
  }
}

// ---- slots ----

void ActionRunner::Do(PrepareSlot action) {
  const SlotRef slot = action.slot;
  if (!tasks_.Spawn(DoPrepare(std::move(action)))) {
    (*core_)->OnSlotPrepared(slot, Refused());
  }
}

ActionRunner::Task ActionRunner::DoPrepare(PrepareSlot action) {
  SharedLayout layout;
  Status status = Ok();
  if (!action.layout_hash.empty()) {
    layout = context_.layouts.Find(action.layout_hash);
    if (layout == nullptr) {
      status = Error(Errc::kInternal, "the layout of a slot to prepare is not in the store");
    }
  }
  if (status.has_value()) {
    status = co_await context_.slots.Prepare(
        action.slot, action.capacity_bytes, action.create, layout, action.kind, action.numa_node);
  }
  if (status.has_value()) {
    context_.layouts.OnSlotPrepared(action.slot, action.layout_hash);
  } else {
    ++counters_.prepare_failures;
    LogWarning("slot.not_prepared", status.error().ToString());
  }
  (*core_)->OnSlotPrepared(action.slot, status);
}

void ActionRunner::Do(RemoveSlot action) {
  context_.layouts.OnSlotRemoved(action.slot);
  if (!tasks_.Spawn(DoRemove(action))) {
    // Its record is gone: the next start removes the file.
    LogDebug("slot.not_removed", "the daemon is ending");
  }
}

ActionRunner::Task ActionRunner::DoRemove(RemoveSlot action) {
  const Status status = co_await context_.slots.Remove(action.slot);
  if (!status.has_value() && status.error().code != Errc::kNotFound) {
    LogWarning("slot.not_removed", status.error().ToString());
  }
}

void ActionRunner::Do(DigestSlot action) {
  if (!tasks_.Spawn(DoDigest(action))) {
    (*core_)->OnDigested(action.slot, Refused());
  }
}

ActionRunner::Task ActionRunner::DoDigest(DigestSlot action) {
  const auto slot = context_.slots.Find(action.slot);
  if (!slot.has_value()) {
    (*core_)->OnDigested(action.slot, slot.error());
    co_return;
  }
  auto digests = co_await DigestSlotBytes(*cpu_, slot.value(), action.length_bytes);
  if (digests.has_value()) {
    counters_.digested_bytes += action.length_bytes;
  } else {
    LogWarning("slot.not_digested", digests.error().ToString());
  }
  (*core_)->OnDigested(action.slot, std::move(digests));
}

void ActionRunner::Do(VerifySlot action) {
  const SlotRef slot = action.slot;
  const std::uint64_t ticket = action.ticket;
  if (!tasks_.Spawn(DoVerify(std::move(action)))) {
    (*core_)->OnVerified(ticket, slot, Refused());
  }
}

ActionRunner::Task ActionRunner::DoVerify(VerifySlot action) {
  const auto slot = context_.slots.Find(action.slot);
  if (!slot.has_value()) {
    (*core_)->OnVerified(action.ticket, action.slot, slot.error());
    co_return;
  }
  auto bad_chunks = co_await VerifySlotBytes(
      *cpu_, slot.value(), action.first_chunk, action.length_bytes, std::move(action.expected));
  if (!bad_chunks.has_value()) {
    NotePoison(action.slot, bad_chunks.error());
  } else if (!bad_chunks.value().empty()) {
    counters_.digest_mismatches += bad_chunks.value().size();
  }
  (*core_)->OnVerified(action.ticket, action.slot, std::move(bad_chunks));
}

// A slot whose file was cut can never be a source again, whoever found it.
void ActionRunner::NotePoison(SlotRef slot, const Error& error) {
  if (error.code != Errc::kCorruption) {
    return;
  }
  ++counters_.slots_poisoned;
  LogWarning("slot.poisoned", error.ToString());
  (*core_)->OnSlotPoisoned(slot, error.message);
}

// ---- tiers ----

void ActionRunner::Do(ClaimIncarnation action) {
  const std::uint64_t ticket = action.ticket;
  if (!tasks_.Spawn(DoClaim(std::move(action)))) {
    (*core_)->OnIncarnationClaimed(ticket, Refused());
  }
}

ActionRunner::Task ActionRunner::DoClaim(ClaimIncarnation action) {
  const std::uint64_t ticket = action.ticket;
  auto claimed = co_await Claim(context_, std::move(action));
  (*core_)->OnIncarnationClaimed(ticket, std::move(claimed));
}

// One at a time for each record, the newest next: of two at once the older one could stay, and a
// commit that no later start can see keeps everything of older incarnations for ever.
void ActionRunner::Do(WriteIncarnation action) {
  const RecordKey key{action.file.job_uid(), action.file.number()};
  const auto [record, first] = records_.try_emplace(key);
  record->second = std::move(action);
  if (first && !tasks_.Spawn(DoRecord(key))) {
    records_.erase(key);
    LogDebug("incarnation.not_recorded", "the daemon is ending");
  }
}

ActionRunner::Task ActionRunner::DoRecord(RecordKey key) {
  WriteIncarnation action;
  std::string told;
  for (bool again = true; again;) {
    if (auto next = std::exchange(records_.at(key), std::nullopt); next.has_value()) {
      action = std::move(*next);
    }
    const Status written = co_await RecordDecision(context_, action);
    again = records_.at(key).has_value();
    if (written.has_value()) {
      continue;
    }
    if (written.error().message != told) {
      told = written.error().message;
      LogWarning("incarnation.not_recorded",
                 "job " + action.job_name + ", incarnation " +
                     std::to_string(action.file.number()) + ": " + written.error().ToString());
    }
    if (MayHeal(written.error().code)) {
      again = (co_await SleepFor(kRecordRetry)).has_value();  // else the daemon is ending
    }
  }
  records_.erase(key);
}

void ActionRunner::Do(ListTier action) {
  const JobUid job = action.job_uid;
  const std::string root = action.root;
  const std::uint32_t attempt = action.attempt;
  if (!tasks_.Spawn(DoList(std::move(action)))) {
    (*core_)->OnTierListed(job, root, attempt, Refused());
  }
}

ActionRunner::Task ActionRunner::DoList(ListTier action) {
  auto listed = co_await List(context_, action);
  (*core_)->OnTierListed(action.job_uid, action.root, action.attempt, std::move(listed));
}

void ActionRunner::Do(OpenShardFile action) {
  const JobUid job = action.job_uid;
  const OpenShardFile copy = action;
  if (!tasks_.Spawn(DoOpenShard(std::move(action)))) {
    (*core_)->OnShardOpened(job, copy.attempt, copy.rank, copy.ticket, Refused());
  }
}

ActionRunner::Task ActionRunner::DoOpenShard(OpenShardFile action) {
  auto opened = co_await OpenShard(context_, action);
  if (!opened.has_value()) {
    LogWarning("restore.source_refused", opened.error().ToString());
    (*core_)->OnShardOpened(
        action.job_uid, action.attempt, action.rank, action.ticket, opened.error());
    co_return;
  }
  // Kept first: the core may send it, or close it, within the call.
  files_.Keep(action.ticket, std::move(opened.value().files));
  (*core_)->OnShardOpened(action.job_uid,
                          action.attempt,
                          action.rank,
                          action.ticket,
                          std::move(opened.value().sidecar));
}

void ActionRunner::Do(FlushShard action) {
  const FlushKey key{action.job_uid, action.tier.root(), action.id, action.rank};
  auto cancel = std::make_shared<std::atomic<bool>>(false);
  flushes_[key] = cancel;
  if (!tasks_.Spawn(DoFlush(std::move(action), cancel))) {
    flushes_.erase(key);
    (*core_)->OnFlushed(
        std::get<0>(key), std::get<1>(key), std::get<2>(key), std::get<3>(key), Refused());
  }
}

ActionRunner::Task ActionRunner::DoFlush(FlushShard action, CancelFlag cancel) {
  const FlushKey key{action.job_uid, action.tier.root(), action.id, action.rank};
  proto::ImageKind bad_image = proto::DYNAMIC;
  const Status status = co_await Flush(context_, std::move(action), cancel, &bad_image);
  const auto found = flushes_.find(key);
  if (found != flushes_.end() && found->second == cancel) {
    flushes_.erase(found);
  }
  const auto& [job, root, id, rank] = key;
  if (!status.has_value() && status.error().code == Errc::kCorruption) {
    ++counters_.digest_mismatches;
    LogWarning("flush.corrupt", status.error().ToString());
  }
  (*core_)->OnFlushed(job, root, id, rank, status, bad_image);
}

void ActionRunner::Do(PublishManifest action) {
  const PublishManifest copy = action;
  if (!tasks_.Spawn(DoPublish(std::move(action)))) {
    (*core_)->OnPublished(copy.job_uid, copy.root, copy.id, copy.epoch, Refused());
  }
}

ActionRunner::Task ActionRunner::DoPublish(PublishManifest action) {
  const Status status = co_await Publish(context_, action);
  if (!status.has_value()) {
    LogWarning("publish.failed", status.error().ToString());
  }
  (*core_)->OnPublished(action.job_uid, action.root, action.id, action.epoch, status);
}

void ActionRunner::Do(DeleteDurable action) {
  const DeleteDurable copy = action;
  if (!tasks_.Spawn(DoDelete(std::move(action)))) {
    (*core_)->OnDurableDeleted(copy.job_uid, copy.root, copy.id, Refused());
  }
}

ActionRunner::Task ActionRunner::DoDelete(DeleteDurable action) {
  const Status status = co_await Delete(context_, action);
  // What was given up before its first file is not there.
  if (!status.has_value() && status.error().code != Errc::kNotFound) {
    LogWarning("delete.failed", status.error().ToString());
  }
  (*core_)->OnDurableDeleted(action.job_uid, action.root, action.id, status);
}

}  // namespace holdfast::daemon
