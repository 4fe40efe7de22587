#include "client/step_ledger.h"

#include <gtest/gtest.h>

namespace holdfast::client {
namespace {

TEST(StepLedgerTest, GivenUpIsFinal) {
  StepLedger ledger;
  ledger.Set(1, StepState::kCopying);
  ledger.Set(1, StepState::kGivenUp, "torn");
  ledger.Set(1, StepState::kSealing);
  ledger.Set(1, StepState::kSealed);
  EXPECT_EQ(ledger.Find(1)->state, StepState::kGivenUp);
  EXPECT_EQ(ledger.Find(1)->reason, "torn");
}

TEST(StepLedgerTest, SealedMayStillBeAbandoned) {
  StepLedger ledger;
  ledger.Set(1, StepState::kSealed);
  ledger.Set(1, StepState::kSealing);
  EXPECT_EQ(ledger.Find(1)->state, StepState::kSealed);
  ledger.Set(1, StepState::kGivenUp, "rank 3 missed it");
  EXPECT_EQ(ledger.Find(1)->state, StepState::kGivenUp);
}

TEST(StepLedgerTest, OldEndsAreForgottenOpenStepsAreNot) {
  StepLedger ledger;
  ledger.Set(0, StepState::kCopying);
  for (std::int64_t step = 1; step < 10'000; ++step) {
    ledger.Set(step, StepState::kSealed);
  }
  EXPECT_TRUE(ledger.OpenUpTo(9'999));
  EXPECT_TRUE(ledger.Find(0).has_value());
  EXPECT_FALSE(ledger.Find(1).has_value());
  EXPECT_TRUE(ledger.Find(9'999).has_value());
  ledger.Set(0, StepState::kSealed);
  EXPECT_FALSE(ledger.OpenUpTo(9'999));
}

TEST(StepLedgerTest, LaterStepsDoNotKeepAnEarlierOneOpen) {
  StepLedger ledger;
  ledger.Set(5, StepState::kSealed);
  ledger.Set(6, StepState::kCopying);
  EXPECT_FALSE(ledger.OpenUpTo(5));
  EXPECT_TRUE(ledger.OpenUpTo(6));
}

}  // namespace
}  // namespace holdfast::client
