// Flushes of this node's shards, and drains (docs/ARCHITECTURE.md, life of a snapshot).

#include <algorithm>
#include <cerrno>
#include <utility>

#include "daemon/core/member.h"
#include "layout/names.h"

namespace holdfast::daemon {

bool Member::MustFlush(const SnapshotKey& id) const {
  return std::any_of(command_.flush.begin(), command_.flush.end(), [&](const FlushTarget& target) {
    return target.id == id && target.must_finish;
  });
}

std::uint64_t Member::flushed_bytes(const std::string& root) const {
  const auto it = flushed_bytes_.find(root);
  return it == flushed_bytes_.end() ? 0 : it->second;
}

std::optional<Member::FlushView> Member::FlushTo(const std::string& root) const {
  const auto target = std::find_if(command_.flush.begin(),
                                   command_.flush.end(),
                                   [&](const FlushTarget& t) { return t.root == root; });
  if (target == command_.flush.end()) {
    return std::nullopt;
  }
  FlushView view;
  view.id = target->id;
  const proto::DurableRecord* durable = job_->FindDurable(root, target->id);
  const auto shards = job_->shards.find(target->id);
  if (shards == job_->shards.end()) {
    return view;
  }
  for (const auto& [rank, shard] : shards->second) {
    const std::uint64_t bytes = shard.poisoned ? 0 : shard.sidecar.images(0).length_bytes();
    view.bytes += bytes;
    if (durable != nullptr) {
      const auto& done = durable->flushed_ranks();
      view.done_bytes += std::find(done.begin(), done.end(), rank) != done.end() ? bytes : 0;
    }
  }
  return view;
}

void Member::StartFlushes() {
  for (auto it = flushes_.begin(); it != flushes_.end();) {
    const auto& [root, id, rank] = it->first;
    const bool wanted = std::any_of(
        command_.flush.begin(),
        command_.flush.end(),
        [&root = root, &id = id](const FlushTarget& t) { return t.root == root && t.id == id; });
    if (!wanted && !it->second.under_way) {
      it = flushes_.erase(it);
      continue;
    }
    // Given up: its files are being removed, and what it meets then says nothing of the tier.
    if (!wanted && !it->second.cancelled && command_.stamp.epoch == it->second.epoch) {
      it->second.cancelled = true;
      context_->Do(CancelFlush{job_->uid(), root, id, rank});
    }
    ++it;
  }
  for (const FlushTarget& target : command_.flush) {
    const auto shards = job_->shards.find(target.id);
    if (shards == job_->shards.end()) {
      continue;
    }
    for (const auto& [rank, shard] : shards->second) {
      if (!shard.poisoned) {
        StartFlush(target, rank, shard);
      }
    }
  }
}

void Member::StartFlush(const FlushTarget& target, Rank rank, const Shard& shard) {
  Flush& flush = flushes_[{target.root, target.id, rank}];
  flush.must_finish = target.must_finish;
  if (flush.again != target.again && !flush.under_way) {
    flush.again = target.again;
    ForgetFlushed(target, rank);
  }
  const proto::DurableRecord* record = job_->FindDurable(target.root, target.id);
  bool recorded = record != nullptr;
  Slot* slot = context_->slots.Find(shard.slot);
  const bool flushed =
      recorded && std::count(record->flushed_ranks().begin(), record->flushed_ranks().end(), rank);
  const auto retry = root_retries_.find(target.root);
  const bool waits = context_->now < flush.retry.not_before ||
                     (retry != root_retries_.end() && context_->now < retry->second.not_before);
  if (flush.under_way || flushed || slot == nullptr || waits) {
    return;
  }
  const auto policy = std::find_if(job_->record.tiers().begin(),
                                   job_->record.tiers().end(),
                                   [&](const auto& tier) { return tier.root() == target.root; });
  if (policy == job_->record.tiers().end()) {
    return;  // of a start that this node has no rank of
  }
  FlushShard action;
  action.job_name = job_->record.name();
  action.job_uid = job_->uid();
  action.epoch = job_->epoch();
  action.tier = *policy;
  action.expected = job_->IsExpectedOn(target.root);
  action.id = target.id;
  action.rank = rank;
  action.slot = shard.slot;
  action.sidecar = shard.sidecar;
  if (shard.static_slot.has_value()) {
    PlaceStatic(target.root, shard, &action);
    recorded = false;
  }
  // Before the first file: what a crash leaves behind is then found, and finished or removed; and
  // the folder that another snapshot's manifest is about to name stays.
  if (!recorded) {
    job_->Durable(target.root, target.id);
    job_->SaveDurable(context_, target.root, target.id);
  }
  flush.pinned = {shard.slot};
  if (action.static_slot.has_value()) {
    flush.pinned.push_back(*action.static_slot);
  }
  for (const SlotRef& ref : flush.pinned) {
    ++context_->slots.Find(ref)->pins;
  }
  flush.under_way = true;
  flush.epoch = action.epoch;
  flush.cancelled = false;
  context_->Do(std::move(action));
}

bool Member::HasLookedAgain(const FlushTarget& target) const {
  return std::all_of(flushes_.begin(), flushes_.end(), [&target](const auto& entry) {
    const auto& [root, id, rank] = entry.first;
    return root != target.root || id != target.id || entry.second.again == target.again;
  });
}

// Its files are gone or damaged: they are written again, where they still can be.
void Member::ForgetFlushed(const FlushTarget& target, Rank rank) {
  const proto::DurableRecord* known = job_->FindDurable(target.root, target.id);
  if (known == nullptr || known->published()) {
    return;
  }
  auto* flushed = job_->Durable(target.root, target.id)->mutable_flushed_ranks();
  flushed->erase(std::remove(flushed->begin(), flushed->end(), rank), flushed->end());
  job_->ForgetStatics(context_, target.root, target.id);
  job_->SaveDurable(context_, target.root, target.id);
}

// A static image is written once for each tier, by the first durable snapshot that shares it; the
// others name that one.  In memory it may be older: the snapshot whose seal sealed it.
void Member::PlaceStatic(const std::string& root, const Shard& shard, FlushShard* action) {
  proto::ImageDigest* image = action->sidecar.mutable_images(1);
  const proto::SnapshotId name = context_->slots.Find(*shard.static_slot)->static_image.owner();
  const std::uint32_t world = shard.sidecar.world_size();
  auto where = job_->FindStatic(root, action->rank, KeyOf(name), action->id);
  if (job_->SpansNodes()) {
    where.reset();  // the coordinator, which deletes, does not know whose folder this node needs
  }
  const bool same_file =
      where.has_value() && layout::RankFileName(action->rank, where->world_size(), proto::STATIC) ==
                               layout::RankFileName(action->rank, world, proto::STATIC);
  if (!same_file) {
    where = proto::DurableStatic();
    where->set_rank(action->rank);
    *where->mutable_image() = name;
    *where->mutable_owner() = job_->Id(action->id);
    where->set_world_size(world);
    action->static_slot = shard.static_slot;
  }
  *image->mutable_owner() = where->owner();
  job_->SetStatic(root, action->id, *std::move(where));
}

Epoch Member::OnFlushed(const std::string& root,
                        const SnapshotKey& id,
                        Rank rank,
                        const Status& status,
                        proto::ImageKind bad_image) {
  const auto it = flushes_.find({root, id, rank});
  if (it == flushes_.end() || !it->second.under_way) {
    return {};
  }
  Flush& flush = it->second;
  flush.under_way = false;
  const bool wrote_static = flush.pinned.size() > 1;
  for (const SlotRef& ref : std::exchange(flush.pinned, {})) {
    if (Slot* slot = context_->slots.Find(ref); slot != nullptr && slot->pins > 0) {
      --slot->pins;
    }
  }
  if (status.has_value()) {
    job_->Durable(root, id)->add_flushed_ranks(rank);
    job_->SaveDurable(context_, root, id);
    tier_errors_.erase(root);
    missing_roots_.erase(root);
    root_retries_.erase(root);
    if (const Shard* shard = job_->FindShard(id, rank);
        shard != nullptr && shard->sidecar.images_size() > 0) {
      flushed_bytes_[root] += shard->sidecar.images(0).length_bytes();
      flushed_bytes_[root] += wrote_static ? shard->sidecar.images(1).length_bytes() : 0;
    }
    if (const auto state = ranks_.find(rank); state != ranks_.end()) {
      state->second.flushes_gave_way = 0;
    }
    return flush.epoch;
  }
  const Error& error = status.error();
  if (error.code == Errc::kCorruption) {
    Poison(id, rank, error.message, bad_image);
  }
  if (error.code != Errc::kCancelled && !flush.cancelled) {
    tier_errors_[root] = error.message;
    if (error.code != Errc::kCorruption) {
      // For whatever is due there next: a tier that is away must not be tried at every step.
      root_retries_[root].Failed(context_->now, context_->options);
    }
    // What a tier says of a root, or of its job's folder, that is not there.
    if (error.sys_errno == ENOENT) {
      missing_roots_.insert(root);
    } else {
      missing_roots_.erase(root);
    }
  }
  flush.retry.Failed(context_->now, context_->options);
  return flush.epoch;
}

void Member::OnDrain(Rank rank, RequestId request, const proto::DrainRequest& body) {
  RankSession& state = ranks_.at(rank);
  constexpr std::uint64_t kLongestMs = 7ULL * 24 * 3600 * 1000;
  const std::chrono::milliseconds timeout(std::min(body.timeout_ms(), kLongestMs));
  AnswerSuperseded(state, state.drain.has_value() ? state.drain->request : 0);
  state.drain = RankSession::Drain{request, context_->now, context_->now + timeout};
  // A drain does not wait for the end of a backoff: the user waits for it.
  for (auto& [key, flush] : flushes_) {
    flush.retry.not_before = context_->now;
  }
  for (auto& [root, retry] : root_retries_) {
    retry.not_before = context_->now;
  }
}

// Ranks drain a moment apart: the first one's snapshot is as a rule about to be complete, and the
// one before it must not be flushed in its stead.  A rank that never seals ends the wait.
bool Member::DrainIsDue(const RankSession& state) const {
  constexpr std::chrono::seconds kLongestWait{5};
  if (!state.drain.has_value()) {
    return false;
  }
  const SnapshotKey newest{job_->record.epoch_number(), state.last_sealed};
  const bool decided =
      state.last_sealed == kNoStep || job_->IsAbandoned(newest) || job_->IsComplete(newest);
  return decided || context_->now - state.drain->began >= kLongestWait;
}

// Nothing while the rank has to wait on.
std::optional<proto::DrainReply> Member::DrainAnswer(const RankSession& state) const {
  proto::DrainReply reply;
  SnapshotKey newest{job_->record.epoch_number(), state.last_sealed};
  const proto::RestoreDecision& decision =
      job_->incarnations.at(job_->record.epoch_number()).decision();
  if (state.last_sealed == kNoStep || job_->IsAbandoned(newest)) {
    const auto complete = NewestCompleteOfEpoch();
    if (complete.has_value()) {
      newest = *complete;
    } else if (decision.has_choice()) {
      newest = KeyOf(decision.choice());
    } else {
      reply.mutable_id()->set_step(kNoStep);
      reply.set_reason("no snapshot was sealed");
      return reply;
    }
  }
  *reply.mutable_id() = job_->Id(newest);
  if (!job_->IsComplete(newest)) {
    reply.set_reason("not complete: other ranks have not sealed it");
  } else if (job_->record.tiers().empty()) {
    reply.set_reason("complete in memory; the job has no persistent tier");
    return reply;
  } else {
    std::string missing;
    for (const proto::TierPolicy& tier : job_->record.tiers()) {
      if (!job_->IsDurable(newest, tier.root())) {
        const auto error = tier_errors_.find(tier.root());
        missing += "not durable on " + tier.root() +
                   (error == tier_errors_.end() ? "" : ": " + error->second);
      }
    }
    reply.set_durable(missing.empty());
    reply.set_reason(missing);
    if (missing.empty()) {
      return reply;
    }
  }
  if (command_.superseded.has_value() && job_->IsComplete(newest)) {
    reply.set_reason("complete in memory; " + *command_.superseded);
    return reply;
  }
  // What may heal is waited for; a folder that is not there is as a rule a mistake.
  constexpr std::chrono::seconds kMissingRootWait{5};
  if (!missing_roots_.empty() && context_->now - state.drain->began >= kMissingRootWait &&
      job_->IsComplete(newest)) {
    return reply;
  }
  if (context_->now < state.drain->deadline) {
    return std::nullopt;
  }
  reply.set_reason("timed out: " + reply.reason());
  return reply;
}

void Member::AnswerDrains() {
  for (auto& [rank, state] : ranks_) {
    if (!state.drain.has_value()) {
      continue;
    }
    if (auto answer = DrainAnswer(state); answer.has_value()) {
      proto::ServerMessage message;
      *message.mutable_drain() = std::move(*answer);
      ReplyTo(state, state.drain->request, std::move(message));
      state.drain.reset();
    }
  }
}

void Member::OnTick() {
  if (job_->record.finished()) {
    FreeAll();  // what was being made, copied or read when the job ended
  }
  StartFlushes();
  AnswerDrains();
}

}  // namespace holdfast::daemon
