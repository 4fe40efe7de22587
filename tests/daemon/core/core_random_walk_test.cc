// Random walks over the whole core: trainers, daemon and tier fail at any point.
//
// The harness checks the invariants after each event.  At the end the faults stop, and the walk
// checks liveness (L): training completes a newer snapshot, a drain ends, a restart gets back the
// newest snapshot.  A failing walk prints itself as a script.

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/daemon/core/core_script.h"

namespace holdfast::daemon {
namespace {

class RandomWalk {
 public:
  RandomWalk(std::uint64_t seed, bool with_tier, bool with_static)
      : random_(seed), with_tier_(with_tier), with_static_(with_static) {
    const int slots = Below(2) == 0 ? 2 : 3;
    const int spare = 2 * Below(3);
    // For each rank its static image, and another one while the base in memory needs the first.
    const int statics = with_static_ ? 2 * 2 * kStaticMiB : 0;
    Do("node ranks=2 slots=" + std::to_string(slots) +
       " budget=" + std::to_string(2 * slots + spare + statics));
    if (with_tier_) {
      Do("tier /pfs every=" + std::to_string(1 + Below(3)) +
         " keep=" + std::to_string(1 + Below(2)));
    }
    StartJob();
  }

  void Walk(int events) {
    for (int i = 0; i < events && failures_.empty(); ++i) {
      Event();
    }
  }

  void EndFaults() {
    Do("crash_next never");
    for (const char* kind : kKinds) {
      Do("unhold " + std::string(kind));
    }
    if (!Harness()->up()) {
      Do("restart");
    }
    for (const char* kind : kKinds) {
      while (Harness()->HeldCount(kind) > 0 && failures_.empty()) {
        Do("finish_held " + std::string(kind));
      }
    }
    Do("tier_works /pfs");
    Do("workers_gone");
    for (const std::string& name : Ranks()) {
      Do("resume " + name);
    }
  }

  // L: training goes on, with the trainers that are there or with new ones.
  void ExpectProgress() {
    if (!Trains()) {
      StartJob();
      Finish();
    }
    for (const std::string& name : Ranks()) {
      Do("copies_done " + name);
      Do("seal " + name);
    }
    const SnapshotKey before = NewestComplete();
    for (int i = 0; i < 4; ++i) {
      Do("tick 61");
      Do("step " + std::to_string(++step_));
      Do("copies_done all");  // of what was abandoned meanwhile
    }
    EXPECT_GT(NewestComplete(), before) << Script();
    if (with_tier_) {
      Do("drain all timeout=600");
      for (int i = 0; i < 5; ++i) {
        Do("tick 61");
      }
      for (const std::string& name : Ranks()) {
        const auto& drained = Harness()->Client(name).drained;
        ASSERT_TRUE(drained.has_value()) << name << "\n" << Script();
        // A start that died after its claim leaves a number on the tier that fences this one (I8).
        const bool superseded = drained->reason().find("start the job again") != std::string::npos;
        EXPECT_TRUE(drained->durable() || superseded) << name << "\n" << Script();
      }
    }
  }

  // R: a restart gets the newest complete snapshot back.
  void ExpectRestart() {
    const SnapshotKey newest = NewestComplete();
    StartJob();
    Finish();
    for (const std::string& name : Ranks()) {
      const FakeClient& client = Harness()->Client(name);
      EXPECT_TRUE(client.returned) << name << "\n" << Script();
      EXPECT_TRUE(client.told == newest) << name << "\n" << Script();
    }
  }

  const std::vector<std::string>& failures() const { return failures_; }

  std::string Script() const {
    std::string text;
    for (const std::string& line : lines_) {
      text += line + "\n";
    }
    return text;
  }

 private:
  static constexpr int kStaticMiB = 2;
  static constexpr const char* kKinds[] = {
      "prepare", "digest", "flush", "publish", "list", "open", "delete", "claim"};

  int Below(int bound) { return static_cast<int>(random_() % static_cast<std::uint64_t>(bound)); }

  CoreHarness* Harness() { return script_.harness(); }

  static std::vector<std::string> Ranks() { return {"r0", "r1"}; }

