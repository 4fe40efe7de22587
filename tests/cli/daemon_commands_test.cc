// Commands through the daemon's socket, with a daemon of fixed answers.
#include <filesystem>
#include <optional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "common/units.h"
#include "tests/cli/cli_fixture.h"
#include "tests/support/whole_file.h"

namespace holdfast::cli {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

storage_tiers::Descriptor MemoryFile(const std::string& contents) {
  storage_tiers::Descriptor file(::memfd_create("slot", MFD_CLOEXEC));
  EXPECT_EQ(::pwrite(file.get(), contents.data(), contents.size(), 0),
            static_cast<ssize_t>(contents.size()));
  // A slot is larger than its image.
  EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(contents.size() + 8192)), 0);
  return file;
}

// A node that holds rank 0 of 2 of step 1200 of incarnation 7 in memory.
class DaemonCommandsTest : public CliTest {
 protected:
  DaemonCommandsTest() : shard_(MakeShard(7, 1200, 0, 2)), root_(MakeFolder("root")) {
    daemon_ = [this](const proto::ClientMessage& request) { return Serve(request); };
  }

  Result<AdminReply> Serve(const proto::ClientMessage& request) {
    AdminReply reply;
    if (request.has_list()) {
      *reply.message.mutable_list()->add_snapshots() = Listed();
    } else if (request.has_open_shard()) {
      *reply.message.mutable_open_shard()->mutable_sidecar() = shard_.sidecar;
      reply.descriptor = MemoryFile(shard_.image);
    } else if (request.has_verify_shard()) {
      if (verify_error_) {
        return *verify_error_;
      }
      reply.message.mutable_verify_shard()->set_bytes(shard_.image.size());
      for (const std::uint64_t chunk : bad_chunks_) {
        reply.message.mutable_verify_shard()->add_bad_chunks(chunk);
      }
    } else if (request.has_drop()) {
      if (!request.drop().force()) {
        return Error(Errc::kUnavailable, "job my-job is live: stop it, or --force");
      }
      reply.message.mutable_drop()->set_freed_bytes(12345);
    } else if (request.has_remove()) {
      reply.message.mutable_remove();
    } else {
      proto::JobStatus* job = reply.message.mutable_status()->add_jobs();
      job->set_name(kTestJob);
      job->set_job_uid(TestJobUid());
      job->set_live(live_);
      job->add_tiers()->set_root(root_);
    }
    return reply;
  }

  [[nodiscard]] proto::SnapshotInfo Listed() const {
    proto::SnapshotInfo snapshot;
    *snapshot.mutable_id() = shard_.sidecar.id();
    snapshot.set_job_name(kTestJob);
    snapshot.set_world_size(2);
    snapshot.set_state("complete");
    if (durable_) {
      snapshot.add_durable_on(root_);
    }
    proto::ShardInfo* shard = snapshot.add_shards();
    shard->set_rank(0);
    shard->set_state(state_);
    shard->set_image_bytes(shard_.image.size());
    return snapshot;
  }

  TestShard shard_;
  const std::string root_;
  std::string state_ = "sealed";
  bool durable_ = false;
  bool live_ = false;
  std::vector<std::uint64_t> bad_chunks_;
  std::optional<Error> verify_error_;
};

TEST_F(DaemonCommandsTest, VerifyLetsTheDaemonPoisonAndNamesTheTensor) {
  EXPECT_EQ(Run({"verify"}).exit, 0);
  bad_chunks_ = {3};
  const RunResult verify = Run({"verify"});
  EXPECT_EQ(verify.exit, 3);
  EXPECT_THAT(verify.out, HasSubstr("memory: chunk 3 (tensors: optim.m)"));
}

// A shard of 600 MiB, of which a daemon reads a range in a quarter of a second.
class LargeShardTest : public DaemonCommandsTest {
 protected:
  LargeShardTest() {
    daemon_ = [this](const proto::ClientMessage& request) -> Result<AdminReply> {
      if (request.has_verify_shard()) {
        return VerifyRange(request.verify_shard());
      }
      HF_TRY(AdminReply reply, Serve(request));
      if (request.has_list()) {
        reply.message.mutable_list()->mutable_snapshots(0)->mutable_shards(0)->set_image_bytes(
            kChunks * kMiB);
      }
      return reply;
    };
  }

