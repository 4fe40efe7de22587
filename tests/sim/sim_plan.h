// What happens in one run of the random simulation, as numbers: a seed gives a plan, a plan gives a
// run, always the same.  Any part of a plan is a plan, so that a failing one can be made shorter.
//
// Threads: value types.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace holdfast::daemon {

enum class SimKind : std::uint8_t {
  kDeliver,     // the oldest messages, 1 + a % 16 of them
  kDeliverAny,  // message a of those under way
  kDuplicate,   // message a is delivered, and stays under way
  kDrop,        // message a is lost
  kAct,         // trainer a does what is due for it; b decides where it has a choice
  kActAll,      // every trainer in turn
  kDie,         // the process of trainer a; b: a forked worker lives on
  kDisconnect,  // trainer a
  kLeave,       // trainer a
  kCrash,       // the daemon of node a
  kCrashNext,   // that of node a at its next Ready: b before or after the sync, c actions started
  kRestart,     // that of node a, and of every other that is down if b is even
  kTick,        // one of a few durations
  kCut,         // messages from node a to node b
  kIsolate,     // node a
  kHeal,        // every cut
  kLaunch,      // the job starts again; a: on which nodes; b: whom the launcher cannot kill
  kTierFails,   // or works again
  kLoseMemory,  // node a comes back as another
  kHoldParity,  // what node a's pipelines make stays under way
  kEndParity,   // the oldest of it ends: well, or with an error if b is 0 modulo 4
  kLayout,      // trainer a registers layout b; c: its connection breaks before or after the grant
};

struct SimAction {
  SimKind kind = SimKind::kDeliver;
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  std::uint32_t c = 0;
};

struct SimPlan {
  std::uint64_t seed = 0;
  int nodes = 3;
  std::uint32_t ranks = 3;
  std::uint32_t slots = 2;
  bool with_tier = false;
  std::uint32_t layouts = 1;  // that trainers change among; the image of each is a MiB longer
  bool statics = false;       // they have frozen tensors, too
  std::uint32_t data = 1;
  std::uint32_t parity = 0;  // 0: nodes do not protect each other
  std::vector<SimAction> actions;
};

SimPlan PlanOf(std::uint64_t seed);
std::string TextOf(const SimAction& action);
std::string TextOf(const SimPlan& plan);

// The shortest plan found within "runs" trials for which "fails" still holds.
SimPlan Shorten(SimPlan plan, const std::function<bool(const SimPlan&)>& fails, int runs);

}  // namespace holdfast::daemon
