// Reports and commands between nodes: what is sent when, and what of a peer's word is taken.

#include <utility>

#include "daemon/core/node_state.h"
#include "daemon/core/report_progress.h"

namespace holdfast::daemon {
namespace {

Error Fenced(const Job& job, const Epoch& epoch) {
  const bool twin = epoch.number == job.record.epoch_number();
  return Error(Errc::kFenced,
               twin ? "another start of job " + job.record.name() + " took incarnation " +
                          std::to_string(epoch.number) + " with another token; end one of the two"
                    : "incarnation " + std::to_string(epoch.number) + " of job " +
                          job.record.name() + " is over: incarnation " +
                          std::to_string(job.record.epoch_number()) + " has started");
}

bool IsFenced(const Job& job, const Epoch& epoch) {
  return epoch.number < job.record.epoch_number() ||
         (epoch.number == job.record.epoch_number() && epoch.token != job.record.epoch_token());
}

// Whole states are sent when they change, and again until the other side has answered.
template <typename Message>
bool IsDue(const Outgoing<Message>& out, const Message& message, MonotonicTime now) {
  return !out.last.has_value() || !SameContent(*out.last, message) ||
         (!out.answered && now >= out.repeat_at);
}

template <typename Message>
void NoteSent(Outgoing<Message>* out, const Message& message, MonotonicTime repeat_at) {
  out->last = message;
  out->answered = false;
  out->repeat_at = repeat_at;
}

template <typename Message>
void NoteAnswer(Outgoing<Message>* out, const MessageStamp& stamp, bool answered) {
  const bool of_last = out->last.has_value() && out->last->stamp == stamp;
  out->answered = out->answered || (of_last && answered);
  out->met = out->met || (of_last && answered);
}

// What is told to those of this very incarnation once a newer start is known to exist.
Status CheckFence(const JobUnit& unit, const Epoch& epoch) {
  if (IsFenced(unit.job, epoch)) {
    return Fenced(unit.job, epoch);
  }
  return unit.fenced.has_value() && epoch == unit.job.epoch() ? Status(*unit.fenced) : Ok();
}

}  // namespace

void NodeState::SendToPeers(JobUnit* unit) {
  const Job& job = unit->job;
  if (unit->coordinator != nullptr) {
    SendCommands(unit);
    return;
  }
  const std::string node = job.CoordinatorNode();
  Outgoing<Report>& out = unit->report;
  if (node.empty() || unit->fenced.has_value()) {
    return;
  }
  Report report = unit->member->MakeReport(/*introduces=*/!out.met);
  if (IsDue(out, report, context.now) && !IsForLater(*unit, report)) {
    NoteSent(&out, report, context.now + context.options.peer_repeat);
    context.Do(
        SendReport{node, job.EndpointsOf(node), job.uid(), job.record.name(), std::move(report)});
  }
}

// Of its ranks' begins and seals, and of its rows, one by one, a node that is in the middle of them
// tells now and then alone.
bool NodeState::IsForLater(const JobUnit& unit, const Report& report) const {
  constexpr int kProgressRepeats = 5;
  const Outgoing<Report>& out = unit.report;
  const auto makes = unit.member->StillMaking();
  return makes.has_value() && out.last.has_value() &&
         (out.answered || context.now < out.repeat_at) &&
         context.now < out.repeat_at + (kProgressRepeats - 1) * context.options.peer_repeat &&
         IsMereProgress(*out.last, report, *makes);
}

// Thousands of nodes are told: where nothing has changed, each costs a look whether it has
// answered.
void NodeState::SendCommands(JobUnit* unit) {
  const Job& job = unit->job;
  const Coordinator& coordinator = *unit->coordinator;
  if (coordinator.asked().empty()) {
    return;
  }
  Command for_all = unit->coordinator->MakeCommand();
  const bool same = unit->told.has_value() && SameContent(*unit->told, for_all) &&
                    unit->told_tailored == coordinator.tailored();
  for (const auto& [node, endpoints] : coordinator.asked()) {
    Outgoing<Command>& out = unit->commands[node];
    if (same && out.last.has_value() && (out.answered || context.now < out.repeat_at)) {
      continue;
    }
    Command command = for_all;
    coordinator.Tailor(node, &command);
    if (IsDue(out, command, context.now)) {
      NoteSent(&out, command, context.now + context.options.peer_repeat);
      context.Do(SendCommand{node, endpoints, job.uid(), job.record.name(), std::move(command)});
    }
  }
  unit->told = std::move(for_all);
  unit->told_tailored = coordinator.tailored();
}

NodeHints NodeState::WantedPeers() const {
  NodeHints wanted;
  const auto want = [&wanted](const std::string& node, const std::vector<std::string>& endpoints) {
    std::vector<std::string>& known = wanted[node];
    known = known.empty() ? endpoints : known;
  };
  for (const auto& [uid, unit] : jobs) {
    if (unit->coordinator != nullptr) {
      for (const auto& [node, endpoints] : unit->coordinator->asked()) {
        want(node, endpoints);
      }
    } else if (const std::string node = unit->job.CoordinatorNode(); !node.empty()) {
      want(node, unit->job.EndpointsOf(node));
    }
  }
  return wanted;
}

void NodeState::PeerUp(const std::string& node, std::uint64_t boot) {
  PeerDown(node);
  peers_[node] = boot;
  for (auto& [uid, unit] : jobs) {
    unit->commands.erase(node);  // it may have lost what it was told
    if (unit->job.CoordinatorNode() == node) {
      unit->report = {};
    }
    Exchange(unit.get());
  }
}

void NodeState::PeerDown(const std::string& node) {
  if (peers_.erase(node) == 0) {
    return;
  }
  for (auto& [uid, unit] : jobs) {
    if (unit->coordinator != nullptr) {
      unit->coordinator->OnMemberLost(node);
      Exchange(unit.get());
    }
  }
}

Status NodeState::TakeReport(const std::string& node, const JobUid& uid, Report report) {
  JobUnit* unit = FindByUid(uid);
  if (unit == nullptr) {
    return Error(Errc::kUnavailable, "the job is not known here (yet)");
  }
  HF_TRYV(CheckFence(*unit, report.stamp.epoch));
  const auto session = peers_.find(node);
  if (session == peers_.end() || session->second != report.stamp.boot) {
    return Error(Errc::kUnavailable, "a report counts only while its sender's session is up");
  }
  if (report.node_uuid != node) {
    return Error(Errc::kInvalidArgument, "a report of another node");
  }
  if (unit->coordinator == nullptr || report.stamp.epoch != unit->job.epoch() ||
      !unit->coordinator->asked().contains(node)) {
    return Error(Errc::kUnavailable, "this node does not coordinate that incarnation (yet)");
  }
  unit->coordinator->TakeReport(std::move(report));
  return Ok();
}

// A node learns of a newer incarnation also from its coordinator: one that is no member any more is
// asked for what it holds, and must obey nobody older from then on.
Status NodeState::TakeCommand(const std::string& node, const JobUid& uid, const Command& command) {
  JobUnit* unit = FindByUid(uid);
  if (unit == nullptr) {
    return Error(Errc::kUnavailable, "the job is not known here (yet)");
  }
  Job& job = unit->job;
  if (command.owner_uid != job.record.owner_uid()) {
    return Error(Errc::kPermission,
                 "job " + job.record.name() + " belongs to uid " +
                     std::to_string(job.record.owner_uid()) + " here");
  }
  const Epoch& epoch = command.stamp.epoch;
  HF_TRYV(CheckFence(*unit, epoch));
  if (epoch.number > job.record.epoch_number()) {
    EnterEpoch(unit, epoch, command.world_size);
  }
  if (unit->coordinator == nullptr && job.CoordinatorNode().empty()) {
    job.Present()->set_coordinator_uuid(node);
    job.SaveIncarnation(&context, epoch.number);
  }
  if (unit->coordinator != nullptr || job.CoordinatorNode() != node) {
    return Error(Errc::kPermission, "another node coordinates that incarnation");
  }
  const Result<bool> obeyed = unit->member->OnCommand(command);
  if (!obeyed.has_value()) {
    return obeyed.error();
  }
  if (command.fenced.has_value()) {
    Fence(unit, Error(Errc::kFenced, *command.fenced));
  }
  Exchange(unit);
  return Ok();
}

void NodeState::TakeAnswer(const std::string& node,
                           const JobUid& uid,
                           const MessageStamp& stamp,
                           const Status& status) {
  JobUnit* unit = FindByUid(uid);
  if (unit == nullptr || stamp.epoch != unit->job.epoch() || stamp.boot != context.boot_number()) {
    return;
  }
  const bool fenced = !status.has_value() && status.error().code == Errc::kFenced;
  if (unit->coordinator == nullptr) {
    NoteAnswer(&unit->report, stamp, status.has_value() || fenced);
    if (unit->report.met) {
      unit->report.last->known_nodes
          .clear();  // learnt: that the next does not name them is no news
    }
  } else if (const auto out = unit->commands.find(node); out != unit->commands.end()) {
    NoteAnswer(&out->second, stamp, status.has_value() || fenced);
  }
  if (fenced) {
    Fence(unit, Error(Errc::kFenced, "node " + NodeText(node) + ": " + status.error().message));
  }
}

// Another start of the job has gone past this one, or has taken its number.  Epochs only rise, so a
// refusal stands, however late it comes: the ranks here are told at once, those of other nodes by
// the coordinator, whoever of them heard the refusal.
void NodeState::Fence(JobUnit* unit, const Error& error) {
  if (unit->fenced.has_value()) {
    return;
  }
  unit->fenced = error;
  unit->member->Fence(error);
  if (unit->coordinator != nullptr) {
    unit->coordinator->OnFenced(error);
  }
  Exchange(unit);
}

void NodeState::LookForCoordinators() {
  for (auto& [uid, unit] : jobs) {
    const std::string node = unit->job.CoordinatorNode();
    const bool elsewhere = unit->coordinator == nullptr && !node.empty();
    unit->member->OnCoordinatorSilent(elsewhere &&
                                      (!peers_.contains(node) || !unit->member->heard()));
  }
}

}  // namespace holdfast::daemon
