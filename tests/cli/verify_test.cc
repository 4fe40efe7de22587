// What `holdfast verify` says of folders that change or are not there while it looks at them.
#include <cerrno>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/cli_fixture.h"
#include "tests/support/fault_file_system.h"

namespace holdfast::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class VerifyTest : public CliTest {
 protected:
  VerifyTest() : root_(MakeFolder("root")), job_(root_ + "/" + kTestJob), faults_(posix_) {
    WriteSnapshot(root_, 7, 1100);
    WriteSnapshot(root_, 7, 1200);
    fs_ = &faults_;
  }

  // "gone" vanishes when the sidecar "meta" is opened: after the folder was listed.
  void RemoveWhenOpened(const std::string& meta, const std::string& gone) {
    faults_.Clear();
    faults_.FailMatching(
        [meta, gone](const testing::FileSystemCall& call) {
          if (call.operation == "OpenForRead" && call.path.ends_with(meta)) {
            std::filesystem::remove_all(gone);
          }
          return false;
        },
        EIO);
  }

  const std::string root_;
  const std::string job_;
  testing::FaultFileSystem faults_;
};

TEST_F(VerifyTest, ASnapshotThatRetentionRemovesMeanwhileIsNotBlamed) {
  // Before its manifest is read, after that, and between its shards.
  for (const char* const meta : {"step-00001200.i0007/rank-00001.meta",
                                 "step-00001100.i0007/rank-00000.meta",
                                 "step-00001100.i0007/rank-00001.meta"}) {
    RemoveWhenOpened(meta, job_ + "/step-00001100.i0007");
    const RunResult verify = Run({"verify", "--root", root_, "--json"});
    EXPECT_EQ(verify.exit, 0) << meta << ": " << verify.err << verify.out;
    EXPECT_EQ(json::parse(verify.out)["shards"][1]["step"], 1200);
    ASSERT_FALSE(std::filesystem::exists(job_ + "/step-00001100.i0007"));
    WriteSnapshot(root_, 7, 1100);
  }
}

TEST_F(VerifyTest, ASnapshotThatWasNamedAndIsRemovedMeanwhileIsNotFound) {
  for (const char* const meta : {"/rank-00000.meta", "/rank-00001.meta"}) {
    RemoveWhenOpened(meta, job_ + "/step-00001100.i0007");
    const RunResult verify = Run({"verify", kTestJob, "1100", "--root", root_});
    EXPECT_EQ(verify.exit, 6) << meta << ": " << verify.err << verify.out;
    WriteSnapshot(root_, 7, 1100);
  }
}

TEST_F(VerifyTest, AFileThatVanishesUnderItsManifestIsBlamed) {
  RemoveWhenOpened("step-00001100.i0007/rank-00000.meta",
                   job_ + "/step-00001100.i0007/rank-00000.meta");
  const RunResult lost = Run({"verify", "--root", root_});
  EXPECT_EQ(lost.exit, 3);
  EXPECT_THAT(lost.out, HasSubstr("rank-00000.meta is missing"));
}

TEST_F(VerifyTest, AFileSystemThatVanishesIsNoRetention) {
  RemoveWhenOpened("step-00001100.i0007/rank-00001.meta", job_);
  EXPECT_EQ(Run({"verify", "--root", root_}).exit, 3);
}

TEST_F(VerifyTest, AFolderThatCannotBeLookedIntoDoesNotHideTheOthers) {
  const std::string neighbour = MakeFolder("root/neighbour");
  faults_.FailMatching(
      [](const testing::FileSystemCall& call) {
        return call.operation == "Stat" && call.path.ends_with("/neighbour/job.json");
      },
      EACCES);
  const RunResult ls = Run({"ls", "--root", root_, "--json"});
  EXPECT_EQ(ls.exit, 0) << ls.err;
  EXPECT_EQ(json::parse(ls.out)["snapshots"].size(), 2U);
  EXPECT_EQ(json::parse(ls.out)["problems"][0]["what"], neighbour);
  const RunResult status = Run({"status", "--root", root_});
  EXPECT_EQ(status.exit, 0) << status.err;
  EXPECT_THAT(status.out, HasSubstr("job my-job"));
  EXPECT_THAT(status.out, HasSubstr("/neighbour"));
  const RunResult verify = Run({"verify", "--root", root_, "--json"});
  EXPECT_EQ(verify.exit, 5) << "not all of the root was looked at";
  EXPECT_EQ(json::parse(verify.out)["shards"].size(), 4U);
  EXPECT_EQ(Run({"verify", kTestJob, "--root", root_}).exit, 0);
}

TEST_F(VerifyTest, ARootThatDoesNotExistIsNotVerifiedBesideAnother) {
  const std::string none = base_ + "/unmounted";
  for (const char* const command : {"verify", "ls"}) {
    for (const bool first : {true, false}) {
      const RunResult run =
          Run({command, "--root", first ? none : root_, "--root", first ? root_ : none});
      EXPECT_EQ(run.exit, 6) << command << run.out;
      EXPECT_THAT(run.err, HasSubstr(none + ": there is no such folder"));
    }
  }
}

TEST_F(VerifyTest, AJobThatIsNotOnEveryRootThatWasNamedIsSaid) {
  const std::string other = MakeFolder("other");
  const RunResult verify = Run({"verify", kTestJob, "--root", root_, "--root", other, "--json"});
  EXPECT_EQ(verify.exit, 6) << verify.err;
  const json report = json::parse(verify.out);
  EXPECT_EQ(report["ok"], false);
  EXPECT_EQ(report["shards"].size(), 4U);
  EXPECT_EQ(report["problems"][0]["what"], other);
  EXPECT_EQ(report["problems"][0]["code"], "not_found");
  const RunResult ls = Run({"ls", kTestJob, "--root", other, "--root", root_, "--json"});
  EXPECT_EQ(ls.exit, 0) << ls.err;
  EXPECT_EQ(json::parse(ls.out)["snapshots"].size(), 2U);
  EXPECT_EQ(json::parse(ls.out)["problems"][0]["what"], other);
}

}  // namespace
}  // namespace holdfast::cli
