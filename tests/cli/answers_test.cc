// Every command's JSON is one document that a parser takes, with and without a daemon; and every
// mistake says what was wrong, where, and what to do, with the exit code that is documented.
#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "storage_tiers/catalog.h"
#include "tests/cli/cli_fixture.h"
#include "tests/support/fault_file_system.h"

namespace holdfast::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// A daemon that knows one job without snapshots, and does whatever it is asked.
Result<AdminReply> Obliging(const proto::ClientMessage& request) {
  AdminReply reply;
  if (request.has_status()) {
    reply.message.mutable_status()->add_jobs()->set_name(kTestJob);
  } else if (request.has_list()) {
    reply.message.mutable_list();
  } else if (request.has_drop()) {
    reply.message.mutable_drop()->set_freed_bytes(1);
  } else {
    return Error(Errc::kNotFound, "not in this node's memory");
  }
  return reply;
}

class AnswersTest : public CliTest {
 protected:
  AnswersTest() : root_(MakeFolder("root")), empty_(MakeFolder("empty")), file_(base_ + "/file") {
    WriteSnapshot(root_, 7, 1200);
    WriteFile(file_, "no folder");
    WriteFile(base_ + "/good.toml", "[arena]\nbudget = \"64MiB\"\n");
    WriteFile(base_ + "/bad.toml", "[arena]\nbugdet = 1\n");
  }

  // Exit, and one JSON document on standard output whatever happens.
  int Json(std::vector<std::string> arguments) {
    arguments.emplace_back("--json");
    const RunResult run = Run(arguments);
    const json parsed = json::parse(run.out, nullptr, false);
    EXPECT_FALSE(parsed.is_discarded()) << ::testing::PrintToString(arguments) << run.out;
    EXPECT_TRUE(parsed.is_object());
    EXPECT_EQ(parsed.contains("error"), run.exit != 0) << run.out;
    if (parsed.contains("error")) {
      EXPECT_EQ(parsed["error"]["exit_code"], run.exit);
      EXPECT_THAT(run.err, HasSubstr("holdfast: "));
    }
    return run.exit;
  }

  // A mistake: its exit, and words that its line must have.
  void Mistake(const std::vector<std::string>& arguments, int exit, const std::string& words) {
    const std::string shown = ::testing::PrintToString(arguments);
    const RunResult run = Run(arguments);
    EXPECT_EQ(run.exit, exit) << shown << run.err;
    EXPECT_EQ(run.out, "") << shown;
    EXPECT_THAT(run.err, HasSubstr(words)) << shown;
    EXPECT_EQ(Json(arguments), exit);
  }

  const std::string root_;
  const std::string empty_;
  const std::string file_;
};

TEST_F(AnswersTest, EveryCommandWithoutADaemonIsOneDocument) {
  const std::vector<std::string> from = {"--root", root_};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), from.begin(), from.end());
    return arguments;
  };
  EXPECT_EQ(Json(with({"status"})), 0);
  EXPECT_EQ(Json(with({"ls"})), 0);
  EXPECT_EQ(Json(with({"ls", kTestJob})), 0);
  EXPECT_EQ(Json(with({"show", kTestJob, "newest", "--tensors", "--state"})), 0);
  EXPECT_EQ(Json(with({"verify"})), 0);
  EXPECT_EQ(Json(with({"export", kTestJob, "newest", "--to", base_ + "/out"})), 0);
  const std::string other = MakeFolder("other");
  EXPECT_EQ(Json({"restore", kTestJob, "1200", "--from-root", root_, "--to-root", other}), 0);
  WriteSnapshot(root_, 7, 1300);
  EXPECT_EQ(Json(with({"rm", kTestJob, "1200", "--yes"})), 0);
  EXPECT_EQ(Json({"config", "check", base_ + "/good.toml"}), 0);
  EXPECT_EQ(Json({"drop", kTestJob}), 4);
  EXPECT_EQ(Json({"status"}), 4);
}

TEST_F(AnswersTest, EveryCommandWithADaemonIsOneDocument) {
  daemon_ = Obliging;
  EXPECT_EQ(Json({"status"}), 0);
  EXPECT_EQ(Json({"ls"}), 0);
  EXPECT_EQ(Json({"ls", kTestJob}), 0) << "known, without snapshots";
  EXPECT_EQ(Json({"verify"}), 0);
  EXPECT_EQ(Json({"drop", kTestJob}), 0);
  EXPECT_EQ(Json({"show", kTestJob, "1200"}), 6);
  EXPECT_EQ(Json({"export", kTestJob, "1200", "--to", base_ + "/out"}), 6);
  EXPECT_EQ(Json({"rm", kTestJob, "1200", "--memory", "--yes"}), 6);
}

TEST_F(AnswersTest, AMisspeltCommandLineIsToldAsADocumentToo) {
  Mistake({"nonsense"}, 2, "there is no command \"nonsense\"; see holdfast --help");
  Mistake({}, 2, "see holdfast --help");
  Mistake({"show", kTestJob}, 2, "SNAPSHOT is required; see holdfast show --help");
  Mistake({"show", kTestJob, "1200", "--rank", "x"}, 2, "--rank");
  Mistake({"ls", "--root", root_, "--state-dir", empty_}, 2, "name one kind");
  Mistake({"restore", kTestJob, "1200", "--to-root", empty_}, 2, "--from-root");
  EXPECT_EQ(Run({"--help"}).exit, 0);
  EXPECT_EQ(Run({"ls", "--help"}).exit, 0);
}

