#include "tests/sim/sim_checks.h"

#include <algorithm>
#include <cstdlib>

namespace holdfast::daemon {
namespace {

const proto::JobRecord* JobIn(CoreHarness* node) {
  const auto& jobs = node->Records().jobs;
  return jobs.empty() ? nullptr : &jobs.front();
}

// Of the process that wrote the bytes, as FakeClients sign them.
std::int32_t WriterOf(const std::string& content) {
  const auto by = content.rfind(" by ");
  return by == std::string::npos ? 0 : std::atoi(content.c_str() + by + 4);
}

// Whose decision a node has is known only while it obeys that very start.
bool IsPresent(CoreHarness* node, const proto::IncarnationRecord& record) {
  const proto::JobRecord* job = JobIn(node);
  return job != nullptr && job->epoch_number() == record.number() &&
         job->epoch_token() == record.token();
}

}  // namespace

void SimChecks::Violation(const std::string& what) {
  sim_->violations().push_back(what);
}

void SimChecks::OnLaunch() {
  ++starts_;
  for (Rank rank = 0; rank < sim_->on().size(); ++rank) {
    start_of_pid_[sim_->Client(rank).pid] = starts_;
  }
}

// I8, I11: all that is loaded in one attempt was written by the processes of one start.
void SimChecks::OnLoaded(const FakeClient& client) {
  const Attempt attempt{client.epoch.number, client.epoch.token, client.attempt};
  const int start = start_of_pid_[WriterOf(client.told_content)];
  const auto [first, fresh] = loaded_start_.emplace(attempt, start);
  if (!fresh && first->second != start) {
    Violation("I8: " + client.name + " loads " + ShortText(*client.told) +
              " of another start than the other ranks");
  }
  loaded_[attempt].insert(client.rank);
}

void SimChecks::Check() {
  CheckEpochs();
  CheckCoordinators();
  CheckOutcomes();
  CheckReturned();
  CheckCommits();
}

void SimChecks::CheckEpochs() {
  for (int i = 0; i < sim_->nodes(); ++i) {
    CoreHarness& node = sim_->Node(i);
    const proto::JobRecord* job = JobIn(&node);
    std::uint64_t& highest = epochs_[node.node_uuid()];
    const std::uint64_t now = job == nullptr ? 0 : job->epoch_number();
    if (now < highest) {
      Violation("I8: the epoch of " + node.name() + " fell from " + std::to_string(highest) +
                " to " + std::to_string(now));
    }
    highest = std::max(highest, now);
  }
}

void SimChecks::CheckCoordinators() {
  std::map<Start, std::string> coordinators;
  std::map<std::uint64_t, std::uint64_t> tokens;
  for (int i = 0; i < sim_->nodes(); ++i) {
    for (const proto::IncarnationRecord& record : sim_->Node(i).Records().incarnations) {
      if (!record.coordinator() || record.token() == 0) {
        continue;
      }
      const auto known = tokens.emplace(record.number(), record.token()).first;
      if (known->second != record.token()) {
        twins_ = true;
        sim_->world().history.given_up.insert(record.job_uid());
      }
      const auto [first, fresh] =
          coordinators.emplace(Start{record.number(), record.token()}, sim_->Node(i).name());
      if (!fresh) {
        Violation("I8: " + first->second + " and " + sim_->Node(i).name() +
                  " both coordinate incarnation " + std::to_string(record.number()));
      }
    }
  }
}

// I1: what the nodes of one start know of an id of it is the same.
void SimChecks::CheckOutcomes() {
  for (int i = 0; i < sim_->nodes(); ++i) {
    CoreHarness& node = sim_->Node(i);
    const proto::JobRecord* job = JobIn(&node);
    for (const proto::OutcomeRecord& outcome : node.Records().outcomes) {
      const SnapshotKey id = KeyOf(outcome.id());
      if (job == nullptr || id.incarnation != job->epoch_number()) {
        continue;
      }
      const auto [first, fresh] =
          outcomes_.emplace(std::pair(job->epoch_token(), id), outcome.outcome());
      if (!fresh && first->second != outcome.outcome()) {
        Violation("I1: " + node.name() + " has another outcome of " + ShortText(id) +
                  " than others of its incarnation");
      }
    }
  }
}

// I11: nobody trains on before all have loaded, and all have the same.
void SimChecks::CheckReturned() {
  std::map<Start, std::pair<std::string, std::optional<SnapshotKey>>> told;
  for (int i = 0; i < sim_->nodes(); ++i) {
    for (const auto& [name, client] : sim_->Node(i).clients()) {
      if (!client.alive || !client.returned) {
        continue;
      }
      const Attempt attempt{client.epoch.number, client.epoch.token, client.attempt};
      const std::string who = name + " on " + sim_->Node(i).name();
      if (client.told.has_value() && loaded_[attempt].size() < sim_->on().size()) {
        Violation("I11: " + who + " has returned before all ranks had loaded");
      }
      const Start start{client.epoch.number, client.epoch.token};
      const auto [first, fresh] = told.emplace(start, std::pair(who, client.told));
      if (!fresh && first->second.second != client.told) {
        Violation("I11: " + who + " and " + first->second.first +
                  " have returned with different snapshots");
      }
    }
  }
}

void SimChecks::CheckCommits() {
  for (int i = 0; i < sim_->nodes(); ++i) {
    CoreHarness& node = sim_->Node(i);
    for (const proto::IncarnationRecord& record : node.Records().incarnations) {
      if (!record.coordinator() || !record.decision().decided() || !IsPresent(&node, record)) {
        continue;
      }
      const Attempt attempt{record.number(), record.token(), record.decision().attempt()};
      if (decided_.insert(attempt).second) {
        OnChoice(&node, record);
      }
      if (record.decision().committed() && committed_.insert(attempt).second) {
        OnCommit(record);
      }
    }
  }
}

std::optional<SnapshotKey> SimChecks::PassedOver(const proto::IncarnationRecord& record) const {
  const auto& all = sim_->world().history.newest_complete;
  const auto newest = all.find(record.job_uid());
  const proto::RestoreDecision& decision = record.decision();
  const bool older =
      decision.has_choice() && newest != all.end() && KeyOf(decision.choice()) >= newest->second;
  const bool of_now = newest != all.end() && newest->second.incarnation >= record.number();
  return twins_ || newest == all.end() || older || of_now ? std::nullopt
                                                          : std::optional(newest->second);
}

// R: the greatest id that could be had is chosen.
void SimChecks::OnChoice(CoreHarness* node, const proto::IncarnationRecord& record) {
  const auto id = PassedOver(record);
  if (id.has_value() && CouldBeHad(node, record, *id)) {
    const proto::RestoreDecision& decision = record.decision();
    Violation("R: incarnation " + std::to_string(record.number()) + " restores " +
              (decision.has_choice() ? ShortText(KeyOf(decision.choice())) : "nothing") + ", but " +
              ShortText(*id) + " could be had");
  }
}

// What the start could not see counts as lost from then on.
void SimChecks::OnCommit(const proto::IncarnationRecord& record) {
  const auto id = PassedOver(record);
  if (!id.has_value()) {
    return;
  }
  FakeWorld::History& history = sim_->world().history;
  history.lost_up_to[record.job_uid()] = *id;
  history.newest_complete.erase(record.job_uid());
  if (record.decision().has_choice()) {
    history.newest_complete[record.job_uid()] = KeyOf(record.decision().choice());
  }
}

bool SimChecks::HoldsIntact(CoreHarness* node, const SnapshotKey& id, Rank rank) const {
  const auto& shards = node->Records().shards;
  return std::any_of(shards.begin(), shards.end(), [&](const proto::ShardRecord& shard) {
    return KeyOf(shard.sidecar().id()) == id && shard.sidecar().rank() == rank && !shard.poisoned();
  });
}

// Every rank's node held it in memory, and its coordinator had that node's inventory.  Ids that
// ended too many starts or attempts are passed over by right.
bool SimChecks::CouldBeHad(CoreHarness* coordinator,
                           const proto::IncarnationRecord& record,
                           const SnapshotKey& id) {
  std::uint32_t failed = 0;
  for (const proto::IncarnationRecord& older : coordinator->Records().incarnations) {
    const bool chose = older.decision().has_choice() && KeyOf(older.decision().choice()) == id;
    failed += chose && !older.decision().committed() ? 1 : 0;
  }
  const std::uint32_t tries = coordinator->options().restore_tries;
  if (failed >= tries || record.decision().attempt() > tries) {
    return false;
  }
  std::size_t found = 0;
  for (const proto::MemberNode& member : record.members()) {
    const int index = sim_->IndexOf(member.node_uuid());
    const bool asked =
        member.node_uuid() == coordinator->node_uuid() ||
        sim_->HasInventory(
            {record.number(), record.token()}, record.decision().attempt(), member.node_uuid());
    for (const Rank rank : member.ranks()) {
      found += asked && index >= 0 && HoldsIntact(&sim_->Node(index), id, rank) ? 1 : 0;
    }
  }
  return found == sim_->on().size();
}

}  // namespace holdfast::daemon
