// Snapshots of a folder whose files are gone or cut: what is said of them, and what is not offered.
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/cli_fixture.h"

namespace holdfast::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class OfflineDamageTest : public CliTest {
 protected:
  OfflineDamageTest() : root_(MakeFolder("root")) {
    WriteSnapshot(root_, 7, 1100);
    WriteSnapshot(root_, 7, 1200);
  }

  [[nodiscard]] std::string File(const std::string& name) const {
    return root_ + "/" + kTestJob + "/step-00001200.i0007/" + name;
  }

  // Everything that a user may ask of the newest snapshot, rank 1 of which lacks "file".
  void ExpectDamaged(const std::string& file) {
    const json listed = json::parse(Run({"ls", "--root", root_, "--json"}).out);
    const json& snapshot = listed["snapshots"][0];
    EXPECT_EQ(snapshot["step"], 1200);
    EXPECT_EQ(snapshot["state"], "damaged");
    EXPECT_THAT(snapshot["reason"].get<std::string>(), HasSubstr(file));
    EXPECT_TRUE(snapshot["durable_on"].empty());
    EXPECT_EQ(snapshot["shards"][0]["state"], "durable");
    EXPECT_EQ(snapshot["shards"][1]["state"], "lost");
    EXPECT_THAT(listed["problems"].dump(), HasSubstr(file));
    EXPECT_EQ(listed["snapshots"][1]["state"], "durable");

    const json status = json::parse(Run({"status", "--root", root_, "--json"}).out);
    EXPECT_EQ(status["jobs"][0]["restorable"]["step"], 1100);
    EXPECT_EQ(status["jobs"][0]["tiers"][0]["newest_durable"]["step"], 1100);

    const std::string to = base_ + "/out";
    for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
             {"export", kTestJob, "1200", "--to", to, "--root", root_},
             {"export", kTestJob, "1200", "--rank", "1", "--to", to, "--root", root_},
             {"show", kTestJob, "1200", "--rank", "1", "--root", root_},
             {"restore", kTestJob, "1200", "--from-root", root_, "--to-root", MakeFolder("b")}}) {
      const RunResult result = Run(command);
      EXPECT_EQ(result.exit, 3) << command[0] << ": " << result.err;
      EXPECT_THAT(result.err, HasSubstr(file)) << command[0];
    }
    EXPECT_FALSE(std::filesystem::exists(to));
    EXPECT_EQ(Run({"verify", kTestJob, "1200", "--root", root_}).exit, 3);

    // What is there can be taken, and the newest is the one that is whole.
    EXPECT_EQ(
        Run({"export", kTestJob, "1200", "--partial", "--to", to + "-part", "--root", root_}).exit,
        0);
    const RunResult newest = Run({"export", kTestJob, "newest", "--to", to, "--root", root_});
    ASSERT_EQ(newest.exit, 0) << newest.err;
    EXPECT_THAT(newest.out, HasSubstr("1100@7"));
  }

  const std::string root_;
};

TEST_F(OfflineDamageTest, ASnapshotThatLostAnImageIsDamagedAndNotOffered) {
  std::filesystem::remove(File("rank-00001.safetensors"));
  ExpectDamaged("rank-00001.safetensors is missing");
}

TEST_F(OfflineDamageTest, ASnapshotWithAnImageThatIsTooShortIsDamagedAndNotOffered) {
  std::filesystem::permissions(File("rank-00001.safetensors"), std::filesystem::perms::owner_all);
  std::filesystem::resize_file(File("rank-00001.safetensors"), 1000);
  ExpectDamaged("rank-00001.safetensors: has 1000 bytes");
}

TEST_F(OfflineDamageTest, ASnapshotThatLostASidecarIsDamagedAndNotOffered) {
  std::filesystem::remove(File("rank-00001.meta"));
  ExpectDamaged("rank-00001.meta is missing");
}

TEST_F(OfflineDamageTest, WhereAllAreDamagedTheAnswerSaysSo) {
  for (const char* const step : {"step-00001100.i0007", "step-00001200.i0007"}) {
    std::filesystem::remove(root_ + "/" + kTestJob + "/" + step + "/rank-00000.safetensors");
  }
  const RunResult newest =
      Run({"export", kTestJob, "newest", "--to", base_ + "/out", "--root", root_});
  EXPECT_EQ(newest.exit, 6);
  EXPECT_THAT(newest.err, HasSubstr("1200@7 (damaged), 1100@7 (damaged)"));
  EXPECT_THAT(Run({"status", "--root", root_}).out, Not(HasSubstr("restorable: 1")));
}

}  // namespace
}  // namespace holdfast::cli
