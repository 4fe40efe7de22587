// Commands on folders of a persistent tier, without a daemon.
#include <cerrno>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "cli/interrupt.h"
#include "common/units.h"
#include "layout/image.h"
#include "tests/cli/cli_fixture.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/whole_file.h"

namespace holdfast::cli {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class OfflineTest : public CliTest {
 protected:
  OfflineTest() : root_(MakeFolder("root")) {}

  [[nodiscard]] std::string Snapshot(const std::string& name = "step-00001200.i0007") const {
    return root_ + "/" + kTestJob + "/" + name;
  }

  const std::string root_;
};

TEST_F(OfflineTest, LsShowsNewestFirstAcrossIncarnations) {
  WriteSnapshot(root_, 6, 1300);
  WriteSnapshot(root_, 7, 1200);
  const RunResult ls = Run({"ls", "--root", root_, "--json"});
  ASSERT_EQ(ls.exit, 0) << ls.err;
  const json snapshots = json::parse(ls.out)["snapshots"];
  ASSERT_EQ(snapshots.size(), 2U);
  EXPECT_EQ(snapshots[0]["step"], 1200);
  EXPECT_EQ(snapshots[0]["incarnation"], 7);
  EXPECT_EQ(snapshots[0]["state"], "durable");
  EXPECT_EQ(snapshots[0]["world_size"], 2);
  EXPECT_EQ(snapshots[0]["durable_on"][0], root_);
  EXPECT_EQ(snapshots[0]["shards"][1]["rank"], 1);
  EXPECT_EQ(snapshots[1]["step"], 1300);
  EXPECT_EQ(Run({"ls", "--root", root_, "--job", kTestJob}).exit, 0);
  EXPECT_EQ(Run({"ls", kTestJob, "--root", root_}).exit, 0);
}

TEST_F(OfflineTest, StatusOfAFolderSaysWhatCanBeRestored) {
  WriteSnapshot(root_, 6, 1300);
  WriteSnapshot(root_, 7, 1200);
  const RunResult status = Run({"status", "--root", root_});
  ASSERT_EQ(status.exit, 0) << status.err;
  EXPECT_THAT(status.out, HasSubstr("folder   " + root_ + ", read without a daemon"));
  EXPECT_THAT(status.out, HasSubstr("job my-job: incarnation 7, 2 ranks\n"));
  EXPECT_THAT(status.out, HasSubstr("here: 2 snapshots, 4 shards that can be read"));
  EXPECT_THAT(status.out, HasSubstr("restorable: 1200@7 from " + root_));
  const json document = json::parse(Run({"status", "--root", root_, "--json"}).out);
  EXPECT_EQ(document["daemon"], nullptr);
  EXPECT_EQ(document["arena"], nullptr);
  EXPECT_EQ(document["jobs"][0]["restorable"]["incarnation"], 7);
  EXPECT_EQ(document["jobs"][0]["place"], root_);
  EXPECT_EQ(Run({"status", "--root", base_ + "/nothing"}).exit, 6);
}

TEST_F(OfflineTest, WhatIsNotThereIsExitSix) {
  WriteSnapshot(root_, 7, 1200);
  EXPECT_EQ(Run({"ls", "--root", base_ + "/nothing"}).exit, 6);
  EXPECT_EQ(Run({"ls", "other", "--root", root_}).exit, 6);
  EXPECT_EQ(Run({"show", kTestJob, "7", "--root", root_}).exit, 6);
  EXPECT_EQ(Run({"show", kTestJob, "1200", "--rank", "2", "--root", root_}).exit, 6);
  const RunResult as_json = Run({"show", kTestJob, "7", "--root", root_, "--json"});
  EXPECT_EQ(json::parse(as_json.out)["error"]["code"], "not_found");
  EXPECT_THAT(as_json.err, HasSubstr("it has 1200@7"));
}

TEST_F(OfflineTest, AGarbageFolderIsReportedNeverBelieved) {
  WriteSnapshot(root_, 7, 1200);
  const std::string job = root_ + "/" + kTestJob;
  std::filesystem::create_directories(job + "/step-00001300.i0007");
  WriteFile(job + "/step-00001300.i0007/manifest.json", "{\"files\": [{\"path\": \"../../x\"}]}");
  std::filesystem::create_directories(job + "/step-00001400.i0007");
  WriteFile(job + "/step-00001400.i0007/rank-00000.safetensors", "half");
  WriteFile(job + "/notes.txt", "mine");
  std::filesystem::create_directories(root_ + "/lost+found");
  const RunResult ls = Run({"ls", "--root", root_, "--json"});
  ASSERT_EQ(ls.exit, 0) << ls.err;
  const json document = json::parse(ls.out);
  ASSERT_EQ(document["snapshots"].size(), 3U);
  EXPECT_EQ(document["snapshots"][0]["state"], "unfinished");
  EXPECT_EQ(document["snapshots"][1]["state"], "damaged");
  EXPECT_EQ(document["snapshots"][2]["state"], "durable");
  EXPECT_EQ(document["problems"].size(), 2U);
  EXPECT_EQ(Run({"verify", "--root", root_}).exit, 3);
  // Asked for the good one, nothing is wrong with it.
  EXPECT_EQ(Run({"verify", kTestJob, "1200", "--root", root_}).exit, 0);
  EXPECT_EQ(Run({"verify", kTestJob, "1400", "--root", root_}).exit, 6);
}

TEST_F(OfflineTest, ShowNamesTensorsAndState) {
  WriteSnapshot(root_, 7, 1200);
  const RunResult text = Run({"show", kTestJob, "1200", "--tensors", "--root", root_});
  ASSERT_EQ(text.exit, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("model.w"));
  EXPECT_THAT(text.out, HasSubstr("rng: pickle, 4 B"));
  const RunResult shown = Run({"show",
                               kTestJob,
                               "newest",
                               "--rank",
                               "1",
                               "--tensors",
                               "--state",
                               "--json",
                               "--root",
                               root_});
  const json shard = json::parse(shown.out)["shard"];
  EXPECT_EQ(shard["rank"], 1);
  EXPECT_EQ(shard["tensors"].size(), 3U);
  EXPECT_EQ(shard["tensors"][2]["alias_of"], "model.w");
  EXPECT_EQ(shard["state"][0]["value"]["epoch"], 3);
  EXPECT_EQ(shard["state"][1]["format"], "pickle");
  EXPECT_FALSE(shard["state"][1].contains("value"));  // a pickle is never opened
}

TEST_F(OfflineTest, AFlippedByteIsExitThreeAndNamesTheTensor) {  // I5
  WriteSnapshot(root_, 7, 1200);
  ASSERT_EQ(Run({"verify", "--root", root_}).exit, 0);
  const std::string image = Snapshot() + "/rank-00001.safetensors";
  std::filesystem::permissions(image, std::filesystem::perms::owner_all);
  FlipByte(image, std::filesystem::file_size(image) - 1);
  const RunResult verify = Run({"verify", "--root", root_});
  EXPECT_EQ(verify.exit, 3);
  EXPECT_THAT(verify.out, HasSubstr("rank 1"));
  EXPECT_THAT(verify.out, HasSubstr("optim.m"));
  EXPECT_THAT(verify.out, Not(HasSubstr("model.w")));
  const json document = json::parse(Run({"verify", "--root", root_, "--json"}).out);
  EXPECT_EQ(document["ok"], false);
  EXPECT_EQ(document["shards"][0]["ok"], true);
  EXPECT_EQ(document["shards"][1]["bad"][0]["chunks"], json::array({3}));
  EXPECT_EQ(document["shards"][1]["tensors"], json::array({"optim.m"}));
  EXPECT_EQ(Run({"verify", kTestJob, "1200", "--rank", "0", "--root", root_}).exit, 0);
}

TEST_F(OfflineTest, FilesThatAreGoneOrCutOrSwappedAreExitThree) {
  WriteSnapshot(root_, 7, 1200);
  const std::string image = Snapshot() + "/rank-00000.safetensors";
  const std::string meta = Snapshot() + "/rank-00000.meta";
  const std::string good_image = WholeFile(image);
  const std::string good_meta = WholeFile(meta);
  const auto verify = [&] { return Run({"verify", "--root", root_}); };

  std::filesystem::resize_file(image, good_image.size() - 1);
  EXPECT_EQ(verify().exit, 3);
  std::filesystem::remove(image);
  EXPECT_EQ(verify().exit, 3);
  std::filesystem::create_symlink("/etc/passwd", image);
  EXPECT_EQ(verify().exit, 3) << "a link is refused, not followed";
  std::filesystem::remove(image);
  WriteFile(image, good_image);
  ASSERT_EQ(verify().exit, 0);

  FlipByte(meta, good_meta.size() / 2);
  EXPECT_EQ(verify().exit, 3);
  // A sidecar of another rank is whole in itself, but not what the manifest vouches for.
  std::filesystem::copy_file(
      Snapshot() + "/rank-00001.meta", meta, std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(verify().exit, 3);
  std::filesystem::remove(meta);
  EXPECT_EQ(verify().exit, 3);
}

TEST_F(OfflineTest, AnExportIsPlainSafetensorsAndReadable) {
  WriteSnapshot(root_, 7, 1200);
  const std::string to = base_ + "/out";
  const RunResult exported =
      Run({"export", kTestJob, "1200@7", "--to", to, "--root", root_, "--json"});
  ASSERT_EQ(exported.exit, 0) << exported.err;
  EXPECT_EQ(json::parse(exported.out)["files"].size(), 4U);
  EXPECT_THAT(Names(to),
              ElementsAre("rank-00000.safetensors",
                          "rank-00000.state.json",
                          "rank-00001.safetensors",
                          "rank-00001.state.json"));
  const TestShard shard = MakeShard(7, 1200, 1, 2);
  const std::string image = WholeFile(to + "/rank-00001.safetensors");
  EXPECT_TRUE(image == shard.image);
  const auto tensors = layout::ReadImageHeader(AsBytes(image), image.size());
  ASSERT_TRUE(tensors);
  EXPECT_EQ(tensors.value()[0].name, "model.w");
  const std::string state = WholeFile(to + "/rank-00001.state.json");
  EXPECT_THAT(state, HasSubstr("0.1000000000000000055")) << "values as the trainer wrote them";
  const json document = json::parse(state);
  EXPECT_EQ(document["state"]["scheduler"]["epoch"], 3);
  EXPECT_EQ(document["pickle_hex"]["rng"], "80044e2e");
  EXPECT_EQ(document["tensors"]["aliases"]["tied"], "model.w");
  EXPECT_EQ(document["id"]["incarnation"], 7);
}

TEST_F(OfflineTest, ExportNeverOverwrites) {
  WriteSnapshot(root_, 7, 1200);
  const std::string to = MakeFolder("out");
  WriteFile(to + "/rank-00001.state.json", "mine");
  const RunResult exported = Run({"export", kTestJob, "1200", "--to", to, "--root", root_});
  EXPECT_EQ(exported.exit, 5);
  EXPECT_THAT(exported.err, HasSubstr("exists"));
  EXPECT_THAT(Names(to), ElementsAre("rank-00001.state.json")) << "looked at before the first copy";
  EXPECT_EQ(WholeFile(to + "/rank-00001.state.json"), "mine");
}

TEST_F(OfflineTest, ExportOfBadDataLeavesNoFile) {  // I5
  WriteSnapshot(root_, 7, 1200);
  const std::string image = Snapshot() + "/rank-00000.safetensors";
  std::filesystem::permissions(image, std::filesystem::perms::owner_all);
  FlipByte(image, 2 * kMiB);
  const std::string to = base_ + "/out";
  const RunResult exported = Run({"export", kTestJob, "1200", "--to", to, "--root", root_});
  EXPECT_EQ(exported.exit, 3);
  EXPECT_THAT(exported.err, HasSubstr("optim.m"));
  EXPECT_THAT(Names(to), IsEmpty());
}

TEST_F(OfflineTest, AnInterruptedExportLeavesNoFile) {  // I12
  WriteSnapshot(root_, 7, 1200);
  const std::string to = base_ + "/out";
  SetInterrupted(true);
  EXPECT_EQ(Run({"export", kTestJob, "1200", "--to", to, "--root", root_}).exit, 130);
  SetInterrupted(false);
  EXPECT_THAT(Names(to), IsEmpty());
}

TEST_F(OfflineTest, AnExportThatFailsAtAnyCallLeavesNoHalfFile) {  // I12
  WriteSnapshot(root_, 7, 1200);
  const TestShard shard = MakeShard(7, 1200, 0, 2);
  holdfast::testing::FaultFileSystem faulty(posix_);
  fs_ = &faulty;
  const std::string to = base_ + "/out";
  int exit = -1;
  std::uint64_t call = 0;
  while (exit != 0 && call < 200) {
    std::filesystem::remove_all(to);
    faulty.Clear();
    faulty.FailCall(++call, ENOSPC);
    exit = Run({"export", kTestJob, "1200", "--rank", "0", "--to", to, "--root", root_}).exit;
    const bool there = std::filesystem::exists(to);
    for (const std::string& name : there ? Names(to) : std::vector<std::string>()) {
      if (name == "rank-00000.safetensors") {
        EXPECT_TRUE(WholeFile(std::filesystem::path(to) / name) == shard.image) << "call " << call;
      } else {
        EXPECT_THAT(name, ::testing::AnyOf(StartsWith(".tmp-"), "rank-00000.state.json"));
      }
    }
    // A failure that was no failure of the export (its own clean-up) may still end in success.
    if (exit == 0 && faulty.calls() >= call) {
      exit = -1;
    }
  }
  EXPECT_EQ(exit, 0);
  EXPECT_GT(call, 15U) << "the faults were not injected";
}

TEST_F(OfflineTest, RestoreMakesASnapshotDurableOnAnotherRootWithItsHistory) {
  WriteSnapshot(root_, 6, 1000);
  WriteSnapshot(root_, 7, 1200);
  const std::string target = MakeFolder("target");
  const RunResult restored =
      Run({"restore", kTestJob, "1000@6", "--from-root", root_, "--to-root", target, "--json"});
  ASSERT_EQ(restored.exit, 0) << restored.err;
  EXPECT_EQ(json::parse(restored.out)["incarnations_copied"], json::array({6, 7}));
  EXPECT_EQ(Run({"verify", "--root", target}).exit, 0);
  storage_tiers::PersistentTier tier(posix_, target, storage_tiers::TierScope::kShared);
  // Else the next start would be incarnation 1, older than the snapshot for ever.
  EXPECT_EQ(tier.HighestIncarnation(kTestJob).value(), 7U);
  const RunResult again =
      Run({"restore", kTestJob, "1000", "--from-root", root_, "--to-root", target});
  EXPECT_EQ(again.exit, 5);
  EXPECT_THAT(again.err, HasSubstr("already"));
}

TEST_F(OfflineTest, RestoreRefusesAnotherJobOfTheNameAndBadData) {
  WriteSnapshot(root_, 7, 1200);
  const std::string target = MakeFolder("target");
  storage_tiers::PersistentTier tier(posix_, target, storage_tiers::TierScope::kShared);
  ASSERT_TRUE(tier.EnsureJob(kTestJob, std::string(16, '\x77')));
  const std::vector<std::string> command = {
      "restore", kTestJob, "1200", "--from-root", root_, "--to-root", target};
  EXPECT_EQ(Run(command).exit, 5);
  std::filesystem::remove_all(target + "/" + kTestJob);
  const std::string image = Snapshot() + "/rank-00001.safetensors";
  std::filesystem::permissions(image, std::filesystem::perms::owner_all);
  FlipByte(image, 2 * kMiB);
  EXPECT_EQ(Run(command).exit, 3);
  const json listed = json::parse(Run({"ls", "--root", target, "--json"}).out);
  EXPECT_EQ(listed["snapshots"][0]["state"], "unfinished") << "I6: no manifest over bad bytes";
}

TEST_F(OfflineTest, ARestoreThatWasCutShortGoesOn) {
  WriteSnapshot(root_, 7, 1200);
  const std::string target = MakeFolder("target");
  const std::vector<std::string> command = {
      "restore", kTestJob, "1200", "--from-root", root_, "--to-root", target};
  SetInterrupted(true);
  EXPECT_EQ(Run(command).exit, 130);
  SetInterrupted(false);
  EXPECT_EQ(Run(command).exit, 0);
  EXPECT_EQ(Run({"verify", "--root", target}).exit, 0);
}

TEST_F(OfflineTest, RmAsksAndKeepsTheLastDurableOne) {
  WriteSnapshot(root_, 7, 1100);
  WriteSnapshot(root_, 7, 1200);
  const auto rm = [&](std::vector<std::string> more) {
    std::vector<std::string> command = {"rm", kTestJob};
    command.insert(command.end(), more.begin(), more.end());
    command.insert(command.end(), {"--root", root_});
    return Run(command);
  };
  EXPECT_EQ(rm({"1100"}).exit, 2) << "nobody to ask";
  in_is_terminal_ = true;
  input_ = "no\n";
  EXPECT_EQ(rm({"1100"}).exit, 5);
  EXPECT_TRUE(std::filesystem::exists(Snapshot("step-00001100.i0007")));
  input_ = "yes\n";
  EXPECT_EQ(rm({"1100"}).exit, 0);
  EXPECT_FALSE(std::filesystem::exists(Snapshot("step-00001100.i0007")));
  const RunResult kept = rm({"1200", "--yes"});
  EXPECT_EQ(kept.exit, 5);
  EXPECT_THAT(kept.err, HasSubstr("newest durable snapshot"));
  EXPECT_THAT(kept.err, HasSubstr("--force"));
  EXPECT_TRUE(std::filesystem::exists(Snapshot()));
  EXPECT_EQ(rm({"1200", "--yes", "--force"}).exit, 0);
  EXPECT_FALSE(std::filesystem::exists(Snapshot()));
  EXPECT_THAT(Names(root_ + "/" + kTestJob), ElementsAre("LATEST", "incarnations", "job.json"));
}

TEST_F(OfflineTest, UsageErrorsAreExitTwo) {
  EXPECT_EQ(Run({}).exit, 2);
  EXPECT_EQ(Run({"frobnicate"}).exit, 2);
  EXPECT_EQ(Run({"show", kTestJob}).exit, 2);
  EXPECT_EQ(Run({"show", kTestJob, "12x", "--root", root_}).exit, 2);
  EXPECT_EQ(Run({"ls", "../etc", "--root", root_}).exit, 2);
  EXPECT_EQ(Run({"ls", "--root", root_, "--state-dir", root_}).exit, 2);
  EXPECT_EQ(Run({"rm", kTestJob, "1", "--yes"}).exit, 2);
  EXPECT_EQ(Run({"--help"}).exit, 0);
  EXPECT_THAT(Run({"--version"}).out, HasSubstr("holdfast "));
  EXPECT_THAT(Run({"--version"}).out, HasSubstr("\ncopy engines: host"));
}

TEST_F(OfflineTest, WithoutADaemonTheExitIsFourAndSaysWhatToDo) {
  const RunResult status = Run({"status", "--socket", "/nonexistent/none.sock", "--json"});
  EXPECT_EQ(status.exit, 4);
  EXPECT_EQ(json::parse(status.out)["error"]["exit_code"], 4);
  EXPECT_THAT(status.err, HasSubstr("none.sock"));
  EXPECT_THAT(status.err, HasSubstr("holdfastd"));
  EXPECT_EQ(Run({"ls"}).exit, 4);
  EXPECT_EQ(Run({"ls", "--socket", "/" + std::string(200, 'x')}).exit, 2);
}

TEST_F(OfflineTest, ConfigCheckReadsAsTheDaemonDoes) {
  const std::string file = base_ + "/holdfastd.toml";
  WriteFile(file, "[arena]\nbudget = \"1GiB\"\n");
  const RunResult good = Run({"config", "check", file, "--json"});
  EXPECT_EQ(good.exit, 0) << good.err;
  WriteFile(file, "[arena]\nbudgte = \"1GiB\"\n");
  const RunResult bad = Run({"config", "check", file});
  EXPECT_EQ(bad.exit, 2);
  EXPECT_THAT(bad.err, HasSubstr("budget"));
}

}  // namespace
}  // namespace holdfast::cli
