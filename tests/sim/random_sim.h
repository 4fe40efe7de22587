// Plays one plan on a cluster, then lets the faults end and asks for what must come then.
//
// Threads:   one.
// Ownership: owns the cluster.
// Errors:    what was broken is in violations(), first things first.
#pragma once

#include <string>
#include <vector>

#include "tests/sim/sim_checks.h"
#include "tests/sim/sim_cluster.h"
#include "tests/sim/sim_plan.h"

namespace holdfast::daemon {

class RandomSim {
 public:
  explicit RandomSim(const SimPlan& plan);

  // To the first violation.
  void Run();

  const std::vector<std::string>& violations() { return sim_.violations(); }

  std::string log() const { return sim_.log(); }

 private:
  struct Trainer {
    int node = 0;
    std::string name;
  };

  void Do(const SimAction& action);
  void DoNetwork(const SimAction& action);
  void DoDaemon(const SimAction& action);
  void DoTrainer(const SimAction& action);
  void Deliver(std::size_t which, bool keep);

  bool Failed() { return !sim_.violations().empty(); }

  void Check();

  // trainers (random_sim_trainers.cc)
  void EndParity(CoreHarness* node, const std::string& outcome);
  void Launch(std::uint32_t how, std::uint32_t spared);
  std::vector<int> Placement(std::uint32_t how) const;
  bool IsOpened() const;
  bool IsOfThisStart(const Trainer& trainer) const;
  std::vector<Trainer> Trainers();
  FakeClient& ClientOf(const Trainer& trainer);
  void Act(const Trainer& trainer, std::uint32_t choice, bool trains);
  void Enter(const Trainer& trainer);
  void Train(const Trainer& trainer, std::uint32_t choice);
  void BeginNext(const Trainer& trainer);
  void ChangeLayout(const Trainer& trainer, const SimAction& action);

  // the end (random_sim_end.cc)
  void EndFaults();
  void LetSettle();
  void ExpectNoWaiting();
  void ExpectProgress();
  void ExpectProtected();
  bool StartUntilItTrains();
  void ExpectRestart();
  bool All(bool (*what)(const FakeClient& client));
  std::string Waiting();

  const SimPlan plan_;
  SimCluster sim_;
  SimChecks checks_{&sim_};
  Epoch before_launch_;
  Step step_ = 0;
};

}  // namespace holdfast::daemon
