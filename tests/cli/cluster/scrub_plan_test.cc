// Who is asked to read what, in which order, and what becomes of the answers.

#include "cli/cluster/scrub_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/cluster/four_nodes.h"

namespace holdfast::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint64_t kPart = kScrubPartChunks * kMiB;
constexpr std::size_t kAll = 64;

proto::ScrubResult Read(std::uint64_t bytes, const std::vector<std::uint64_t>& bad = {}) {
  proto::ScrubResult result;
  result.set_bytes(bytes);
  result.mutable_bad_chunks()->Add(bad.begin(), bad.end());
  return result;
}

proto::ScrubResult Failed(Errc code) {
  proto::ScrubResult result;
  result.set_error_code(static_cast<std::uint32_t>(code));
  result.set_error("because");
  return result;
}

// One node that holds one shard of that size and nothing else.
std::vector<proto::NodeAnswer> OneShard(std::uint64_t bytes) {
  auto nodes = FourNodes();
  nodes.resize(1);
  Snapshot(&nodes[0])->clear_held_rows();
  Snapshot(&nodes[0])->mutable_shards(0)->set_image_bytes(bytes);
  return nodes;
}

ByteCount Answer(ScrubPlan* plan, const proto::ScrubResult& result) {
  EXPECT_EQ(plan->Next(kAll).parts_size(), 1);
  proto::ScrubNodesReply reply;
  *reply.add_results() = result;
  return plan->Take(reply);
}

TEST(ScrubPlanTest, EveryNodeReadsItsShardAndItsRows) {
  ScrubPlan plan(FourNodes(), "");
  EXPECT_THAT(plan.items(), SizeIs(4 * (1 + 2)));
  EXPECT_EQ(plan.total_bytes(), 4 * (3 + 2 * 2) * kMiB);
  ByteCount done = 0;
  for (int round = 0; round < 3; ++round) {
    const proto::ScrubNodesRequest request = plan.Next(kAll);
    ASSERT_EQ(request.parts_size(), 4) << "all nodes at the same time";
    proto::ScrubNodesReply reply;
    for (const proto::ScrubPart& part : request.parts()) {
      *reply.add_results() = Read(part.key().has_image() ? 3 * kMiB : 2 * kMiB);
    }
    done += plan.Take(reply);
  }
  EXPECT_TRUE(plan.Next(kAll).parts().empty());
  EXPECT_EQ(done, plan.total_bytes());
  for (const ScrubItem& item : plan.items()) {
    EXPECT_TRUE(item.ok());
    EXPECT_EQ(item.bytes, item.length);
  }
}

TEST(ScrubPlanTest, FewerNodesThanThereAreTakeTurns) {
  ScrubPlan plan(FourNodes(), "");
  proto::ScrubNodesReply reply;
  *reply.add_results() = Read(3 * kMiB);
  *reply.add_results() = Read(3 * kMiB);
  *reply.add_results() = Read(3 * kMiB);
  std::vector<std::string> asked;
  for (int round = 0; round < 2; ++round) {
    const proto::ScrubNodesRequest request = plan.Next(3);
    for (const proto::ScrubPart& part : request.parts()) {
      asked.push_back(part.node_uuid());
    }
    (void)plan.Take(reply);
  }
  EXPECT_THAT(
      asked,
      ElementsAre(TestNode(0), TestNode(1), TestNode(2), TestNode(3), TestNode(0), TestNode(1)));
}

TEST(ScrubPlanTest, ALargeShardIsReadInParts) {
  ScrubPlan plan(OneShard(2 * kPart + 5), "");
  EXPECT_EQ(Answer(&plan, Read(kPart, {3})), kPart);
  EXPECT_EQ(plan.Next(kAll).parts(0).first_chunk(), kScrubPartChunks);
  EXPECT_EQ(Answer(&plan, Read(kPart)), kPart);
  EXPECT_EQ(Answer(&plan, Read(5, {512})), 5U);
  EXPECT_TRUE(plan.Next(kAll).parts().empty());
  EXPECT_THAT(plan.items()[0].bad_chunks, ElementsAre(3, 512));
  EXPECT_FALSE(plan.items()[0].ok());
}

TEST(ScrubPlanTest, ANodeThatFallsSilentIsAskedNoMore) {
  ScrubPlan plan(FourNodes(), "");
  proto::ScrubNodesRequest request = plan.Next(kAll);
  proto::ScrubNodesReply reply;
  for (int i = 0; i < request.parts_size(); ++i) {
    *reply.add_results() = i == 1 ? Failed(Errc::kTimeout) : Read(3 * kMiB);
  }
  EXPECT_EQ(plan.Take(reply), (3 * 3 + 7) * kMiB) << "its rest counts as done for the progress";
  EXPECT_EQ(plan.Next(kAll).parts_size(), 3);
  ASSERT_THAT(plan.gone(), SizeIs(1));
  EXPECT_EQ(plan.gone().begin()->first, TestNode(1));
}

TEST(ScrubPlanTest, WhatWasFreedMeanwhileIsNeitherGoodNorBad) {
  ScrubPlan plan(OneShard(2 * kPart), "");
  EXPECT_EQ(Answer(&plan, Failed(Errc::kNotFound)), 2 * kPart);
  EXPECT_TRUE(plan.items()[0].ok());
  EXPECT_TRUE(plan.items()[0].freed);
  EXPECT_TRUE(plan.Next(kAll).parts().empty());
}

TEST(ScrubPlanTest, WhatIsFreedBecauseItIsBadStaysBad) {
  ScrubPlan plan(OneShard(2 * kPart), "");
  (void)Answer(&plan, Read(kPart, {7}));
  (void)Answer(&plan, Failed(Errc::kNotFound));
  EXPECT_THAT(plan.items()[0].bad_chunks, ElementsAre(7));
  EXPECT_FALSE(plan.items()[0].ok());
}

// A node of another version must not make a loop without end, nor pass for a good check.
TEST(ScrubPlanTest, ANodeThatReadsLessThanItHoldsIsNoGoodCheck) {
  for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{5}}) {
    ScrubPlan plan(OneShard(2 * kPart), "");
    (void)Answer(&plan, Read(bytes));
    EXPECT_TRUE(plan.Next(kAll).parts().empty());
    EXPECT_FALSE(plan.items()[0].ok());
  }
  ScrubPlan plan(OneShard(kPart), "");
  (void)plan.Next(kAll);
  (void)plan.Take({});
  EXPECT_FALSE(plan.items()[0].ok()) << "no answer at all";
}

TEST(ScrubPlanTest, OnlyTheJobThatWasAskedForAndNothingHalf) {
  EXPECT_THAT(ScrubPlan(FourNodes(), "other").items(), IsEmpty());
  auto nodes = OneShard(5);
  Snapshot(&nodes[0])->mutable_shards(0)->set_state("filling");
  EXPECT_THAT(ScrubPlan(nodes, "my-job").items(), IsEmpty());
  Snapshot(&nodes[0])->mutable_shards(0)->set_state("poisoned");
  const ScrubPlan plan(nodes, "my-job");
  ASSERT_THAT(plan.items(), SizeIs(1));
  EXPECT_FALSE(plan.items()[0].ok());
}

}  // namespace
}  // namespace holdfast::cli
