// Random runs over several nodes: nodes die between any two actions, messages are lost, come twice,
// late or in another order, the network is cut, the job starts again elsewhere (README.md).

#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

#include "tests/sim/random_sim.h"
#include "tests/support/sanitized.h"

namespace holdfast::daemon {
namespace {

constexpr std::uint64_t kSeeds = UnlessSanitized(2'000, 100);

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
  return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 10);
}

// "I4" of "n1: I4: (1,2) is freed ...", the first words of others: what the shorter runs must break
// too.
std::string RuleOf(const std::string& violation) {
  const auto colon = violation.find(": ");
  const bool of_node = colon != std::string::npos && violation[0] == 'n';
  return of_node ? violation.substr(colon + 2, 3)
                 : violation.substr(0, violation[0] == 'L' ? 12 : 3);
}

std::string FirstViolation(const SimPlan& plan) {
  RandomSim sim(plan);
  sim.Run();
  return sim.violations().empty() ? "" : sim.violations().front();
}

std::string LastLines(const std::string& text, std::size_t most) {
  std::size_t at = text.size();
  for (std::size_t lines = 0; at > 0 && lines <= most; ++lines) {
    at = text.rfind('\n', at - 1);
    at = at == std::string::npos ? 0 : at;
  }
  return text.substr(at);
}

void Explain(const SimPlan& plan, const std::string& violation) {
  constexpr int kTrials = 400;
  const std::string rule = RuleOf(violation);
  const SimPlan shortest = Shorten(
      plan,
      [&](const SimPlan& shorter) {
        const std::string found = FirstViolation(shorter);
        return !found.empty() && RuleOf(found) == rule;
      },
      kTrials);
  RandomSim sim(shortest);
  sim.Run();
  ADD_FAILURE() << "seed " << plan.seed << ": " << violation
                << "\nshortest found: " << sim.violations().front() << "\n"
                << TextOf(shortest) << "what happened:\n"
                << LastLines(sim.log(), 250);
}

TEST(SimRandomTest, EveryRunKeepsTheInvariantsAndEnds) {
  const std::uint64_t base = FromEnvironment("HOLDFAST_SIM_SEED_BASE", 1);
  const std::uint64_t seeds = FromEnvironment("HOLDFAST_SIM_SEEDS", kSeeds);
  for (std::uint64_t seed = base; seed < base + seeds && !HasFailure(); ++seed) {
    const SimPlan plan = PlanOf(seed);
    if (const std::string violation = FirstViolation(plan); !violation.empty()) {
      Explain(plan, violation);
    }
  }
}

TEST(SimRandomTest, ASeedGivesTheSameRunAgain) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    RandomSim first(PlanOf(seed));
    first.Run();
    RandomSim second(PlanOf(seed));
    second.Run();
    EXPECT_EQ(first.log(), second.log());
  }
}

}  // namespace
}  // namespace holdfast::daemon
