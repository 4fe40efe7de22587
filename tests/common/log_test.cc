#include "common/log.h"

#include <string>

#include <gtest/gtest.h>

namespace holdfast {
namespace {

std::string Logged(LogLevel level, void (*write)()) {
  ::testing::internal::CaptureStderr();
  StartLog("tester", level);
  write();
  return ::testing::internal::GetCapturedStderr();
}

TEST(LogTest, OnlyTheFourLevelsAreRead) {
  EXPECT_EQ(ParseLogLevel("debug").value(), LogLevel::kDebug);
  EXPECT_EQ(ParseLogLevel("info").value(), LogLevel::kInfo);
  EXPECT_EQ(ParseLogLevel("warning").value(), LogLevel::kWarning);
  EXPECT_EQ(ParseLogLevel("error").value(), LogLevel::kError);
  for (const char* const bad : {"", "Info", "warn", "trace"}) {
    EXPECT_EQ(ParseLogLevel(bad).error().code, Errc::kInvalidArgument) << bad;
  }
}

TEST(LogTest, ALineNamesProgramLevelAndEvent) {
  const std::string line = Logged(LogLevel::kInfo, [] { LogInfo("a.b", "text"); });
  EXPECT_NE(line.find("tester["), std::string::npos) << line;
  EXPECT_NE(line.find("] info a.b: text\n"), std::string::npos) << line;
}

TEST(LogTest, WhatIsBelowTheLevelIsNotWritten) {
  const std::string lines = Logged(LogLevel::kWarning, [] {
    LogDebug("a.b", "one");
    LogInfo("a.b", "two");
    LogWarning("a.b", "three");
    LogError("a.b", "four");
  });
  EXPECT_EQ(lines.find("one"), std::string::npos);
  EXPECT_EQ(lines.find("two"), std::string::npos);
  EXPECT_NE(lines.find("three"), std::string::npos);
  EXPECT_NE(lines.find("four"), std::string::npos);
}

// Paths and messages of clients are data, never a format.
TEST(LogTest, BracesInAMessageAreOnlyText) {
  const std::string line = Logged(LogLevel::kInfo, [] { LogInfo("a.b", "{} {0} %s {"); });
  EXPECT_NE(line.find("{} {0} %s {\n"), std::string::npos) << line;
}

}  // namespace
}  // namespace holdfast
