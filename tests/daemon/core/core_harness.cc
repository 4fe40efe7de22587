#include "tests/daemon/core/core_harness.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <variant>

#include "storage_tiers/catalog_keys.h"
#include "tests/daemon/core/fake_code.h"

namespace holdfast::daemon {
namespace {

constexpr char kBootId[] = "boot-of-the-test";

}  // namespace

std::string ShortText(const SnapshotKey& id) {
  return "(" + std::to_string(id.incarnation) + "," + std::to_string(id.step) + ")";
}

CoreHarness::CoreHarness(CoreOptions options)
    : CoreHarness(options, "", std::make_shared<FakeWorld>()) {}

CoreHarness::CoreHarness(CoreOptions options, std::string name, std::shared_ptr<FakeWorld> world)
    : world_(std::move(world)),
      name_(std::move(name)),
      options_(options),
      tiers_(world_->tiers),
      jobs_(world_->jobs),
      history_(world_->history) {
  world_->nodes.push_back(this);
  Restart();
}

CoreHarness::~CoreHarness() {
  std::erase(world_->nodes, this);
}

std::string CoreHarness::node_uuid() const {
  return ("node-" + name_ + "-" + std::to_string(lives_) + std::string(16, '-')).substr(0, 16);
}

void CoreHarness::Log(const std::string& line) {
  world_->log += (name_.empty() ? "" : name_ + ": ") + line + "\n";
}

std::string CoreHarness::TakeLog() {
  return std::exchange(world_->log, {});
}

void CoreHarness::Violation(const std::string& what) {
  world_->violations.push_back((name_.empty() ? "" : name_ + ": ") + what);
  Log("VIOLATION " + what);
}

const storage_tiers::CatalogContents& CoreHarness::Records() {
  if (!records_fresh_) {
    records_ = {};
    for (const auto& [key, value] : catalog_) {
      storage_tiers::AddRecord(key, value, &records_);
    }
    records_fresh_ = true;
  }
  return records_;
}

RecoveredState CoreHarness::Recover() {
  const storage_tiers::CatalogContents& records = Records();
  RecoveredState state;
  state.node_uuid = node_uuid();
  state.arena_uuid = ("arena" + name_ + std::string(16, '-')).substr(0, 16);
  state.boot_id = kBootId;
  state.boot_number = ++boot_;
  state.jobs = records.jobs;
  state.shards = records.shards;
  state.incarnations = records.incarnations;
  state.outcomes = records.outcomes;
  state.durables = records.durables;
  state.rows = records.rows;
  state.sidecars = records.sidecars;
  std::set<SlotRef> named;
  for (const proto::SlotRecord& slot : records.slots) {
    const SlotRef ref{slot.slot(), slot.generation()};
    if (arena_.Exists(ref)) {
      state.slots.push_back(slot);
      named.insert(ref);
    } else {
      state.lost_slots.push_back(slot.slot());
    }
  }
  std::erase_if(state.shards, [&](const proto::ShardRecord& shard) {
    return !named.contains({shard.slot(), shard.generation()});
  });
  std::erase_if(state.rows, [&](const proto::RowRecord& row) {
    return row.slot() != 0 && !named.contains({row.slot(), row.generation()});
  });
  arena_.KeepOnly(named);
  for (const auto& [name, client] : clients_) {
    const LayoutFacts facts = client.Facts();
    state.layouts[facts.hash] = facts;
  }
  return state;
}

void CoreHarness::Restart() {
  if (core_ != nullptr) {
    Crash();
  }
  core_ = std::make_unique<NodeCore>(options_, Recover(), world_->now, world_->wall);
  Log("daemon starts, boot " + std::to_string(boot_));
  // The runtime's part of a start: processes that died meanwhile are reported.
  for (const NodeCore::Limbo& limbo : core_->LimboSessions()) {
    const bool lives = std::any_of(clients_.begin(), clients_.end(), [&](const auto& entry) {
      return entry.second.alive && entry.second.token == limbo.session_token;
    });
    if (!lives) {
      core_->OnProcessDead(limbo.session_token);
    }
  }
  Settle();
}

void CoreHarness::Crash() {
  core_.reset();
  due_.clear();
  held_.clear();
  cancelled_.clear();
  cancelled_makings_.clear();
  quarantined_.clear();
  opened_files_.clear();
  crash_plan_ = {};
  for (auto& [name, client] : clients_) {
    client.session = 0;
    client.waiting.clear();
  }
  Log("daemon dies");
}

void CoreHarness::LoseMemory() {
  Crash();
  history_.catalog_lost = true;
  catalog_.clear();
  records_fresh_ = false;
  arena_ = {};
  ++lives_;
  ForgetLost(this);
  Restart();
}

void CoreHarness::LoseArena() {
  Crash();
  std::erase_if(catalog_, [](const auto& record) {
    const char family = record.first.front();
    return family == static_cast<char>(storage_tiers::CatalogFamily::kShard) ||
           family == static_cast<char>(storage_tiers::CatalogFamily::kRow) ||
           family == static_cast<char>(storage_tiers::CatalogFamily::kSlot);
  });
  records_fresh_ = false;
  arena_ = {};
  ForgetLost(this);
  Restart();
}

void CoreHarness::Tick(std::chrono::milliseconds elapsed) {
  world_->now += elapsed;
  world_->wall += elapsed;
  TickCore();
}

void CoreHarness::TickCore() {
  if (up()) {
    core_->OnTick(world_->now, world_->wall);
  }
  Settle();
}

void CoreHarness::Settle() {
  if (settling_) {
    return;
  }
  settling_ = true;
  CarryOut();
  settling_ = false;
  if (check_each_call_) {
    CheckInvariants(this);
  }
}

void CoreHarness::CarryOut() {
  constexpr int kSteps = 100000;
  for (int step = 0; step < kSteps; ++step) {
    if (up() && TakeOne()) {
      continue;
    }
    ReleaseQuarantines();
    if (due_.empty()) {
      return;
    }
    const std::function<void()> next = std::move(due_.front());
    due_.pop_front();
    next();
  }
  Violation("the core never comes to rest");
}

// One Ready, in the order that action.h promises to the core: sync first, then the actions.
bool CoreHarness::TakeOne() {
  Ready ready;
  if (!core_->TakeReady(&ready)) {
    return false;
  }
  if (const Status valid = ready.batch.check(); !valid.has_value()) {
    Violation("a record that no start would read: " + valid.error().message);
  }
  const bool comes_back = ++readies_ == die_once_.first;
  const CrashPlan plan = comes_back ? die_once_.second : std::exchange(crash_plan_, {});
  if (plan.point != CrashPoint::kBeforeSync) {
    ApplyBatch(ready.batch);
  }
  last_actions_ = ready.actions.size();
  const bool dies = plan.point != CrashPoint::kNone;
  const std::size_t started = dies ? std::min(plan.actions, last_actions_) : last_actions_;
  for (std::size_t i = 0; i < started; ++i) {
    std::visit([this](const auto& one) { Start(one); }, ready.actions[i]);
  }
  if (dies) {
    comes_back ? DieAndComeBack() : Crash();
  }
  return true;
}

void CoreHarness::ApplyBatch(const storage_tiers::CatalogBatch& batch) {
  storage_tiers::CatalogContents erased;
  storage_tiers::CatalogContents added;
  for (const storage_tiers::CatalogBatch::Op& op : batch.ops()) {
    if (op.value.has_value()) {
      storage_tiers::AddRecord(op.key, *op.value, &added);
      catalog_[op.key] = *op.value;
    } else if (const auto it = catalog_.find(op.key); it != catalog_.end()) {
      storage_tiers::AddRecord(op.key, it->second, &erased);
      catalog_.erase(it);
    }
  }
  for (const proto::ShardRecord& shard : added.shards) {
    const proto::SnapshotId& id = shard.sidecar().id();
    history_.sealed[{id.job_uid(), KeyOf(id)}].insert(shard.sidecar().rank());
    history_.images.emplace(DigestText(shard.sidecar().images(0)),
                            arena_.Content({shard.slot(), shard.generation()}));
    if (shard.static_slot() != 0) {
      history_.images.emplace(DigestText(shard.sidecar().images(1)),
                              arena_.Content({shard.static_slot(), shard.static_generation()}));
    }
  }
  records_fresh_ = records_fresh_ && batch.ops().empty();
  CheckErased(this, erased);
}

void CoreHarness::Queue(std::string kind, std::function<void(const Status&)> finish) {
  if (held_kinds_.contains(kind)) {
    held_.push_back({std::move(kind), std::move(finish)});
    return;
  }
  due_.emplace_back([finish = std::move(finish)] { finish(Ok()); });
}

std::size_t CoreHarness::HeldCount(const std::string& kind) const {
  return static_cast<std::size_t>(std::count_if(
      held_.begin(), held_.end(), [&](const Held& held) { return held.kind == kind; }));
}

bool CoreHarness::FinishHeld(const std::string& kind, const std::string& outcome) {
  const auto it =
      std::find_if(held_.begin(), held_.end(), [&](const Held& held) { return held.kind == kind; });
  if (it == held_.end()) {
    return false;
  }
  const std::map<std::string, Errc> codes = {{"io", Errc::kIoError},
                                             {"full", Errc::kNoSpace},
                                             {"corrupt", Errc::kCorruption},
                                             {"missing", Errc::kNotFound},
                                             {"no_root", Errc::kUnavailable},
                                             {"fenced", Errc::kFenced},
                                             {"cancelled", Errc::kCancelled}};
  const auto finish = std::move(it->finish);
  held_.erase(it);
  const auto code = codes.find(outcome);
  const int sys_errno = outcome == "no_root" ? ENOENT : 0;  // as PersistentTier says it
  finish(code == codes.end() ? Status(Ok())
                             : Status(Error(code->second, "said the test", sys_errno)));
  Settle();
  return true;
}

void CoreHarness::ReleaseQuarantines() {
  std::vector<SlotRef> released;
  for (const SlotRef& ref : quarantined_) {
    if (!arena_.Mapped(ref)) {
      released.push_back(ref);
    }
  }
  for (const SlotRef& ref : released) {
    quarantined_.erase(ref);
    arena_.Remove(ref);
    due_.emplace_back([this, ref] {
      if (up()) {
        core_->OnQuarantineReleased(ref);
      }
    });
  }
}

void CoreHarness::DamageSlot(SlotRef ref) {
  arena_.Write(ref, arena_.Content(ref) + " (bits flipped)");
  for (const proto::ShardRecord& shard : Records().shards) {
    if (SlotRef{shard.slot(), shard.generation()} == ref ||
        SlotRef{shard.static_slot(), shard.static_generation()} == ref) {
      history_.given_up.insert(shard.sidecar().id().job_uid());
    }
  }
}

}  // namespace holdfast::daemon
