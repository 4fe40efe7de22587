#include "tests/sim/random_sim.h"

#include <algorithm>

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTicks[] = {
    milliseconds(100), milliseconds(1000), milliseconds(5000), milliseconds(31000)};
constexpr char kRoot[] = "/pfs";
constexpr const char* kParityKinds[] = {"make", "fetch", "bring"};

// Larger clusters are looked at after each action only, not after each call into a core.
constexpr int kCheckEachCallUpTo = 8;

}  // namespace

RandomSim::RandomSim(const SimPlan& plan)
    : plan_(plan),
      sim_({.nodes = plan.nodes,
            .ranks = plan.ranks,
            .slots = plan.slots,
            .data = plan.data,
            .parity = plan.parity,
            .many_nodes = plan.nodes % 2 == 1,
            .image_mib = plan.layouts,
            .statics = plan.statics}) {
  for (int node = 0; node < plan.nodes; ++node) {
    sim_.Node(node).CheckEachCall(plan.nodes <= kCheckEachCallUpTo);
  }
  FakeJob& job = sim_.Node(0).JobOf("r0");
  if (plan.with_tier) {
    proto::TierPolicy tier;
    tier.set_root(kRoot);
    tier.set_scope(proto::SHARED);
    tier.set_every_steps(2);
    tier.set_keep_last(2);
    job.tiers.push_back(tier);
  }
  Launch(0, 0);
}

void RandomSim::Run() {
  for (const SimAction& action : plan_.actions) {
    if (Failed()) {
      return;
    }
    Do(action);
  }
  if (!Failed()) {
    EndFaults();
  }
  if (!Failed()) {
    ExpectNoWaiting();
  }
  if (!Failed()) {
    ExpectProgress();
  }
  if (!Failed()) {
    ExpectProtected();
  }
  if (!Failed()) {
    ExpectRestart();
  }
}

void RandomSim::Check() {
  if (plan_.nodes > kCheckEachCallUpTo) {
    for (int node = 0; node < plan_.nodes; ++node) {
      CheckInvariants(&sim_.Node(node));
    }
  }
  checks_.Check();
  checks_.CheckMargins();
}

void RandomSim::Do(const SimAction& action) {
  sim_.world().log += "# " + TextOf(action) + "\n";
  sim_.Reconcile();
  DoNetwork(action);
  DoDaemon(action);
  DoTrainer(action);
  sim_.Reconcile();
  Check();
}

void RandomSim::Deliver(std::size_t which, bool keep) {
  sim_.Deliver(which, keep);
  sim_.Reconcile();
  checks_.Check();
}

void RandomSim::DoNetwork(const SimAction& action) {
  auto& pending = sim_.pending();
  const auto nodes = static_cast<std::uint32_t>(plan_.nodes);
  const auto a = static_cast<int>(action.a % nodes);
  const auto b = static_cast<int>(action.b % nodes);
  switch (action.kind) {
    case SimKind::kDeliver:
      for (std::uint32_t i = 0; i <= action.a % 16 && !pending.empty(); ++i) {
        Deliver(0, false);
      }
      break;
    case SimKind::kDeliverAny:
    case SimKind::kDuplicate:
      if (!pending.empty()) {
        Deliver(action.a % pending.size(), action.kind == SimKind::kDuplicate);
      }
      break;
    case SimKind::kDrop:
      if (!pending.empty()) {
        pending.erase(pending.begin() + static_cast<std::ptrdiff_t>(action.a % pending.size()));
      }
      break;
    case SimKind::kCut:
      if (a != b) {
        sim_.Cut(a, b);
      }
      break;
    case SimKind::kIsolate:
      sim_.Isolate(a);
      break;
    case SimKind::kHeal:
      sim_.Heal();
      break;
    default:
      break;
  }
}

void RandomSim::DoDaemon(const SimAction& action) {
  CoreHarness& node =
      sim_.Node(static_cast<int>(action.a % static_cast<std::uint32_t>(plan_.nodes)));
  switch (action.kind) {
    case SimKind::kCrash:
      if (node.up()) {
        node.Crash();
      }
      break;
    case SimKind::kCrashNext:
      node.CrashAtNextReady(action.b % 2 == 0 ? CrashPoint::kBeforeSync : CrashPoint::kAfterSync,
                            action.b % 2 == 0 ? 0 : action.c % 4);
      break;
    case SimKind::kRestart:
      for (int i = 0; i < plan_.nodes; ++i) {
        if (!sim_.Node(i).up() && (action.b % 2 == 0 || &sim_.Node(i) == &node)) {
          sim_.Node(i).Restart();
        }
      }
      break;
    case SimKind::kTick:
      sim_.Advance(kTicks[action.a % std::size(kTicks)]);
      break;
    case SimKind::kTierFails:
      node.Tier(kRoot).SetFailing(plan_.with_tier && action.b % 2 == 0);
      break;
    case SimKind::kLoseMemory:  // the machine goes, and its trainers with it
      for (const Trainer& trainer : Trainers()) {
        if (&sim_.Node(trainer.node) == &node) {
          node.Die(trainer.name, false);
        }
      }
      node.LoseMemory();
      break;
    case SimKind::kHoldParity:
      for (const char* kind : kParityKinds) {
        node.Hold(kind);
      }
      break;
    case SimKind::kEndParity:
      EndParity(&node, action.b % 4 == 0 ? "io" : "ok");
      break;
    default:
      break;
  }
}

// Later work is done at once again.
void RandomSim::EndParity(CoreHarness* node, const std::string& outcome) {
  for (const char* kind : kParityKinds) {
    node->Unhold(kind);
    if (node->FinishHeld(kind, outcome)) {
      return;
    }
  }
}

void RandomSim::DoTrainer(const SimAction& action) {
  std::vector<Trainer> trainers = Trainers();
  if (action.kind == SimKind::kLaunch) {
    Launch(action.a, action.b);
    return;
  }
  if (trainers.empty()) {
    return;
  }
  const Trainer& one = trainers[action.a % trainers.size()];
  CoreHarness& node = sim_.Node(one.node);
  switch (action.kind) {
    case SimKind::kAct:
      Act(one, action.b, true);
      break;
    case SimKind::kActAll:
      for (std::size_t i = 0; i < trainers.size(); ++i) {
        Act(trainers[i], action.b + static_cast<std::uint32_t>(i) * action.c, true);
      }
      break;
    case SimKind::kDie:
      node.Die(one.name, action.b % 2 == 0);
      break;
    case SimKind::kDisconnect:
      node.Disconnect(one.name);
      break;
    case SimKind::kLayout:
      ChangeLayout(one, action);
      break;
    case SimKind::kLeave:
      if (ClientOf(one).session != 0 && ClientOf(one).registered && ClientOf(one).copies.empty()) {
        node.Leave(one.name);
      }
      break;
    default:
      break;
  }
}

}  // namespace holdfast::daemon
