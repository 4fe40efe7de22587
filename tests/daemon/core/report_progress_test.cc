// What is progress, and what is news that a coordinator must not wait for.

#include "daemon/core/report_progress.h"

#include <functional>
#include <string>

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

constexpr std::uint64_t kEpoch = 2;
constexpr std::uint64_t kToken = 7;
constexpr SnapshotKey kOld{kEpoch, 1};
constexpr SnapshotKey kNew{kEpoch, 2};
constexpr UnderWay kMakesAll{true, true};

ShardEntry Sealed(const SnapshotKey& id, Rank rank) {
  return {id, rank, ShardEntry::State::kSealed, 4, kToken, 1024, false};
}

ShardEntry Filling(const SnapshotKey& id, Rank rank) {
  return {id, rank, ShardEntry::State::kFilling, 0, kToken, 0, false};
}

// Two ranks of which the first has begun the new step.
Report Midway() {
  Report report;
  report.stamp = {{kEpoch, kToken}, 1, 10};
  report.node_uuid = "node";
  report.answers_attempt = 1;
  for (const Rank rank : {0U, 1U}) {
    report.ranks[rank].connected = true;
    report.ranks[rank].image_bytes = 1024;
    report.ranks[rank].last_begun = rank == 0 ? 2 : 1;
    report.shards.push_back(Sealed(kOld, rank));
  }
  report.shards.push_back(Filling(kNew, 0));
  report.known_complete = {kOld};
  report.flushed["/pfs"][kOld] = {0};
  report.parity = {{kOld, kToken, 0, kEpoch, 1, {0}, std::nullopt},
                   {kOld, kToken, 1, kEpoch, 1, {0, 1}, std::nullopt}};
  report.sidecars = {{kOld, kToken, {2, 3}}};
  return report;
}

struct Change {
  std::string name;
  std::function<void(Report*)> make;
};

class ProgressTest : public ::testing::TestWithParam<Change> {};

class NewsTest : public ::testing::TestWithParam<Change> {};

Report After(const Change& change) {
  Report report = Midway();
  report.stamp.sequence = 11;
  change.make(&report);
  return report;
}

TEST_P(ProgressTest, IsProgress) {
  EXPECT_TRUE(IsMereProgress(Midway(), After(GetParam()), kMakesAll));
}

// And so is its undoing, but for where nothing changed.
TEST_P(NewsTest, IsNews) {
  EXPECT_FALSE(IsMereProgress(Midway(), After(GetParam()), kMakesAll));
}

TEST_P(ProgressTest, ItsUndoingIsNews) {
  if (!SameContent(Midway(), After(GetParam()))) {
    EXPECT_FALSE(IsMereProgress(After(GetParam()), Midway(), kMakesAll));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Changes,
    ProgressTest,
    ::testing::Values(
        Change{"Nothing", [](Report*) {}},
        Change{"Begin",
               [](Report* report) {
                 report->ranks[1].last_begun = 2;
                 report->shards.push_back(Filling(kNew, 1));
               }},
        Change{"Seal",
               [](Report* report) {
                 report->shards.pop_back();
                 report->shards.push_back(Sealed(kNew, 0));
               }},
        Change{"BeginAndSeal",
               [](Report* report) {
                 report->ranks[1].last_begun = 2;
                 report->shards.insert(report->shards.end() - 1, Sealed(kNew, 1));
               }},
        Change{"Row", [](Report* report) { report->parity[0].rows.insert(1); }},
        Change{"RowOfAnotherId",
               [](Report* report) {
                 report->parity.push_back({kNew, kToken, 0, kEpoch, 1, {0}, std::nullopt});
               }},
        Change{"Sidecars", [](Report* report) { report->sidecars[0].ranks.push_back(4); }},
        Change{"Complete", [](Report* report) { report->known_complete.insert(kNew); }},
        Change{"Files", [](Report* report) { report->flushed["/pfs"][kOld].insert(1); }}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Changes,
    NewsTest,
    ::testing::Values(
        Change{"SealedByAll",
               [](Report* report) {
                 report->ranks[1].last_begun = 2;
                 report->shards.pop_back();
                 report->shards.push_back(Sealed(kNew, 0));
                 report->shards.push_back(Sealed(kNew, 1));
               }},
        Change{"SealedByAllWhileTheNextIsFilled",
               [](Report* report) {
                 report->ranks[0].last_begun = report->ranks[1].last_begun = 3;
                 report->shards.pop_back();
                 report->shards.push_back(Sealed(kNew, 0));
                 report->shards.push_back(Sealed(kNew, 1));
                 report->shards.push_back(Filling({kEpoch, 3}, 0));
                 report->shards.push_back(Filling({kEpoch, 3}, 1));
               }},
        Change{"Miss", [](Report* report) { report->ranks[1].last_begun = 2; }},
        Change{"Torn", [](Report* report) { report->shards.pop_back(); }},
        Change{"Rot",
               [](Report* report) { report->shards[0].state = ShardEntry::State::kPoisoned; }},
        Change{"BadFromTheStart",
               [](Report* report) {
                 report->shards.push_back(Sealed(kNew, 1));
                 report->shards.back().state = ShardEntry::State::kPoisoned;
               }},
        Change{"AnotherStart", [](Report* report) { report->shards[0].token = 8; }},
        Change{"ShardGone", [](Report* report) { report->shards.erase(report->shards.begin()); }},
        Change{"RowGone", [](Report* report) { report->parity[1].rows.erase(0); }},
        Change{"RowsGone", [](Report* report) { report->parity.pop_back(); }},
        Change{"RowsOfOtherGroups", [](Report* report) { report->parity[0].version = 2; }},
        Change{"SidecarGone", [](Report* report) { report->sidecars[0].ranks.pop_back(); }},
        Change{"FilesGone", [](Report* report) { report->flushed.clear(); }},
        Change{"Error", [](Report* report) { report->parity_error = "a row was not made"; }},
        Change{"Reason",
               [](Report* report) {
                 report->missed_reasons[{2, 1}] = "busy";
               }},
        Change{"Drain", [](Report* report) { report->ranks[0].drains = true; }},
        Change{"RankGone", [](Report* report) { report->ranks.erase(1); }},
        Change{"Connection", [](Report* report) { report->ranks[0].connected = false; }},
        Change{"Layout", [](Report* report) { report->ranks[0].image_bytes = 2048; }},
        Change{"Failure", [](Report* report) { report->failures.push_back({}); }},
        Change{"Attempt", [](Report* report) { report->answers_attempt = 2; }},
        Change{"Start", [](Report* report) { report->stamp.epoch.token = 8; }},
        Change{"Domain", [](Report* report) { report->failure_domain = "rack"; }}),
    [](const auto& test) { return test.param.name; });

// Nothing more of its kind is under way: what was made was the last.
TEST(ReportProgressTest, TheLastRowAndTheLastFileAreNews) {
  Report row = Midway();
  row.parity[0].rows.insert(1);
  EXPECT_TRUE(IsMereProgress(Midway(), row, {true, false}));
  EXPECT_FALSE(IsMereProgress(Midway(), row, {false, true}));
  Report sidecar = Midway();
  sidecar.sidecars[0].ranks.push_back(4);
  EXPECT_FALSE(IsMereProgress(Midway(), sidecar, {false, true}));
  Report file = Midway();
  file.flushed["/pfs"][kOld].insert(1);
  EXPECT_TRUE(IsMereProgress(Midway(), file, {false, true}));
  EXPECT_FALSE(IsMereProgress(Midway(), file, {true, false}));
}

}  // namespace
}  // namespace holdfast::daemon