  Result<AdminReply> VerifyRange(const proto::VerifyShardRequest& range) {
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    SetInterrupted(interrupt_);
    firsts_.push_back(range.first_chunk());
    const std::uint64_t chunks = std::min(range.chunks(), kChunks - range.first_chunk());
    AdminReply reply;
    reply.message.mutable_verify_shard()->set_bytes(stuck_ ? 0 : chunks * kMiB);
    if (range.first_chunk() > 0 && !stuck_) {
      reply.message.mutable_verify_shard()->add_bad_chunks(range.first_chunk());
    }
    return reply;
  }

  static constexpr std::uint64_t kChunks = 600;
  bool interrupt_ = false;
  bool stuck_ = false;
  std::vector<std::uint64_t> firsts_;
};

TEST_F(LargeShardTest, ProgressMovesWithinAShardOfTheDaemon) {
  err_is_terminal_ = true;
  const RunResult verify = Run({"verify", "--json"});
  EXPECT_EQ(verify.exit, 3);
  EXPECT_THAT(firsts_, ElementsAre(0, 256, 512));
  EXPECT_THAT(verify.err, HasSubstr("256 MiB of 600 MiB  42 %"));
  EXPECT_THAT(verify.err, HasSubstr("512 MiB of 600 MiB  85 %"));
  EXPECT_THAT(verify.err, HasSubstr("s left"));
  const json verdict = json::parse(verify.out)["shards"][0];
  EXPECT_EQ(verdict["bytes"], kChunks * kMiB);
  EXPECT_EQ(verdict["bad"][0]["chunks"], json({256, 512}));
}

TEST_F(LargeShardTest, InAPipeThatIsSilent) {
  EXPECT_EQ(Run({"verify"}).err, "");
}

TEST_F(LargeShardTest, CtrlCEndsAVerificationWithinAShard) {
  interrupt_ = true;
  EXPECT_EQ(Run({"verify"}).exit, 130);
  EXPECT_THAT(firsts_, ElementsAre(0));
}

TEST_F(LargeShardTest, ADaemonThatReadsNothingIsNotAskedForEver) {
  stuck_ = true;
  const RunResult verify = Run({"verify"});
  EXPECT_NE(verify.exit, 0);
  EXPECT_THAT(verify.out, HasSubstr("read 0 of"));
  EXPECT_THAT(firsts_, SizeIs(1));
}

TEST_F(DaemonCommandsTest, VerifyDoesNotBlameAShardThatWasRetiredMeanwhile) {
  verify_error_ = Error(Errc::kNotFound, "no such shard");
  EXPECT_EQ(Run({"verify"}).exit, 0);
  state_ = "poisoned";
  EXPECT_EQ(Run({"verify"}).exit, 3);
}

TEST_F(DaemonCommandsTest, VerifyDoesNotBlameARootFromWhichTheSnapshotWasRetiredMeanwhile) {
  durable_ = true;
  EXPECT_EQ(Run({"verify", kTestJob, "1200"}).exit, 3) << "the job itself is not there";
  WriteSnapshot(root_, 7, 1300);
  const RunResult verify = Run({"verify", kTestJob, "1200", "--json"});
  EXPECT_EQ(verify.exit, 0) << verify.out;
  EXPECT_THAT(verify.err, HasSubstr("has no my-job 1200@7 any more"));
  EXPECT_THAT(json::parse(verify.out)["shards"], SizeIs(1));
}

TEST_F(DaemonCommandsTest, AShardThatWasNamedAndIsGoneEverywhereIsNotFound) {
  verify_error_ = Error(Errc::kNotFound, "no such shard");
  EXPECT_EQ(Run({"verify", kTestJob, "1200"}).exit, 6);
  WriteSnapshot(root_, 7, 1200);
  durable_ = true;
  EXPECT_EQ(Run({"verify", kTestJob, "1200"}).exit, 0) << "the root has it";
}

