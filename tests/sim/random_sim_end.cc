// When the faults have ended: every wait ends, a start of the job gets through, snapshots become
// complete, and the next start gets the newest back (L, R).

#include "tests/sim/random_sim.h"

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;

// A start that took no part of the job's numbers (its launcher died, or was elsewhere) may refuse
// the next ones: each is one higher.
constexpr int kStarts = 12;

bool HasReturned(const FakeClient& client) {
  return client.alive && client.returned && !client.fenced;
}

bool WasToldAnError(const FakeClient& client) {
  return client.alive && client.restore_error.has_value() && !client.fenced;
}

bool Waits(const FakeClient& client) {
  return client.alive && !client.fenced && (client.asks || client.reports_loaded);
}

}  // namespace

bool RandomSim::All(bool (*what)(const FakeClient& client)) {
  bool all = true;
  for (Rank rank = 0; rank < sim_.on().size(); ++rank) {
    all = all && what(sim_.Client(rank));
  }
  return all;
}

void RandomSim::EndFaults() {
  sim_.world().log += "# the faults end\n";
  sim_.Heal();
  for (int i = 0; i < plan_.nodes; ++i) {
    CoreHarness& node = sim_.Node(i);
    node.CrashAtNextReady(CrashPoint::kNone);
    if (!node.up()) {
      node.Restart();
    }
    node.AllWorkersGone();
  }
  for (auto& [root, tier] : sim_.Node(0).tiers()) {
    tier.SetFailing(false);
  }
}

// Longer than every deadline of a restore, one after the other.
void RandomSim::LetSettle() {
  constexpr int kRounds = 48;
  for (int i = 0; i < kRounds && !Failed(); ++i) {
    for (const Trainer& trainer : Trainers()) {
      Act(trainer, 1, false);
    }
    sim_.Pump();
    sim_.Advance(seconds(5));
    sim_.Pump();
    Check();
    if (i > 4 && (All(HasReturned) || All(WasToldAnError)) && Waiting().empty()) {
      break;
    }
  }
}

std::string RandomSim::Waiting() {
  std::string who;
  for (const Trainer& trainer : Trainers()) {
    if (Waits(ClientOf(trainer))) {
      who += " " + trainer.name + " on " + sim_.Node(trainer.node).name();
    }
  }
  return who;
}

void RandomSim::ExpectNoWaiting() {
  LetSettle();
  if (const std::string who = Waiting(); !who.empty() && !Failed()) {
    sim_.violations().push_back("L: still waiting for a restore:" + who);
  }
}

// Where what was complete is out of reach (another placement, lost memory) a restore ends in an
// error by right, and the user trains from the initial state.
bool RandomSim::StartUntilItTrains() {
  for (int i = 0; i < kStarts && !Failed(); ++i) {
    if (i > 0 || !All(HasReturned)) {
      Launch(0, 1);
      LetSettle();
    }
    if (All(HasReturned) || All(WasToldAnError)) {
      return true;
    }
  }
  return false;
}

void RandomSim::ExpectProgress() {
  if (!StartUntilItTrains()) {
    if (!Failed()) {
      sim_.violations().push_back("L: no start of the job gets through:" + Waiting());
    }
    return;
  }
  for (Rank rank = 0; rank < sim_.on().size(); ++rank) {
    sim_.NodeOf(rank).CopiesDone("r" + std::to_string(rank));
    sim_.NodeOf(rank).Seal("r" + std::to_string(rank), false);
  }
  sim_.Pump();
  for (int i = 0; i < 5 && !Failed(); ++i) {
    for (Rank rank = 0; rank < sim_.on().size(); ++rank) {
      step_ = std::max(step_, sim_.Client(rank).last_begun);
    }
    sim_.Step(++step_);
    for (Rank rank = 0; rank < sim_.on().size(); ++rank) {
      sim_.NodeOf(rank).CopiesDone("r" + std::to_string(rank));
    }
    sim_.Advance(seconds(61));
    sim_.Pump();
    Check();
  }
  const auto& newest = sim_.world().history.newest_complete;
  const bool newer =
      !newest.empty() && newest.begin()->second.incarnation == sim_.job().epoch.number;
  if (!newer && !Failed() && !checks_.twins()) {
    sim_.violations().push_back("L: nothing of incarnation " +
                                std::to_string(sim_.job().epoch.number) + " becomes complete");
  }
}

void RandomSim::ExpectRestart() {
  if (checks_.twins()) {
    return;
  }
  const SnapshotKey newest = sim_.world().history.newest_complete.begin()->second;
  Launch(0, 1);
  LetSettle();
  for (Rank rank = 0; rank < sim_.on().size() && !Failed(); ++rank) {
    const FakeClient& client = sim_.Client(rank);
    if (!client.returned || client.told != newest) {
      sim_.violations().push_back("R: a restart gives " + client.name + " " +
                                  (client.told.has_value() ? ShortText(*client.told) : "nothing") +
                                  " " + client.restore_error.value_or("") + ", not " +
                                  ShortText(newest));
    }
  }
}

}  // namespace holdfast::daemon
