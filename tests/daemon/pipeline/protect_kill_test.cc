// A process that protects and rebuilds is killed at each passage of the list: what it was making
// was never called done.

#include <csignal>
#include <cstdlib>

#include <unistd.h>

#include "common/failpoint.h"
#include "tests/daemon/kill_points.h"
#include "tests/daemon/pipeline/group_fixture.h"

namespace holdfast::daemon {
namespace {

using tests::KillPoint;

class ProtectKillTest : public GroupTest {
 protected:
  // All of it in one process: protect two rows, rebuild a shard with a helper, rebuild a row.
  void RunEverything() {
    ec::CodeParams code;
    code.data = 2;
    code.parity = 2;
    TestGroup group(code, std::vector<ByteCount>(4, 6 * kMiB));
    ProtectAll(&group, SmallWindows());
    std::vector<std::byte> image(6 * kMiB);
    const auto lost = RebuildReader::Make(
        &cpu_, group.digests[1], group.group, 1, Sources(group, {1}, 9), RebuildOptions());
    const FeedShape shape{.windows = Windows(3 * kMiB, kMiB), .lanes = 1, .depth = 2};
    const auto feed = FeedOf(shape);
    std::optional<Status> fed;
    Start(FeedShare(ShareToFeed(lost.value(), 0, feed), ShareOptions()), &fed);
    ShardToRebuild work(group.group, 1, lost.value(), image);
    work.helpers.resize(2);
    work.helpers[0].push_back({std::make_shared<LocalFeedCalls>(feed, 0), RingOf(feed)});
    RebuildShardOptions options;
    options.pull.window_bytes = kMiB;
    EXPECT_TRUE(RunToEnd(RebuildShard(&cpu_, std::move(work), options)).has_value());
    std::vector<std::byte> row(3 * kMiB);
    EXPECT_TRUE(
        RunToEnd(
            RebuildRow(&cpu_, group.group, Sources(group, {1}, 9), 1, 0, row, RebuildRowOptions()))
            .has_value());
    EXPECT_TRUE(RunUntil([&fed] { return fed.has_value(); }));
  }
};

TEST_F(ProtectKillTest, EveryPassageIsPassedByAProcessThatDiesThere) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const KillPoint& point : tests::kPeerKillPoints) {
    SCOPED_TRACE(point.name);
    const std::string armed =
        std::string(point.failpoint) + "=kill@" + std::to_string(point.passage);
    EXPECT_EXIT(
        {
          (void)ArmFailpoints(armed);
          RunEverything();
          std::_Exit(0);
        },
        ::testing::KilledBySignal(SIGKILL),
        "");
  }
}

// A failpoint that gives an error instead ends the step with it, and nothing is left behind (I12).
TEST_F(ProtectKillTest, AnErrorAtAnyPassageOfProtectEndsItAndItsOwners) {
  ec::CodeParams code;
  code.data = 2;
  code.parity = 2;
  const TestGroup group(code, std::vector<ByteCount>(4, 6 * kMiB));
  for (const char* name : {"protect.before_window",
                           "protect.before_encode",
                           "protect.before_lend",
                           "protect.before_done"}) {
    SCOPED_TRACE(name);
    const auto run = Prepare(group, 0, SmallWindows());
    ASSERT_TRUE(ArmFailpoints(std::string(name) + "=error:5").has_value());
    StartStripe(group, 0, SmallWindows(), run.get());
    ASSERT_TRUE(RunUntil([&run] { return run->Ended(); }));
    ASSERT_TRUE(ArmFailpoints("").has_value());
    ASSERT_FALSE(run->made->has_value());
    EXPECT_EQ(run->made->error().sys_errno, 5);
    // All rows were taken before the last one.
    EXPECT_EQ(run->pulled[1]->has_value(), std::string(name) == "protect.before_done");
    run->calls.clear();
    EXPECT_EQ(run->feed.use_count(), 1);
  }
}

}  // namespace
}  // namespace holdfast::daemon
