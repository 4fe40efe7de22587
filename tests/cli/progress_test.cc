#include "cli/progress.h"

#include <algorithm>
#include <iostream>
#include <sstream>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/image_check.h"
#include "tests/cli/cli_fixture.h"

namespace holdfast::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class HandClock final : public Clock {
 public:
  MonotonicTime Now() const override { return now_; }

  WallTime WallNow() const override { return {}; }

  void Advance(std::chrono::milliseconds by) { now_ += by; }

 private:
  MonotonicTime now_{};
};

TEST(ProgressTest, ATerminalSeesShareRateAndTimeLeft) {
  HandClock clock;
  std::ostringstream stream;
  Progress progress(stream, true, "verify", 100 * kMiB, clock);
  clock.Advance(std::chrono::seconds(10));
  progress.Add(25 * kMiB);
  EXPECT_EQ(stream.str(), "\rverify  25.0 MiB of 100 MiB  25 %  2.50 MiB/s  30s left");
  stream.str("");
  progress.Finish();
  EXPECT_THAT(stream.str(), HasSubstr("\r  "));
  stream.str("");
  progress.Add(kMiB);
  progress.Finish();
  EXPECT_THAT(stream.str(), IsEmpty());
}

TEST(ProgressTest, ItDrawsAtMostFiveTimesASecond) {
  HandClock clock;
  std::ostringstream stream;
  Progress progress(stream, true, "x", 0, clock);
  for (int i = 0; i < 1000; ++i) {
    clock.Advance(std::chrono::milliseconds(1));
    progress.Add(1);
  }
  const std::string drawn = stream.str();
  EXPECT_LE(std::count(drawn.begin(), drawn.end(), '\r'), 5);
}

TEST(ProgressTest, InAPipeNothingIsPrinted) {
  HandClock clock;
  std::ostringstream stream;
  {
    Progress progress(stream, false, "x", 10, clock);
    clock.Advance(std::chrono::seconds(10));
    progress.Add(5);
    progress.Label("y");
  }
  EXPECT_THAT(stream.str(), IsEmpty());
}

TEST(ProgressTest, ManyThreadsMayAdd) {
  std::ostringstream stream;
  Progress progress(stream, true, "x", 4000);
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 1000; ++n) {
          progress.Add(1);
        }
      });
    }
  }
  EXPECT_EQ(progress.done(), 4000U);
}

class CheckImageTest : public CliTest {};

TEST_F(CheckImageTest, EveryBlockIsHandedOnOnceAndInWhole) {
  const TestShard shard = MakeShard(1, 1, 0, 1);
  const std::string path = base_ + "/image";
  WriteFile(path, shard.image);
  for (const bool direct : {false, true}) {
    const auto reader = ImageReader::OpenFile(path, direct);
    ASSERT_TRUE(reader);
    std::string copy(shard.image.size(), '\0');
    const auto bad = CheckImage(reader.value(),
                                shard.sidecar.images(0),
                                nullptr,
                                [&](ByteCount offset, ByteView block) -> Status {
                                  copy.replace(offset, block.size(), AsText(block));
                                  return Ok();
                                });
    ASSERT_TRUE(bad);
    EXPECT_THAT(bad.value(), IsEmpty());
    EXPECT_TRUE(copy == shard.image);
  }
}

TEST_F(CheckImageTest, DigestsThatCannotBeOfTheImageAreCorruption) {
  const TestShard shard = MakeShard(1, 1, 0, 1);
  const std::string path = base_ + "/image";
  WriteFile(path, shard.image);
  const auto reader = ImageReader::OpenFile(path, false);
  ASSERT_TRUE(reader);
  proto::ImageDigest digest = shard.sidecar.images(0);
  digest.set_length_bytes(~std::uint64_t{0});
  EXPECT_EQ(CheckImage(reader.value(), digest, nullptr).error().code, Errc::kCorruption);
  digest = shard.sidecar.images(0);
  digest.mutable_chunk_crc32c()->RemoveLast();
  EXPECT_EQ(CheckImage(reader.value(), digest, nullptr).error().code, Errc::kCorruption);
  digest = shard.sidecar.images(0);
  digest.set_chunk_bytes(0);
  EXPECT_EQ(CheckImage(reader.value(), digest, nullptr).error().code, Errc::kCorruption);
}

TEST_F(CheckImageTest, AFileThatEndsWhileItIsReadIsCorruption) {
  const TestShard shard = MakeShard(1, 1, 0, 1);
  const std::string path = base_ + "/image";
  WriteFile(path, shard.image);
  const auto reader = ImageReader::OpenFile(path, false);
  ASSERT_TRUE(reader);
  ASSERT_EQ(::truncate(path.c_str(), 5000), 0);
  EXPECT_EQ(CheckImage(reader.value(), shard.sidecar.images(0), nullptr).error().code,
            Errc::kCorruption);
}

class ProgramTest : public CliTest {
 protected:
  // The program, with standard error on a new pseudo-terminal or in a pipe.  Returns what standard
  // error saw.
  static std::string StderrOf(std::vector<std::string> arguments, bool terminal) {
    arguments.insert(arguments.begin(), "holdfast");
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) {
      argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    int reads = -1;
    int writes = -1;
    if (terminal) {
      EXPECT_EQ(::openpty(&reads, &writes, nullptr, nullptr, nullptr), 0);
    } else {
      int ends[2];
      EXPECT_EQ(::pipe(ends), 0);
      reads = ends[0];
      writes = ends[1];
    }
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(writes, STDERR_FILENO);
      ::close(reads);
      ::execv("cli/holdfast", argv.data());
      ::_exit(127);
    }
    ::close(writes);
    std::string seen;
    char buffer[256];
    for (ssize_t got = 0; (got = ::read(reads, buffer, sizeof buffer)) > 0;) {
      seen.append(buffer, static_cast<std::size_t>(got));
    }
    ::close(reads);
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status << seen;
    return seen;
  }
};

TEST_F(ProgramTest, OnlyATerminalSeesProgress) {
  const std::string root = MakeFolder("pfs");
  WriteSnapshot(root, 1, 5);
  for (const bool terminal : {true, false}) {
    const std::string to = base_ + (terminal ? "/out" : "/quiet");
    const std::string other = MakeFolder(terminal ? "other" : "quiet-other");
    const std::vector<std::vector<std::string>> commands = {
        {"verify", "--root", root},
        {"export", kTestJob, "5", "--root", root, "--to", to},
        {"restore", kTestJob, "5", "--from-root", root, "--to-root", other}};
    for (const std::vector<std::string>& command : commands) {
      const std::string seen = StderrOf(command, terminal);
      if (terminal) {
        EXPECT_THAT(seen, HasSubstr("\r" + command.front() + " my-job 5@1"));
        EXPECT_THAT(seen, HasSubstr(" of 6.0"));  // bytes, of those of both ranks
      } else {
        EXPECT_EQ(seen, "") << command.front();
      }
    }
  }
}

}  // namespace
}  // namespace holdfast::cli
