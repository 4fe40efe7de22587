#include "daemon/core/states.h"

#include <string>

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

constexpr int kPhases = 10;
constexpr int kEvents = 17;

// The table as docs/ARCHITECTURE.md shows it.  A change here is a change of the protocol.
constexpr char kGolden[] =
    "preparing --prepared--> free\n"
    "free --prepare_again--> preparing\n"
    "free --grant--> granted\n"
    "free --spoilt--> quarantined\n"
    "free --make--> making\n"
    "making --seal_recorded--> sealed\n"
    "making --make_ended--> free\n"
    "granted --returned--> free\n"
    "granted --begin--> filling\n"
    "granted --owner_gone--> quarantined\n"
    "filling --final--> sealing\n"
    "filling --seal_recorded--> sealed\n"
    "filling --given_up--> draining\n"
    "filling --owner_gone--> quarantined\n"
    "sealing --seal_recorded--> sealed\n"
    "sealing --given_up--> draining\n"
    "draining --copies_done--> free\n"
    "draining --owner_gone--> quarantined\n"
    "sealed --retire--> free\n"
    "limbo --vouched_idle--> granted\n"
    "limbo --vouched_filling--> filling\n"
    "limbo --vouched_draining--> draining\n"
    "limbo --returned--> free\n"
    "limbo --owner_gone--> quarantined\n";

TEST(StatesTest, TheTableIsTheOneThatTheDocumentShows) {
  std::string table;
  for (const SlotTransition& row : SlotTransitions()) {
    table += std::string(Name(row.from)) + " --" + std::string(Name(row.event)) + "--> " +
             std::string(Name(row.to)) + "\n";
  }
  EXPECT_EQ(table, kGolden);
}

TEST(StatesTest, NextFollowsTheTableAndNothingElse) {
  int possible = 0;
  for (int phase = 0; phase < kPhases; ++phase) {
    for (int event = 0; event < kEvents; ++event) {
      const auto next = Next(static_cast<SlotPhase>(phase), static_cast<SlotEvent>(event));
      possible += next.has_value() ? 1 : 0;
    }
  }
  EXPECT_EQ(possible, static_cast<int>(SlotTransitions().size()));
}

// I7: what a dead client may still write to is never reused.
TEST(StatesTest, NothingLeadsOutOfQuarantine) {
  for (int event = 0; event < kEvents; ++event) {
    EXPECT_FALSE(Next(SlotPhase::kQuarantined, static_cast<SlotEvent>(event)).has_value());
  }
}

// I2: a sealed slot leaves that state by retirement alone.
TEST(StatesTest, ASealedSlotCanOnlyBeRetired) {
  for (int event = 0; event < kEvents; ++event) {
    const auto next = Next(SlotPhase::kSealed, static_cast<SlotEvent>(event));
    EXPECT_EQ(next.has_value(), static_cast<SlotEvent>(event) == SlotEvent::kRetire);
  }
}

// I7: a torn copy never seals.
TEST(StatesTest, AGivenUpSlotNeverSeals) {
  EXPECT_FALSE(Next(SlotPhase::kDraining, SlotEvent::kSealRecorded).has_value());
  EXPECT_FALSE(Next(SlotPhase::kDraining, SlotEvent::kFinal).has_value());
}

}  // namespace
}  // namespace holdfast::daemon