TEST_F(DaemonCommandsTest, VerifyOfWhatWasNamedAndIsNotThereIsNotFound) {
  const RunResult rank = Run({"verify", kTestJob, "--rank", "99"});
  EXPECT_EQ(rank.exit, 6);
  EXPECT_THAT(rank.err, HasSubstr("no shard of rank 99 of my-job here: nothing was verified"));
  EXPECT_EQ(Run({"verify", "--rank", "99"}).exit, 6);
  state_ = "filling";
  EXPECT_EQ(Run({"verify", kTestJob, "--memory"}).exit, 6);
  EXPECT_EQ(Run({"verify", "--memory"}).exit, 0) << "nothing was named";
}

TEST_F(DaemonCommandsTest, VerifyEndsWhenTheDaemonGoes) {
  verify_error_ = Error(Errc::kUnavailable, "connection lost");
  EXPECT_EQ(Run({"verify"}).exit, 1);
}

TEST_F(DaemonCommandsTest, VerifyAlsoReadsTheRootsThatTheDaemonNames) {
  WriteSnapshot(root_, 7, 1200);
  durable_ = true;
  const json both = json::parse(Run({"verify", kTestJob, "1200", "--json"}).out);
  EXPECT_THAT(both["shards"], SizeIs(3));  // rank 0 in memory, both on the root
  const json memory = json::parse(Run({"verify", "--memory", "--json"}).out);
  EXPECT_THAT(memory["shards"], SizeIs(1));
}

TEST_F(DaemonCommandsTest, ShowReadsTheSidecarFromMemory) {
  const RunResult shown = Run({"show", kTestJob, "newest", "--json"});
  ASSERT_EQ(shown.exit, 0) << shown.err;
  EXPECT_EQ(json::parse(shown.out)["shard"]["place"], "memory");
}

TEST_F(DaemonCommandsTest, ASidecarOfAnotherShardIsRefused) {
  shard_.sidecar.set_rank(1);
  state_ = "sealed";
  EXPECT_EQ(Run({"show", kTestJob, "newest"}).exit, 1);
}

TEST_F(DaemonCommandsTest, AListingThatNamesAPathIsRefused) {
  daemon_ = [this](const proto::ClientMessage&) -> Result<AdminReply> {
    AdminReply reply;
    *reply.message.mutable_list()->add_snapshots() = Listed();
    reply.message.mutable_list()->mutable_snapshots(0)->set_job_name("../../etc");
    return reply;
  };
  EXPECT_NE(Run({"ls"}).exit, 0);
}

TEST_F(DaemonCommandsTest, ExportTakesMissingRanksFromTheRoot) {
  WriteSnapshot(root_, 7, 1200);
  const std::string to = base_ + "/out";
  EXPECT_EQ(Run({"export", kTestJob, "1200", "--to", to}).exit, 6) << "rank 1 is nowhere";
  EXPECT_FALSE(std::filesystem::exists(to));
  durable_ = true;
  const RunResult exported = Run({"export", kTestJob, "1200", "--to", to});
  ASSERT_EQ(exported.exit, 0) << exported.err;
  EXPECT_THAT(Names(to), SizeIs(4));
  EXPECT_TRUE(WholeFile(to + "/rank-00000.safetensors") == shard_.image);
}

TEST_F(DaemonCommandsTest, ExportTakesTheRootsCopyWhereMemoryIsBad) {  // I5
  WriteSnapshot(root_, 7, 1200);
  durable_ = true;
  const std::string good = shard_.image;
  shard_.image.back() = static_cast<char>(shard_.image.back() ^ 1);
  const std::string to = base_ + "/out";
  const RunResult exported = Run({"export", kTestJob, "1200", "--to", to});
  ASSERT_EQ(exported.exit, 0) << exported.err;
  EXPECT_THAT(exported.err, HasSubstr("optim.m"));
  EXPECT_TRUE(WholeFile(to + "/rank-00000.safetensors") == good);
}

TEST_F(DaemonCommandsTest, ExportOfPartOfAWorldHasToBeAskedFor) {
  const std::string to = base_ + "/out";
  const RunResult exported = Run({"export", kTestJob, "1200", "--to", to, "--partial"});
  EXPECT_EQ(exported.exit, 0) << exported.err;
  EXPECT_THAT(exported.out, HasSubstr("not here: rank 1"));
}

TEST_F(DaemonCommandsTest, DropOfALiveJobIsRefusedUnlessForced) {
  EXPECT_EQ(Run({"drop", kTestJob}).exit, 5);
  const RunResult dropped = Run({"drop", kTestJob, "--force", "--json"});
  EXPECT_EQ(dropped.exit, 0);
  EXPECT_EQ(json::parse(dropped.out)["freed_bytes"], 12345);
}