TEST_F(AnswersTest, NamesThatAreNotThereAreAnsweredWithThoseThatAre) {
  Mistake({"ls", "other", "--root", root_}, 6, "no job other in " + root_ + "; there is my-job");
  Mistake({"show", kTestJob, "7", "--root", root_}, 6, "no step 7 here; it has 1200@7");
  Mistake({"verify", kTestJob, "7", "--root", root_}, 6, "no step 7 here");
  Mistake({"show", kTestJob, "x", "--root", root_}, 2, "write a step (1200)");
  Mistake({"ls", "a/b", "--root", root_}, 2, "\"a/b\"");
  Mistake({"export", kTestJob, "1200", "--rank", "5", "--to", base_ + "/o", "--root", root_},
          6,
          "rank 5 of my-job 1200@7 cannot be read here; the world has 2 ranks");
  Mistake({"export", kTestJob, "1200", "--to", base_ + "/no/where", "--root", root_},
          6,
          "there is no folder " + base_ + "/no: make that first");
  Mistake({"export", kTestJob, "1200", "--to", file_, "--root", root_}, 5, "is not a folder");
  daemon_ = Obliging;
  Mistake({"ls", "other"}, 6, "knows no job other; there is my-job");
  Mistake({"verify", "other"}, 6, "knows no job other");
}

TEST_F(AnswersTest, AFolderThatIsNoTierIsNamedAsWhatItIs) {
  const std::string none = base_ + "/nothing";
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
           {"ls"}, {"status"}, {"verify"}, {"ls", kTestJob}, {"show", kTestJob, "1200"}}) {
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), {"--root", none});
    Mistake(arguments, 6, none + ": there is no such folder; is the file system mounted?");
    arguments.back() = file_;
    Mistake(arguments, 6, file_ + " is no folder");
  }
  Mistake({"restore", kTestJob, "1200", "--from-root", none, "--to-root", empty_}, 6, none);
  Mistake({"restore", kTestJob, "1200", "--from-root", root_, "--to-root", none}, 6, none);
  Mistake({"restore", kTestJob, "1200", "--from-root", root_, "--to-root", file_}, 6, file_);
  Mistake({"rm", kTestJob, "1200", "--root", none, "--yes"}, 6, none);
  // One that was never used is no mistake for who looks, but nothing was verified in it.
  EXPECT_THAT(Run({"ls", "--root", empty_}).out, HasSubstr("not the root of a persistent tier"));
  EXPECT_THAT(Run({"status", "--root", empty_}).out, HasSubstr("no folder in it has a job.json"));
  Mistake({"verify", "--root", empty_}, 6, "nothing was verified");
  Mistake({"show", kTestJob, "1200", "--root", empty_}, 6, "no folder in it has a job.json");
}

TEST_F(AnswersTest, AFolderThatIsNoStateIsNamedAsWhatItIs) {
  Mistake({"status", "--state-dir", empty_}, 6, "name the daemon's state_dir");
  Mistake({"status", "--state-dir", file_}, 6, "there is no catalog in");
  const auto catalog = storage_tiers::Catalog::Open(empty_ + "/catalog", {});
  ASSERT_TRUE(catalog) << catalog.error().ToString();
  ASSERT_TRUE(catalog.value()->StartBoot());
  Mistake({"ls", "--state-dir", empty_, "--arena", base_ + "/no"}, 6, "its memory is gone");
  Mistake({"ls", "--state-dir", empty_, "--arena", file_}, 6, file_ + ": there is no such folder");
  Mistake({"ls", "--state-dir", empty_, "--arena", root_}, 6, "is no arena");
}

TEST_F(AnswersTest, AFileThatCannotBeReadIsNamed) {
  testing::FaultFileSystem faults(posix_);
  fs_ = &faults;
  const auto unreadable = [&](const std::string& name) {
    faults.Clear();
    faults.FailMatching(
        [name](const testing::FileSystemCall& call) { return call.path.ends_with(name); }, EACCES);
  };
  unreadable("/job.json");
  Mistake({"ls", kTestJob, "--root", root_}, 5, kTestJob + std::string("/job.json"));
  unreadable("/rank-00001.meta");
  // A report all the same: of what could be read too.
  const RunResult verify = Run({"verify", "--root", root_, "--json"});
  EXPECT_EQ(verify.exit, 5);
  EXPECT_THAT(json::parse(verify.out)["shards"][1]["error"]["message"].get<std::string>(),
              HasSubstr("rank-00001.meta"));
  EXPECT_THAT(Run({"verify", "--root", root_}).out, HasSubstr("rank-00001.meta"));
  faults.Clear();
  Mistake({"config", "check", base_ + "/none.toml"}, 6, base_ + "/none.toml");
  Mistake({"config", "check", base_}, 1, base_);
  Mistake({"config", "check", base_ + "/bad.toml"}, 2, "budget");
}

}  // namespace
}  // namespace holdfast::cli