  void Do(const std::string& line) {
    lines_.push_back(line);
    script_.Run(line);
    script_.TakeLog();
    for (std::string& failure : script_.TakeFailures()) {
      failures_.push_back(std::move(failure));
    }
  }

  SnapshotKey NewestComplete() {
    const auto& newest = Harness()->history().newest_complete;
    return newest.empty() ? SnapshotKey{} : newest.begin()->second;
  }

  bool Trains() {
    for (const std::string& name : Ranks()) {
      const FakeClient& client = Harness()->Client(name);
      if (!client.alive || !client.returned || client.fenced || client.session == 0) {
        return false;
      }
    }
    return true;
  }

  void StartJob() {
    for (const std::string& name : Ranks()) {
      if (Harness()->Client(name).alive) {
        Do("die " + name);
      }
    }
    zombies_.clear();
    Do("start restore=no" + Static());
    Do("restore all");
    step_ = std::max<Step>(step_, 0);
  }

  // Now and then another base model.
  std::string Static() {
    if (!with_static_) {
      return "";
    }
    return " static=" + std::to_string(kStaticMiB) + (Below(4) == 0 ? " base=other" : " base=base");
  }

  // Restores to the end, whatever attempt it is.
  void Finish() {
    for (int i = 0; i < 8 && !Trains(); ++i) {
      Do("tick 61");
      Do("loaded all");
    }
  }

  void Event() {
    const std::string name = Ranks()[static_cast<std::size_t>(Below(2))];
    if (!Harness()->up()) {
      DaemonIsAway(name);
      return;
    }
    const int kind = Below(100);
    if (kind < 70) {
      TrainerEvent(name);
    } else if (kind < 80) {
      HoldEvent();
    } else if (kind < 87) {
      constexpr const char* kTicks[] = {"0.1", "1", "7", "40"};
      Do("tick " + std::string(kTicks[Below(4)]));
    } else if (kind < 93) {
      DeathEvent(name);
    } else if (kind < 96) {
      Do(Below(2) == 0 ? "crash" : Below(2) == 0 ? "crash_next before" : "crash_next after");
    } else if (with_tier_) {
      Do(Below(3) == 0 ? "tier_fails /pfs" : "tier_works /pfs");
    }
  }

  void DaemonIsAway(const std::string& name) {
    switch (Below(5)) {
      case 0:
        Train(name);
        break;
      case 1:
        Die(name);
        break;
      default:
        Do("restart");
    }
  }

  void TrainerEvent(const std::string& name) {
    const FakeClient& client = Harness()->Client(name);
    if (!client.alive || client.fenced || client.restore_error.has_value() || !client.registered) {
      if (Below(6) == 0) {
        StartJob();
      }
    } else if (client.session == 0) {
      Do("resume " + name);
    } else if (!client.returned) {
      Do("loaded " + name);
    } else {
      Train(name);
    }
  }

  void Train(const std::string& name) {
    const FakeClient& client = Harness()->Client(name);
    if (!client.alive || !client.returned || client.fenced) {
      return;
    }
    if (with_static_ && client.copies.empty() && Below(12) == 0) {
      // Another layout of the same frozen tensors, or of others.
      constexpr const char* kLayouts[] = {"a", "b", "a static=1", "b static=2"};
      Do("register " + name + " layout=" + kLayouts[Below(4)]);
      return;
    }
    switch (Below(8)) {
      case 0:
        Do("torn " + name + (Below(2) == 0 ? " done" : ""));
        break;
      case 1:
        Do("copies_done " + name);
        break;
      case 2:
      case 3:
      case 4:
        Do("seal " + name + (Below(2) == 0 ? " digests=daemon" : ""));
        break;
      case 5:
        if (Below(4) == 0) {
          Do("disconnect " + name);
        } else if (Below(12) == 0) {
          Do("copies_done " + name);
          Do("leave " + name);
        } else if (Below(4) == 0) {
          Do("drain " + name + " timeout=5");
        }
        break;
      default:
        BeginNext(name);
    }
  }

