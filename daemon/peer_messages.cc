#include "daemon/peer_messages.h"

#include <algorithm>
#include <array>
#include <utility>

#include "daemon/peer_messages_groups.h"

namespace holdfast::daemon {
namespace {

Error Invalid(const std::string& what) {
  return Error(Errc::kInvalidArgument, "a peer's message: " + what);
}

// --- to messages ---

void Fill(const MessageStamp& stamp, proto::PeerStamp* out) {
  out->set_epoch_number(stamp.epoch.number);
  out->set_epoch_token(stamp.epoch.token);
  out->set_boot(stamp.boot);
  out->set_sequence(stamp.sequence);
}

void Fill(const SnapshotKey& key, proto::PeerSnapshotKey* out) {
  out->set_incarnation(key.incarnation);
  out->set_step(key.step);
}

// By Source::Kind.
constexpr std::array kSourceKinds = {proto::PeerSource::ARENA,
                                     proto::PeerSource::PEER,
                                     proto::PeerSource::REBUILD,
                                     proto::PeerSource::TIER};

void Fill(const Source& source, proto::PeerSource* out) {
  out->set_kind(kSourceKinds.at(static_cast<std::size_t>(source.kind)));
  out->set_root(source.root);
  out->set_node_uuid(source.node);
}

void Fill(Rank rank, const RankReport& report, proto::RankState* out) {
  out->set_rank(rank);
  out->set_last_begun(report.last_begun);
  out->set_connected(report.connected);
  out->set_asked(report.asked);
  out->set_asked_after(report.asked_after);
  out->set_has_named_step(report.wish.named_step.has_value());
  out->set_named_step(report.wish.named_step.value_or(0));
  out->set_include_discarded(report.wish.include_discarded);
  out->set_restore_limit_ms(static_cast<std::uint64_t>(report.restore_limit.count()));
  out->set_prepared(report.prepared);
  out->set_loaded(report.loaded);
  out->set_overwritten(report.overwritten);
  out->set_drains(report.drains);
  out->set_image_bytes(report.image_bytes);
  out->set_static_bytes(report.static_bytes);
}

void Fill(const RestoreFailure& failure, proto::FailedSource* out) {
  out->set_attempt(failure.attempt);
  out->set_rank(failure.rank);
  Fill(failure.id, out->mutable_id());
  Fill(failure.source, out->mutable_source());
  out->set_source_is_bad(failure.source_is_bad);
  out->set_fatal(failure.fatal);
  out->set_reason(failure.reason);
  out->set_code(static_cast<std::uint32_t>(failure.code));
}

// By ShardEntry::State.
constexpr std::array kShardStates = {
    proto::ShardState::FILLING, proto::ShardState::SEALED, proto::ShardState::POISONED};

proto::ShardState::State ToProto(ShardEntry::State state) {
  return kShardStates.at(static_cast<std::size_t>(state));
}

proto::PeerCommand::Phase ToProto(Phase phase) {
  switch (phase) {
    case Phase::kCollect:
      return proto::PeerCommand::COLLECT;
    case Phase::kPrepare:
      return proto::PeerCommand::PREPARE;
    case Phase::kGo:
      return proto::PeerCommand::GO;
    case Phase::kRun:
      return proto::PeerCommand::RUN;
    case Phase::kError:
      break;
  }
  return proto::PeerCommand::ERROR;
}

// --- from messages ---

Result<MessageStamp> StampOf(const proto::PeerStamp& stamp) {
  if (stamp.epoch_number() == 0) {
    return Invalid("no epoch");
  }
  const Epoch epoch{stamp.epoch_number(), stamp.epoch_token()};
  return MessageStamp{epoch, stamp.boot(), stamp.sequence()};
}

Result<SnapshotKey> KeyOf(const proto::PeerSnapshotKey& key) {
  if (key.incarnation() == 0 || key.step() < 0) {
    return Invalid("incarnation " + std::to_string(key.incarnation()) + ", step " +
                   std::to_string(key.step()) + " is no snapshot");
  }
  return SnapshotKey{key.incarnation(), key.step()};
}

Result<Source> SourceOf(const proto::PeerSource& source) {
  const auto kind = std::find(kSourceKinds.begin(), kSourceKinds.end(), source.kind());
  const bool tier = source.kind() == proto::PeerSource::TIER;
  const bool peer = source.kind() == proto::PeerSource::PEER;
  if (kind == kSourceKinds.end() || source.root().empty() == tier ||
      source.node_uuid().size() != (peer ? 16U : 0U)) {
    return Invalid("a source that is none");
  }
  const auto number = static_cast<Source::Kind>(kind - kSourceKinds.begin());
  return Source{number, source.root(), source.node_uuid()};
}

Result<ShardEntry> ShardOf(const proto::ShardState& shard) {
  HF_TRY(const SnapshotKey id, KeyOf(shard.id()));
  const auto state = std::find(kShardStates.begin(), kShardStates.end(), shard.state());
  if (state == kShardStates.end()) {
    return Invalid("a shard's state " + std::to_string(shard.state()));
  }
  const auto number = static_cast<ShardEntry::State>(state - kShardStates.begin());
  HF_TRY(const std::uint32_t world, WorldOf(shard.world_size()));
  return ShardEntry{
      id, shard.rank(), number, world, shard.token(), shard.image_bytes(), shard.static_bytes()};
}

Result<Phase> PhaseOf(proto::PeerCommand::Phase phase) {
  switch (phase) {
    case proto::PeerCommand::COLLECT:
      return Phase::kCollect;
    case proto::PeerCommand::PREPARE:
      return Phase::kPrepare;
    case proto::PeerCommand::GO:
      return Phase::kGo;
    case proto::PeerCommand::RUN:
      return Phase::kRun;
    case proto::PeerCommand::ERROR:
      return Phase::kError;
    default:
      return Invalid("a phase " + std::to_string(phase));
  }
}

Result<RankReport> RankOf(const proto::RankState& rank) {
  if (rank.last_begun() < kNoStep) {
    return Invalid("a rank that began step " + std::to_string(rank.last_begun()));
  }
  RankReport out;
  out.last_begun = rank.last_begun();
  out.connected = rank.connected();
  out.asked = rank.asked();
  out.asked_after = rank.asked_after();
  if (rank.has_named_step()) {
    out.wish.named_step = rank.named_step();
  }
  out.wish.include_discarded = rank.include_discarded();
  out.restore_limit = std::chrono::milliseconds(
      std::min<std::uint64_t>(rank.restore_limit_ms(), kLongestRestore.count()));
  out.prepared = rank.prepared();
  out.loaded = rank.loaded();
  out.overwritten = rank.overwritten();
  out.drains = rank.drains();
  out.image_bytes = rank.image_bytes();
  out.static_bytes = rank.static_bytes();
  return out;
}

Result<RestoreFailure> FailureOf(const proto::FailedSource& failure) {
  RestoreFailure out;
  out.attempt = failure.attempt();
  out.rank = failure.rank();
  // A failure that no source caused names no snapshot: its key is what the sender had.
  out.id = SnapshotKey{failure.id().incarnation(), failure.id().step()};
  HF_TRY(out.source, SourceOf(failure.source()));
  out.source_is_bad = failure.source_is_bad();
  out.fatal = failure.fatal();
  out.reason = failure.reason();
  out.code = ErrcOf(failure.code());
  return out;
}

Result<std::set<SnapshotKey>> KeysOf(
    const google::protobuf::RepeatedPtrField<proto::PeerSnapshotKey>& keys) {
  std::set<SnapshotKey> out;
  for (const auto& key : keys) {
    HF_TRY(const SnapshotKey id, KeyOf(key));
    out.insert(id);
  }
  return out;
}

Status ReadLists(const proto::PeerCommand& message, Command* out) {
  for (const auto& source : message.sources()) {
    HF_TRY(Source from, SourceOf(source.source()));
    if (!out->sources.emplace(source.rank(), std::move(from)).second) {
      return Invalid("two sources of rank " + std::to_string(source.rank()));
    }
  }
  for (const auto& abandoned : message.abandoned()) {
    HF_TRY(const SnapshotKey id, KeyOf(abandoned.id()));
    out->abandoned[id] = ReasonOf(abandoned.reason());
  }
  HF_TRY(out->complete, KeysOf(message.complete()));
  HF_TRY(out->discarded, KeysOf(message.discarded()));
  for (const auto& order : message.flush()) {
    HF_TRY(const SnapshotKey id, KeyOf(order.id()));
    out->flush.push_back({order.root(), id, order.must_finish(), order.again()});
  }
  for (const auto& published : message.durable()) {
    HF_TRY(const SnapshotKey id, KeyOf(published.id()));
    out->durable.emplace(published.root(), id);
  }
  return Ok();
}

}  // namespace

proto::ReportRequest ToProto(const JobUid& job, const std::string& job_name, const Report& report) {
  proto::ReportRequest request;
  request.set_job_uid(job);
  request.set_job_name(job_name);
  proto::PeerReport* out = request.mutable_report();
  Fill(report.stamp, out->mutable_stamp());
  out->set_node_uuid(report.node_uuid);
  out->set_answers_attempt(report.answers_attempt);
  for (const auto& [rank, state] : report.ranks) {
    Fill(rank, state, out->add_ranks());
  }
  for (const ShardEntry& shard : report.shards) {
    proto::ShardState* entry = out->add_shards();
    Fill(shard.id, entry->mutable_id());
    entry->set_rank(shard.rank);
    entry->set_state(ToProto(shard.state));
    entry->set_world_size(shard.world_size);
    entry->set_token(shard.token);
    entry->set_image_bytes(shard.image_bytes);
    entry->set_static_bytes(shard.static_bytes);
  }
  for (const SnapshotKey& key : report.known_complete) {
    Fill(key, out->add_known_complete());
  }
  for (const RestoreFailure& failure : report.failures) {
    Fill(failure, out->add_failures());
  }
  for (const auto& [root, ids] : report.flushed) {
    for (const auto& [id, ranks] : ids) {
      proto::FlushedFiles* files = out->add_flushed();
      const auto looked = report.looked_again.find({root, id});
      files->set_again(looked == report.looked_again.end() ? 0 : looked->second);
      files->set_root(root);
      Fill(id, files->mutable_id());
      files->mutable_ranks()->Assign(ranks.begin(), ranks.end());
    }
  }
  for (const auto& [which, reason] : report.missed_reasons) {
    proto::MissedStep* missed = out->add_missed();
    missed->set_step(which.first);
    missed->set_rank(which.second);
    missed->set_reason(reason);
  }
  FillKnown(report, out);
  FillGroups(report, out);
  return request;
}

proto::CommandRequest ToProto(const JobUid& job,
                              const std::string& job_name,
                              const Command& command) {
  proto::CommandRequest request;
  request.set_job_uid(job);
  request.set_job_name(job_name);
  proto::PeerCommand* out = request.mutable_command();
  Fill(command.stamp, out->mutable_stamp());
  out->set_phase(ToProto(command.phase));
  out->set_attempt(command.attempt);
  out->set_decided(command.decided);
  if (command.choice.has_value()) {
    Fill(*command.choice, out->mutable_choice());
  }
  for (const auto& [rank, source] : command.sources) {
    proto::RankSource* entry = out->add_sources();
    entry->set_rank(rank);
    Fill(source, entry->mutable_source());
  }
  out->mutable_passed_over()->Assign(command.passed_over.begin(), command.passed_over.end());
  out->set_has_error(command.error.has_value());
  out->set_error(command.error.value_or(""));
  out->set_superseded(command.superseded.value_or(""));
  out->set_fenced(command.fenced.value_or(""));
  out->set_error_code(static_cast<std::uint32_t>(command.error_code));
  for (const auto& [id, reason] : command.abandoned) {
    proto::AbandonedId* entry = out->add_abandoned();
    Fill(id, entry->mutable_id());
    entry->set_reason(reason);
  }
  for (const SnapshotKey& key : command.complete) {
    Fill(key, out->add_complete());
  }
  for (const SnapshotKey& key : command.discarded) {
    Fill(key, out->add_discarded());
  }
  for (const FlushTarget& target : command.flush) {
    proto::FlushOrder* order = out->add_flush();
    order->set_root(target.root);
    Fill(target.id, order->mutable_id());
    order->set_must_finish(target.must_finish);
    order->set_again(target.again);
  }
  for (const auto& [root, id] : command.durable) {
    proto::PublishedId* published = out->add_durable();
    published->set_root(root);
    Fill(id, published->mutable_id());
  }
  out->set_world_size(command.world_size);
  out->set_owner_uid(command.owner_uid);
  *out->mutable_decision() = command.decision;
  FillGroups(command, out);
  return request;
}

Result<Report> FromProto(const proto::PeerReport& message) {
  Report report;
  HF_TRY(report.stamp, StampOf(message.stamp()));
  report.node_uuid = message.node_uuid();
  report.answers_attempt = message.answers_attempt();
  for (const auto& rank : message.ranks()) {
    HF_TRY(const RankReport state, RankOf(rank));
    if (!report.ranks.emplace(rank.rank(), state).second) {
      return Invalid("rank " + std::to_string(rank.rank()) + " twice");
    }
  }
  for (const auto& shard : message.shards()) {
    HF_TRY(const ShardEntry entry, ShardOf(shard));
    report.shards.push_back(entry);
  }
  HF_TRY(report.known_complete, KeysOf(message.known_complete()));
  for (const auto& failure : message.failures()) {
    HF_TRY(RestoreFailure read, FailureOf(failure));
    report.failures.push_back(std::move(read));
  }
  for (const auto& files : message.flushed()) {
    HF_TRY(const SnapshotKey id, KeyOf(files.id()));
    report.flushed[files.root()][id].insert(files.ranks().begin(), files.ranks().end());
    if (files.again() != 0) {
      report.looked_again[{files.root(), id}] = files.again();
    }
  }
  for (const auto& missed : message.missed()) {
    report.missed_reasons[{missed.step(), missed.rank()}] = ReasonOf(missed.reason());
  }
  HF_TRYV(ReadKnown(message, &report));
  HF_TRYV(ReadGroups(message, &report));
  return report;
}

Result<Command> FromProto(const proto::PeerCommand& message) {
  Command command;
  HF_TRY(command.stamp, StampOf(message.stamp()));
  HF_TRY(command.phase, PhaseOf(message.phase()));
  if (message.attempt() == 0) {
    return Invalid("no attempt");
  }
  command.attempt = message.attempt();
  command.decided = message.decided();
  if (message.has_choice()) {
    HF_TRY(command.choice, KeyOf(message.choice()));
  }
  command.passed_over.assign(message.passed_over().begin(), message.passed_over().end());
  command.error = message.has_error() ? std::optional(message.error()) : std::nullopt;
  const auto text = [](const std::string& t) {
    return t.empty() ? std::nullopt : std::optional(t);
  };
  command.fenced = text(message.fenced());
  command.superseded = text(message.superseded());
  command.error_code = ErrcOf(message.error_code());
  HF_TRYV(ReadLists(message, &command));
  HF_TRY(command.world_size, WorldOf(message.world_size()));
  command.owner_uid = message.owner_uid();
  command.decision = message.decision();
  HF_TRYV(ReadGroups(message, &command));
  return command;
}

}  // namespace holdfast::daemon
