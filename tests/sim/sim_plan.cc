#include "tests/sim/sim_plan.h"

#include <algorithm>
#include <array>
#include <random>
#include <utility>

namespace holdfast::daemon {
namespace {

struct Weighted {
  SimKind kind;
  int weight;
  const char* name;
};

constexpr std::array kKinds = {Weighted{SimKind::kDeliver, 300, "deliver"},
                               Weighted{SimKind::kDeliverAny, 40, "deliver_any"},
                               Weighted{SimKind::kDuplicate, 20, "duplicate"},
                               Weighted{SimKind::kDrop, 25, "drop"},
                               Weighted{SimKind::kAct, 120, "act"},
                               Weighted{SimKind::kActAll, 220, "act_all"},
                               Weighted{SimKind::kDie, 6, "die"},
                               Weighted{SimKind::kDisconnect, 10, "disconnect"},
                               Weighted{SimKind::kLeave, 2, "leave"},
                               Weighted{SimKind::kCrash, 14, "crash"},
                               Weighted{SimKind::kCrashNext, 30, "crash_next"},
                               Weighted{SimKind::kRestart, 60, "restart"},
                               Weighted{SimKind::kTick, 80, "tick"},
                               Weighted{SimKind::kCut, 12, "cut"},
                               Weighted{SimKind::kIsolate, 10, "isolate"},
                               Weighted{SimKind::kHeal, 30, "heal"},
                               Weighted{SimKind::kLaunch, 30, "launch"},
                               Weighted{SimKind::kTierFails, 6, "tier_fails"},
                               Weighted{SimKind::kLoseMemory, 2, "lose_memory"},
                               Weighted{SimKind::kHoldParity, 0, "hold_parity"},
                               Weighted{SimKind::kEndParity, 0, "end_parity"},
                               Weighted{SimKind::kLayout, 0, "layout"}};

SimKind Draw(std::mt19937_64* random) {
  int total = 0;
  for (const Weighted& entry : kKinds) {
    total += entry.weight;
  }
  int at = static_cast<int>((*random)() % static_cast<std::uint64_t>(total));
  for (const Weighted& entry : kKinds) {
    at -= entry.weight;
    if (at < 0) {
      return entry.kind;
    }
  }
  return SimKind::kDeliver;
}

}  // namespace

SimPlan PlanOf(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint32_t bound) {
    return static_cast<std::uint32_t>(random() % bound);
  };
  SimPlan plan;
  plan.seed = seed;
  const std::uint32_t size = below(48);
  plan.nodes = size == 0 ? 9 + static_cast<int>(below(56)) : 2 + static_cast<int>(below(7));
  // Some nodes are spare, or serve two ranks.
  plan.ranks = 1 + below(static_cast<std::uint32_t>(plan.nodes) + 1);
  plan.slots = 2 + below(2);
  plan.with_tier = below(3) == 0;
  const std::uint32_t length = size == 0 ? 60 : 40 + below(260);
  for (std::uint32_t i = 0; i < length; ++i) {
    const SimKind kind = Draw(&random);
    plan.actions.push_back({kind, below(1U << 16U), below(1U << 16U), below(1U << 16U)});
  }
  // Drawn last: what seeds without parity play is what it was before there was any.
  plan.parity = below(2) == 0 ? 0 : 1 + below(2);
  plan.data = 1 + below(4);
  const auto insert = [&](SimAction action) {
    const std::size_t at = below(static_cast<std::uint32_t>(plan.actions.size()) + 1);
    return plan.actions.insert(plan.actions.begin() + static_cast<std::ptrdiff_t>(at), action);
  };
  for (std::uint32_t i = 0; plan.parity > 0 && i < length / 12; ++i) {
    const SimKind kind = i % 3 == 0 ? SimKind::kHoldParity : SimKind::kEndParity;
    insert({kind, below(1U << 16U), below(1U << 16U), 0});
  }
  for (std::uint32_t i = 0; plan.parity > 0 && i < 1 + below(4); ++i) {
    const auto lost = insert({SimKind::kLoseMemory, below(1U << 16U), 0, 0});
    plan.actions.insert(lost + 1, {SimKind::kLaunch, below(1U << 16U), 1 + below(3), 0});
  }
  // Tensors come and go in some jobs only: most plans stay what they were.
  plan.layouts = seed % 3 == 0 ? 2 : 1;
  plan.statics = seed % 6 == 0;
  for (std::uint32_t i = 0; plan.layouts > 1 && i < length / 12; ++i) {
    insert({SimKind::kLayout, below(1U << 16U), below(1U << 16U), below(1U << 16U)});
  }
  return plan;
}

std::string TextOf(const SimAction& action) {
  const auto kind = std::find_if(kKinds.begin(), kKinds.end(), [&](const Weighted& entry) {
    return entry.kind == action.kind;
  });
  return std::string(kind->name) + " " + std::to_string(action.a) + " " + std::to_string(action.b) +
         " " + std::to_string(action.c);
}

std::string TextOf(const SimPlan& plan) {
  std::string text =
      "seed " + std::to_string(plan.seed) + ": " + std::to_string(plan.nodes) + " nodes, " +
      std::to_string(plan.ranks) + " ranks, " + std::to_string(plan.slots) + " slots" +
      (plan.with_tier ? ", a tier" : "") + (plan.layouts > 1 ? ", layouts that change" : "") +
      (plan.statics ? ", frozen tensors" : "") +
      (plan.parity > 0 ? ", " + std::to_string(plan.data) + "+" + std::to_string(plan.parity) + "\n"
                       : "\n");
  for (const SimAction& action : plan.actions) {
    text += "  " + TextOf(action) + "\n";
  }
  return text;
}

SimPlan Shorten(SimPlan plan, const std::function<bool(const SimPlan&)>& fails, int runs) {
  for (std::size_t chunk = plan.actions.size() / 2; chunk > 0; chunk /= 2) {
    bool dropped = true;
    while (dropped) {
      dropped = false;
      for (std::size_t at = 0; at < plan.actions.size() && runs > 0;) {
        SimPlan shorter = plan;
        const auto from = shorter.actions.begin() + static_cast<std::ptrdiff_t>(at);
        const std::size_t count = std::min(chunk, shorter.actions.size() - at);
        shorter.actions.erase(from, from + static_cast<std::ptrdiff_t>(count));
        --runs;
        if (fails(shorter)) {
          plan = std::move(shorter);
          dropped = true;
        } else {
          at += chunk;
        }
      }
      dropped = dropped && chunk == 1 && runs > 0;
    }
  }
  return plan;
}

}  // namespace holdfast::daemon