  // Training is synchronous: nobody is more than one step ahead.
  void BeginNext(const std::string& name) {
    const FakeClient& other = Harness()->Client(name == "r0" ? "r1" : "r0");
    const Step next = Harness()->Client(name).last_begun < step_ ? step_ : step_ + 1;
    if (next > step_ && other.last_begun < step_ && step_ > 0) {
      return;
    }
    step_ = next;
    Do("begin " + name + " " + std::to_string(next));
  }

  void Die(const std::string& name) {
    const FakeClient& client = Harness()->Client(name);
    if (!client.alive) {
      return;
    }
    const bool worker = Below(2) == 0;
    // A seal that was sent says that the frozen tensors have landed.
    const bool frozen_landed =
        std::any_of(client.copies.begin(), client.copies.end(), [](const auto& entry) {
          return entry.second.sealing && entry.second.frozen.has_value();
        });
    for (const auto& [ref, copy] : client.copies) {
      if (worker && !copy.sealing) {
        zombies_.emplace_back(name, ref);
      }
      if (worker && copy.frozen.has_value() && client.frozen.has_value() &&
          !client.frozen->sealed && !frozen_landed) {
        zombies_.emplace_back(name, *copy.frozen);
      }
    }
    Do("die " + name + (worker ? " worker=lives" : ""));
  }

  void DeathEvent(const std::string& name) {
    if (!zombies_.empty() && Below(2) == 0) {
      const auto& [who, ref] =
          zombies_[static_cast<std::size_t>(Below(static_cast<int>(zombies_.size())))];
      Do("land " + who + " " + ToText(ref));
    } else if (Below(3) == 0) {
      Die(name);
    } else if (Below(3) == 0) {
      Do("workers_gone");
      zombies_.clear();
    }
  }

  void HoldEvent() {
    const std::string kind = kKinds[Below(8)];
    if (Harness()->HeldCount(kind) > 0) {
      const bool may_fail = kind != "delete" && kind != "claim" && Below(4) == 0;
      Do("finish_held " + kind + (may_fail ? " io" : ""));
    } else {
      Do((Below(3) == 0 ? "hold " : "unhold ") + kind);
    }
  }

  std::mt19937_64 random_;
  const bool with_tier_;
  const bool with_static_;
  CoreScript script_;
  std::vector<std::string> lines_;
  std::vector<std::string> failures_;
  std::vector<std::pair<std::string, SlotRef>> zombies_;
  Step step_ = 0;
};

void RunWalk(std::uint64_t seed, int events, bool with_tier, bool with_static = false) {
  RandomWalk walk(seed, with_tier, with_static);
  walk.Walk(events);
  if (walk.failures().empty()) {
    walk.EndFaults();
    walk.ExpectProgress();
    walk.ExpectRestart();
  }
  for (const std::string& failure : walk.failures()) {
    ADD_FAILURE() << failure;
  }
  if (::testing::Test::HasFailure()) {
    ADD_FAILURE() << "seed " << seed << ", as a script:\n" << walk.Script();
  }
}

int Walks() {
  const char* more = std::getenv("HOLDFAST_WALKS");  // NOLINT(concurrency-mt-unsafe): one thread
  return more == nullptr ? 25 : std::atoi(more);
}

TEST(CoreRandomWalkTest, KeepsEveryInvariantInMemory) {
  for (int seed = 1; seed <= Walks() && !HasFailure(); ++seed) {
    RunWalk(static_cast<std::uint64_t>(seed), 300, false);
  }
}

TEST(CoreRandomWalkTest, KeepsEveryInvariantWithATier) {
  for (int seed = 1; seed <= Walks() && !HasFailure(); ++seed) {
    RunWalk(static_cast<std::uint64_t>(seed) << 32U, 300, true);
  }
}

TEST(CoreRandomWalkTest, KeepsEveryInvariantWithStaticImages) {
  for (int seed = 1; seed <= Walks() && !HasFailure(); ++seed) {
    RunWalk(static_cast<std::uint64_t>(seed) << 16U, 300, seed % 2 == 0, /*with_static=*/true);
  }
}

}  // namespace
}  // namespace holdfast::daemon
