// What launchers and trainers of a random simulation do next.

#include <algorithm>

#include "tests/sim/random_sim.h"

namespace holdfast::daemon {

// Same nodes again, or moved on by some, or in another order.
std::vector<int> RandomSim::Placement(std::uint32_t how) const {
  const auto nodes = static_cast<std::uint32_t>(plan_.nodes);
  const std::uint32_t members = std::min(nodes, plan_.ranks);
  std::vector<int> on = sim_.on();
  const bool again = how % 4 < 2 && !on.empty();
  for (Rank rank = 0; rank < plan_.ranks && !again; ++rank) {
    on.resize(plan_.ranks);
    const std::uint32_t place = rank % members;
    on[rank] = static_cast<int>((how % 4 == 2 ? place + how / 4 : place * 3 + how / 4) % nodes);
  }
  return on;
}

void RandomSim::Launch(std::uint32_t how, std::uint32_t spared) {
  // One in four times the launcher does not reach a node, and trainers of the last start live on.
  std::set<int> out_of_reach;
  if (spared % 4 == 0 && !sim_.on().empty()) {
    const int node = static_cast<int>(spared / 4 % static_cast<std::uint32_t>(plan_.nodes));
    bool registered = node != sim_.on()[0];
    for (Rank rank = 0; rank < sim_.on().size(); ++rank) {
      registered = registered && (sim_.on()[rank] != node || sim_.Client(rank).registered);
    }
    if (registered) {
      out_of_reach.insert(node);
    }
  }
  // One that reaches every node leaves nobody of any earlier start.
  for (const Trainer& trainer : Trainers()) {
    if (out_of_reach.empty()) {
      sim_.Node(trainer.node).Die(trainer.name, false);
    }
  }
  // Another launcher, which has not heard of the last start, may take its number once more.
  FakeJob& job = sim_.world().jobs.at("train");
  if (!out_of_reach.empty() && spared % 3 == 0) {
    job.epoch = before_launch_;
  }
  before_launch_ = job.epoch;
  step_ = 0;
  sim_.Launch(Placement(how), out_of_reach);
  checks_.OnLaunch();
  Enter({sim_.on()[0], "r0"});
}

bool RandomSim::IsOpened() const {
  return sim_.job().epoch != before_launch_;
}

bool RandomSim::IsOfThisStart(const Trainer& trainer) const {
  const auto& clients = sim_.Node(trainer.node).clients();
  const FakeClient& client = clients.at(trainer.name);
  return client.rank < sim_.on().size() && sim_.on()[client.rank] == trainer.node;
}

std::vector<RandomSim::Trainer> RandomSim::Trainers() {
  std::vector<Trainer> trainers;
  for (int node = 0; node < plan_.nodes; ++node) {
    for (const auto& [name, client] : sim_.Node(node).clients()) {
      if (client.alive) {
        trainers.push_back({node, name});
      }
    }
  }
  return trainers;
}

FakeClient& RandomSim::ClientOf(const Trainer& trainer) {
  return sim_.Node(trainer.node).Client(trainer.name);
}

// Rank 0 opens the incarnation; the others wait for its word.
void RandomSim::Enter(const Trainer& trainer) {
  CoreHarness& node = sim_.Node(trainer.node);
  FakeClient& client = ClientOf(trainer);
  if (!IsOfThisStart(trainer) || !client.waiting.empty()) {
    return;
  }
  if (IsOpened()) {
    node.Register(trainer.name);
  } else if (client.rank == 0) {
    node.Open(trainer.name);
  }
}

void RandomSim::Act(const Trainer& trainer, std::uint32_t choice, bool trains) {
  CoreHarness& node = sim_.Node(trainer.node);
  FakeClient& client = ClientOf(trainer);
  if (!client.alive || client.fenced || !node.up()) {
    return;
  }
  if (client.hears == 0U && client.session != 0) {
    node.Disconnect(trainer.name);
    return;
  }
  if (!client.registered) {
    Enter(trainer);
  } else if (client.session == 0) {
    node.Resume(trainer.name);
  } else if (client.returned) {
    if (trains) {
      Train(trainer, choice);
    }
  } else if (client.restore_error.has_value()) {
    if (trains && choice % 4 == 0) {
      node.Restore(trainer.name, {});
    }
  } else if (!client.asks) {
    node.Restore(trainer.name, {});
  } else if (client.told.has_value() && !client.reports_loaded) {
    const bool fails = trains && choice % 16 == 0;
    if (!fails) {
      checks_.OnLoaded(client);
    }
    node.Loaded(trainer.name, fails);
  }
}

void RandomSim::Train(const Trainer& trainer, std::uint32_t choice) {
  CoreHarness& node = sim_.Node(trainer.node);
  const FakeClient& client = ClientOf(trainer);
  const bool given_up = std::any_of(client.copies.begin(),
                                    client.copies.end(),
                                    [](const auto& copy) { return copy.second.given_up; });
  const bool copies = std::any_of(client.copies.begin(), client.copies.end(), [](const auto& copy) {
    return !copy.second.given_up && !copy.second.sealing;
  });
  if (given_up) {
    node.CopiesDone(trainer.name);
  } else if (copies && choice % 12 == 0) {
    node.Torn(trainer.name, choice % 24 == 0, "said the test");
  } else if (copies) {
    node.Seal(trainer.name, choice % 3 == 0);
  } else {
    BeginNext(trainer);
  }
}

// Training is synchronous: nobody is more than one step ahead.  One of an older start is alone.
void RandomSim::BeginNext(const Trainer& trainer) {
  const FakeClient& client = ClientOf(trainer);
  CoreHarness& node = sim_.Node(trainer.node);
  if (!IsOfThisStart(trainer)) {
    node.Begin(trainer.name, client.last_begun + 1);
    return;
  }
  if (client.last_begun >= step_) {
    for (Rank rank = 0; rank < sim_.on().size(); ++rank) {
      const FakeClient& other = sim_.Client(rank);
      if (!other.alive || !other.returned || other.last_begun < step_) {
        return;
      }
    }
    ++step_;
  }
  node.Begin(trainer.name, step_);
}

// As the library does, with no copy under way.  What the daemon answers may be lost: all of it, or
// the grant that follows it.
void RandomSim::ChangeLayout(const Trainer& trainer, const SimAction& action) {
  FakeClient& client = ClientOf(trainer);
  const bool may = client.registered && client.session != 0 && !client.fenced &&
                   client.waiting.empty() && client.copies.empty();
  if (!may) {
    return;
  }
  const std::uint32_t which = action.b % plan_.layouts;
  client.layout.name = "b" + std::to_string(which);
  client.layout.image_bytes = (1 + which) * kMiB;
  if (plan_.statics) {
    client.layout.static_bytes = action.b / plan_.layouts % 3 * kMiB;
  }
  client.hears = action.c % 4 < 2 ? std::optional<std::uint32_t>(action.c % 4) : std::nullopt;
  sim_.Node(trainer.node).Register(trainer.name, /*names_slots=*/false);
}

}  // namespace holdfast::daemon