TEST_F(DaemonCommandsTest, RmNamesForceWhereItWouldHelp) {
  WriteSnapshot(root_, 7, 1200);
  daemon_ = [this](const proto::ClientMessage& request) -> Result<AdminReply> {
    if (request.has_remove()) {
      return Error(Errc::kUnavailable, "(7,1200) is the newest snapshot on " + root_);
    }
    return Serve(request);
  };
  const std::vector<std::string> rm = {"rm", kTestJob, "1200", "--root", root_, "--yes"};
  const RunResult at_rest = Run(rm);
  EXPECT_EQ(at_rest.exit, 5);
  EXPECT_THAT(at_rest.err, HasSubstr("--force"));
  live_ = true;
  const RunResult live = Run(rm);
  EXPECT_EQ(live.exit, 5);
  EXPECT_THAT(live.err, Not(HasSubstr("--force")));
}

TEST_F(DaemonCommandsTest, RmOfWhatTheDaemonFlushesGoesThroughTheDaemon) {
  WriteSnapshot(root_, 7, 1200);
  EXPECT_EQ(Run({"rm", kTestJob, "1200", "--root", root_ + "/", "--yes"}).exit, 0);
  EXPECT_EQ(requests_.back().remove().root(), root_);
  EXPECT_EQ(requests_.back().remove().id().step(), 1200);
  live_ = true;
  EXPECT_EQ(Run({"rm", kTestJob, "1200", "--root", root_, "--yes", "--force"}).exit, 5);
  EXPECT_EQ(Run({"rm", kTestJob, "1200", "--memory", "--yes"}).exit, 0);
  EXPECT_EQ(requests_.back().remove().root(), "");
}

TEST_F(DaemonCommandsTest, RmWithForceIsRefusedForALiveJobWhateverTheRootIsCalled) {
  WriteSnapshot(root_, 7, 1200);
  live_ = true;
  std::filesystem::create_directory_symlink(base_, base_ + "/link");
  const std::string alias = base_ + "/link/root";
  EXPECT_EQ(Run({"rm", kTestJob, "1200", "--root", alias, "--yes", "--force"}).exit, 5);
  EXPECT_TRUE(std::filesystem::exists(root_ + "/my-job/step-00001200.i0007"));
  const std::string other = MakeFolder("other");
  WriteSnapshot(other, 7, 1200);
  EXPECT_EQ(Run({"rm", kTestJob, "1200", "--root", other, "--yes", "--force"}).exit, 5);
  EXPECT_TRUE(std::filesystem::exists(other + "/my-job/step-00001200.i0007"));
  // The daemon is told the name that it knows.
  EXPECT_EQ(Run({"rm", kTestJob, "1200", "--root", alias, "--yes"}).exit, 0);
  EXPECT_EQ(requests_.back().remove().root(), root_);
}

TEST_F(DaemonCommandsTest, RmOfAFolderNeedsADaemonThatAnswersOrNone) {
  WriteSnapshot(root_, 7, 1200);
  const std::vector<std::string> rm = {"rm", kTestJob, "1200", "--root", root_, "--yes", "--force"};
  const auto there = [&] { return std::filesystem::exists(root_ + "/my-job/step-00001200.i0007"); };
  const std::vector<std::pair<Errc, int>> cases = {
      {Errc::kTimeout, 4}, {Errc::kVersionMismatch, 1}, {Errc::kPermission, 5}};
  for (const auto& [code, exit] : cases) {
    connect_error_ = Error(code, "not to be asked");
    EXPECT_EQ(Run(rm).exit, exit) << ErrcName(code);
    EXPECT_TRUE(there()) << ErrcName(code);
  }
  connect_error_ = Error(Errc::kUnavailable, "no daemon answers");
  holdfast_socket_ = base_ + "/named.sock";
  EXPECT_EQ(Run(rm).exit, 4) << "one that was named";
  EXPECT_TRUE(there());
  holdfast_socket_.clear();
  EXPECT_EQ(Run(rm).exit, 0) << "nobody is there";
  EXPECT_FALSE(there());
}

}  // namespace
}  // namespace holdfast::cli
