// What a start of a job believes of its roots: one that cannot be read, or is not mounted, is never
// taken for one that is empty.

#include "daemon/pipeline/claim.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "tests/common/run_coroutine.h"
#include "tests/daemon/pipeline/pipeline_node.h"

namespace holdfast::daemon {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using tests::RunCoroutine;

const std::string kUid(16, 'u');

class ClaimTest : public PipelineNodeTest {
 protected:
  ClaimTest() : PipelineNodeTest(Options()) {}

  static TierOptions Options() {
    TierOptions options;
    options.call_limit = milliseconds(200);
    return options;
  }

  ClaimIncarnation Action(const std::string& uid, bool expected) const {
    ClaimIncarnation action;
    action.job_name = "job";
    action.job_uid = uid;
    action.token = 7;
    action.world_size = 1;
    proto::TierPolicy& tier = action.tiers.emplace_back();
    tier.set_root(Root());
    tier.set_scope(proto::SHARED);
    if (expected) {
      action.expected_roots.insert(Root());
    }
    return action;
  }

  Result<ClaimedIncarnation> ClaimAs(const std::string& uid, bool expected = false) {
    return RunCoroutine(io_, Claim(*context_, Action(uid, expected)));
  }

  Result<std::vector<TierSnapshot>> ListAs(const std::string& uid, bool expected) {
    return RunCoroutine(io_, List(*context_, ListTier{"job", uid, Root(), expected, 1}));
  }
};

// R, I3: the mount point is there, the file system is not.
TEST_F(ClaimTest, NothingIsMadeInAnEmptyMountPointOfAKnownJob) {
  const auto claimed = ClaimAs(kUid, /*expected=*/true);
  ASSERT_TRUE(claimed.has_value()) << claimed.error().ToString();
  WriteIncarnation record;
  record.job_name = "job";
  record.file.set_format_version(1);
  record.file.set_job_uid(kUid);
  record.file.set_number(claimed.value().number);
  record.file.set_world_size(1);
  record.tiers = Action(kUid, true).tiers;
  record.expected_roots.insert(Root());
  EXPECT_EQ(RunCoroutine(io_, RecordDecision(*context_, record)).error().code, Errc::kUnavailable);
  EXPECT_TRUE(fs::is_empty(Root()));
}

// I8: a uid that is drawn while the job's own cannot be read would fork the job for ever.
TEST_F(ClaimTest, AnUnknownJobIsNotOpenedWhileARootCannotBeRead) {
  const auto known = ClaimAs(kUid);
  ASSERT_TRUE(known.has_value()) << known.error().ToString();
  faults_->FailMatching([](const auto&) { return true; }, EIO);

  const auto refused = ClaimAs("");

  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
  EXPECT_NE(refused.error().message.find(Root()), std::string::npos);
  faults_->Clear();
  const auto healed = ClaimAs("");
  ASSERT_TRUE(healed.has_value()) << healed.error().ToString();
  EXPECT_EQ(healed.value().job_uid, kUid);
  EXPECT_EQ(healed.value().number, 2U);
}

// The root was mounted after the node had made the job in its empty mount point.
TEST_F(ClaimTest, AnotherUidOnTheTierNamesTheWayOut) {
  ASSERT_TRUE(ClaimAs(kUid).has_value());
  const auto refused = ClaimAs(std::string(16, 'v'));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::kAlreadyExists);
  EXPECT_NE(refused.error().message.find("`holdfast drop job --forget`"), std::string::npos);
}

// I3: a new job.json would make every snapshot there another job's.
TEST_F(ClaimTest, AFolderThatLostItsJobFileIsNotANewJob) {
  ASSERT_TRUE(ClaimAs(kUid).has_value());
  fs::remove(Root() + "/job/job.json");
  for (const std::string& uid : {std::string(), std::string(16, 'v')}) {
    const auto refused = ClaimAs(uid);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::kCorruption);
    EXPECT_NE(refused.error().message.find(Root() + "/job: job.json is missing"),
              std::string::npos);
    EXPECT_FALSE(fs::exists(Root() + "/job/job.json"));
  }
}

TEST_F(ClaimTest, AJobFileThatWasLostIsWrittenAgainByTheJobItself) {
  for (const bool expected : {false, true}) {
    const auto before = ClaimAs(kUid);
    ASSERT_TRUE(before.has_value()) << before.error().ToString();
    fs::remove(Root() + "/job/job.json");
    const auto claimed = ClaimAs(kUid, expected);
    ASSERT_TRUE(claimed.has_value()) << claimed.error().ToString();
    EXPECT_EQ(claimed.value().number, before.value().number + 1);
    EXPECT_TRUE(fs::exists(Root() + "/job/job.json"));
  }
}

TEST_F(ClaimTest, AnUnfinishedSnapshotDoesNotSayWhoseItIs) {
  fs::create_directories(Root() + "/job/step-00000006.i0001");
  const auto refused = ClaimAs(kUid);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::kCorruption);
}

TEST_F(ClaimTest, AnUnknownJobIsNotOpenedWhileARootIsMissing) {
  fs::remove_all(Root());
  EXPECT_EQ(ClaimAs("").error().code, Errc::kUnavailable);
  fs::create_directories(Root());
  EXPECT_TRUE(ClaimAs("").has_value());
}

TEST_F(ClaimTest, AKnownJobStartsWithoutARootThatCannotBeRead) {
  ASSERT_TRUE(ClaimAs(kUid).has_value());
  faults_->FailMatching([](const auto&) { return true; }, EIO);
  ClaimIncarnation action = Action(kUid, false);
  action.at_least = 5;
  const auto claimed = RunCoroutine(io_, Claim(*context_, action));
  ASSERT_TRUE(claimed.has_value()) << claimed.error().ToString();
  EXPECT_EQ(claimed.value().number, 5U);
}

TEST_F(ClaimTest, AnExpectedJobThatIsNotThereIsNoEmptyListing) {
  const auto listed = ListAs(kUid, /*expected=*/true);
  ASSERT_FALSE(listed.has_value());
  EXPECT_EQ(listed.error().code, Errc::kUnavailable);
  EXPECT_NE(listed.error().message.find("mounted"), std::string::npos);
  ASSERT_TRUE(ListAs(kUid, /*expected=*/false).has_value());
}

TEST_F(ClaimTest, AManifestThatCannotBeReadIsListedWithItsProblem) {
  ASSERT_TRUE(ClaimAs(kUid).has_value());
  const std::string folder = Root() + "/job/step-00000005.i0001";
  fs::create_directories(folder);
  fs::create_directories(Root() + "/job/step-00000006.i0001");  // never published
  std::ofstream(folder + "/manifest.json") << "{ cut off";
  const auto listed = ListAs(kUid, /*expected=*/true);
  ASSERT_TRUE(listed.has_value()) << listed.error().ToString();
  ASSERT_EQ(listed.value().size(), 1U);
  EXPECT_EQ(listed.value()[0].id, (SnapshotKey{1, 5}));
  EXPECT_TRUE(listed.value()[0].problem.has_value());
}

}  // namespace
}  // namespace holdfast::daemon
