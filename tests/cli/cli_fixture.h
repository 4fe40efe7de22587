// What the tests of the CLI share: folders with real snapshots, a daemon made of fixed answers, and
// the program run in this process.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cli/admin_channel.h"
#include "cli/context.h"
#include "proto/client.pb.h"
#include "storage_tiers/persistent_tier.h"
#include "storage_tiers/posix_file_system.h"

namespace holdfast::cli {

struct RunResult {
  int exit = -1;
  std::string out;
  std::string err;
};

// A shard with the tensors "model.w" and "optim.m" (each 1.5 MiB), "tied" (an alias of model.w) and
// two state items.  The contents follow from id and rank.
struct TestShard {
  proto::Sidecar sidecar;
  std::string image;
};

[[nodiscard]] TestShard MakeShard(std::uint64_t incarnation,
                                  std::int64_t step,
                                  std::uint32_t rank,
                                  std::uint32_t world_size);

inline constexpr char kTestJob[] = "my-job";

[[nodiscard]] std::string TestJobUid();

class CliTest : public ::testing::Test {
 protected:
  CliTest();

  // An empty folder of this test.
  [[nodiscard]] std::string MakeFolder(const std::string& name);

  // A durable snapshot of two ranks, with the record of its incarnation.
  void WriteSnapshot(const std::string& root, std::uint64_t incarnation, std::int64_t step);

  // "arguments" behind the program's name.
  [[nodiscard]] RunResult Run(const std::vector<std::string>& arguments);

  // Answers of the daemon; without one nobody answers.
  using Answer = std::function<Result<AdminReply>(const proto::ClientMessage&)>;
  Answer daemon_;
  std::vector<proto::ClientMessage> requests_;  // what it was asked
  std::optional<Error> connect_error_;          // connecting ends so
  std::string holdfast_socket_;                 // HOLDFAST_SOCKET

  std::string input_;  // what the user types
  bool in_is_terminal_ = false;
  bool err_is_terminal_ = false;
  storage_tiers::PosixFileSystem posix_;
  storage_tiers::FileSystem* fs_ = &posix_;
  std::string base_;
};

void WriteFile(const std::string& path, const std::string& contents);
void FlipByte(const std::string& path, std::uint64_t offset);

// Names in a folder, sorted; what a command must not leave behind shows here.
[[nodiscard]] std::vector<std::string> Names(const std::string& folder);

}  // namespace holdfast::cli
