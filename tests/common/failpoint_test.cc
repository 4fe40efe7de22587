#include "common/failpoint.h"

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace holdfast {
namespace {

class FailpointTest : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_TRUE(ArmFailpoints("").has_value()); }
};

TEST_F(FailpointTest, NamesThatAreNotArmedDoNothing) {
  EXPECT_TRUE(FailpointStatus("a.b").has_value());
  ASSERT_TRUE(ArmFailpoints("a.b=error:5").has_value());
  EXPECT_TRUE(FailpointStatus("a.bc").has_value());
  EXPECT_TRUE(FailpointStatus("a").has_value());
}

TEST_F(FailpointTest, AnErrorHasTheNumberThatWasGivenAndNamesItsPoint) {
  ASSERT_TRUE(ArmFailpoints("a.b=error:28").has_value());
  const Status status = FailpointStatus("a.b");
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().sys_errno, ENOSPC);
  EXPECT_EQ(status.error().code, Errc::kNoSpace);
  EXPECT_NE(status.error().message.find("a.b"), std::string::npos);
  HOLDFAST_FAILPOINT("a.b");  // has nobody to return an error to
}

TEST_F(FailpointTest, ANumberedPassageIsTheOnlyOneThatActs) {
  ASSERT_TRUE(ArmFailpoints("a.b=error:5@3;c.d=error:5").has_value());
  EXPECT_TRUE(FailpointStatus("a.b").has_value());
  EXPECT_FALSE(FailpointStatus("c.d").has_value());
  EXPECT_TRUE(FailpointStatus("a.b").has_value());
  EXPECT_FALSE(FailpointStatus("a.b").has_value());
  EXPECT_TRUE(FailpointStatus("a.b").has_value());
  EXPECT_FALSE(FailpointStatus("c.d").has_value());
}

TEST_F(FailpointTest, ArmingAnewCountsFromOneAndForgetsTheOthers) {
  ASSERT_TRUE(ArmFailpoints("a.b=error:5@2;c.d=error:5").has_value());
  EXPECT_TRUE(FailpointStatus("a.b").has_value());
  ASSERT_TRUE(ArmFailpoints("a.b=error:5@2").has_value());
  EXPECT_TRUE(FailpointStatus("a.b").has_value());
  EXPECT_FALSE(FailpointStatus("a.b").has_value());
  EXPECT_TRUE(FailpointStatus("c.d").has_value());
}

TEST_F(FailpointTest, WhatCannotBeReadIsNamedAndChangesNothing) {
  ASSERT_TRUE(ArmFailpoints("a.b=error:5").has_value());
  for (const char* const bad : {"a.b",
                                "=kill",
                                "a.b=",
                                "a.b=die",
                                "a.b=error",
                                "a.b=error:x",
                                "a.b=error:5x",
                                "a.b=kill:9",
                                "a.b=kill@",
                                "a.b=kill@x",
                                "a.b=kill@-1",
                                "a.b=wait",
                                "a.b=mark:",
                                "c.d=kill;a.b=nothing"}) {
    const Status status = ArmFailpoints(bad);
    ASSERT_FALSE(status.has_value()) << bad;
    EXPECT_EQ(status.error().code, Errc::kInvalidArgument) << bad;
    EXPECT_FALSE(FailpointStatus("a.b").has_value()) << bad << ": the old ones are gone";
  }
}

TEST_F(FailpointTest, ASpecificationMayEndWithASeparator) {
  ASSERT_TRUE(ArmFailpoints(";a.b=error:5;").has_value());
  EXPECT_FALSE(FailpointStatus("a.b").has_value());
}

TEST_F(FailpointTest, APathMayHoldWhatSeparatesElsewhere) {
  const std::string path = ::testing::TempDir() + "/mark:it=" + std::to_string(::getpid());
  ASSERT_TRUE(ArmFailpoints("a.b=mark:" + path).has_value());
  HOLDFAST_FAILPOINT("a.b");
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(FailpointTest, WhoStallsGoesOnWhenThePointIsCleared) {
  const std::string reached = ::testing::TempDir() + "/reached" + std::to_string(::getpid());
  ASSERT_TRUE(ArmFailpoints("a.b=mark:" + reached + ";c.d=stall").has_value());
  std::thread stalled([] {
    HOLDFAST_FAILPOINT("a.b");
    HOLDFAST_FAILPOINT("c.d");
  });
  while (!std::filesystem::exists(reached)) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(ArmFailpoints("").has_value());
  stalled.join();
}

TEST_F(FailpointTest, KillEndsTheProcessWithoutUnwinding) {
  const pid_t child = ::fork();
  if (child == 0) {
    (void)ArmFailpoints("a.b=kill@2");
    HOLDFAST_FAILPOINT("a.b");
    HOLDFAST_FAILPOINT("a.b");
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
}

}  // namespace
}  // namespace holdfast
