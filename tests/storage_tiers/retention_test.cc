#include "storage_tiers/retention.h"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace holdfast::storage_tiers {
namespace {

using Ids = std::vector<std::pair<std::uint64_t, std::int64_t>>;  // (incarnation, step)

proto::SnapshotId Id(std::uint64_t incarnation, std::int64_t step) {
  proto::SnapshotId id;
  id.set_job_uid(std::string(16, 'u'));
  id.set_incarnation(incarnation);
  id.set_step(step);
  return id;
}

std::vector<proto::SnapshotId> Make(const Ids& ids) {
  std::vector<proto::SnapshotId> made;
  for (const auto& [incarnation, step] : ids) {
    made.push_back(Id(incarnation, step));
  }
  return made;
}

Ids Deleted(const Ids& durable, const Ids& pinned, const RetentionPolicy& policy) {
  Ids result;
  for (const auto& id : SelectForDeletion(Make(durable), Make(pinned), policy)) {
    result.emplace_back(id.incarnation(), id.step());
  }
  return result;
}

struct Case {
  std::string name;
  Ids durable;
  Ids pinned;
  RetentionPolicy policy;
  Ids deleted;
};

class RetentionTest : public ::testing::TestWithParam<Case> {};

TEST_P(RetentionTest, DeletesWhatThePolicyDoesNotKeep) {
  const Case& c = GetParam();

  EXPECT_EQ(Deleted(c.durable, c.pinned, c.policy), c.deleted);
}

INSTANTIATE_TEST_SUITE_P(
    Tables,
    RetentionTest,
    ::testing::Values(
        Case{"Nothing", {}, {}, {1, 0}, {}},
        // I3: the last durable one is never deleted, whatever the policy says.
        Case{"LastOneStaysWithKeepZero", {{1, 5}}, {}, {0, 0}, {}},
        Case{"KeepZeroCountsAsOne", {{1, 5}, {1, 6}}, {}, {0, 0}, {{1, 5}}},
        Case{"KeepsTheNewest", {{1, 1}, {1, 2}, {1, 3}, {1, 4}}, {}, {2, 0}, {{1, 1}, {1, 2}}},
        Case{"InputOrderDoesNotMatter", {{1, 3}, {1, 1}, {1, 2}}, {}, {1, 0}, {{1, 1}, {1, 2}}},
        // Incarnation first: step 90 of start 2 is newer than step 100 of start 1.
        Case{"IncarnationBeforeStep", {{1, 100}, {2, 90}}, {}, {1, 0}, {{1, 100}}},
        Case{"SameStepOfTwoHistories", {{1, 100}, {2, 100}}, {}, {1, 0}, {{1, 100}}},
        Case{"EveryKthStays",
             {{1, 100}, {1, 150}, {1, 200}, {1, 250}, {1, 260}},
             {},
             {1, 100},
             {{1, 150}, {1, 250}}},
        Case{"PinnedStays", {{1, 1}, {1, 2}, {1, 3}}, {{1, 1}}, {1, 0}, {{1, 2}}},
        Case{"PinsOfOtherIdsDoNotMatter", {{1, 1}, {1, 2}}, {{2, 1}}, {1, 0}, {{1, 1}}},
        Case{"DuplicatesCountOnce", {{1, 1}, {1, 2}, {1, 2}}, {}, {2, 0}, {}},
        Case{"KeepMoreThanThereAre", {{1, 1}, {1, 2}}, {}, {~std::uint64_t{0}, 0}, {}},
        Case{"NegativeStepsAreNotGuessedAt", {{1, -5}, {1, 2}}, {}, {1, 0}, {}},
        Case{"StepZeroIsAMultiple", {{1, 0}, {1, 7}, {1, 8}}, {}, {1, 10}, {{1, 7}}}),
    [](const auto& info) { return info.param.name; });

TEST(RetentionOrderTest, AnIdOfAnotherJobIsNotThePinnedOne) {
  proto::SnapshotId other = Id(1, 1);
  other.set_job_uid(std::string(16, 'v'));

  const auto deleted = SelectForDeletion({Id(1, 1), Id(1, 2)}, {other}, {1, 0});

  ASSERT_EQ(deleted.size(), 1u);
}

}  // namespace
}  // namespace holdfast::storage_tiers
