// One picture from what many nodes say: who is believed, what is there, what can still be lost.

#include "cli/cluster/cluster_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/cluster/four_nodes.h"

namespace holdfast::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(ClusterModelTest, AJobAndASnapshotAreThereOnceWhoeverKnowsThem) {
  const Cluster cluster = MergeAnswers(FourNodes());
  ASSERT_THAT(cluster.jobs, SizeIs(1));
  EXPECT_EQ(cluster.jobs[0].decider, TestNode(0));
  EXPECT_THAT(cluster.jobs[0].nodes, SizeIs(4));
  EXPECT_EQ(cluster.jobs[0].status.ranks_size(), 4);
  EXPECT_EQ(cluster.jobs[0].ServerOf(2), TestNode(2));
  EXPECT_THAT(cluster.jobs[0].missing_ranks, IsEmpty());
  ASSERT_THAT(cluster.snapshots, SizeIs(1));
  const ClusterSnapshot& snapshot = cluster.snapshots[0];
  EXPECT_THAT(snapshot.shards, SizeIs(4));
  EXPECT_EQ(snapshot.shards.at(3).at(0).node, TestNode(3));
  ASSERT_THAT(snapshot.sets, SizeIs(1));
  EXPECT_EQ(snapshot.info.state(), "complete");
  EXPECT_EQ(snapshot.info.margin(), 2U);
  EXPECT_EQ(snapshot.margin_seen, 2U);
  EXPECT_THAT(snapshot.missing, IsEmpty());
  EXPECT_THAT(snapshot.Nodes(), SizeIs(4));
}

// Design section 6: rows r of stripe s at position s+r; segments at the others.
TEST(ClusterModelTest, StripesAreCountedVectorByVector) {
  const Cluster cluster = MergeAnswers(FourNodes());
  const SeenSet& set = cluster.snapshots[0].sets[0];
  EXPECT_TRUE(set.OwnsRowOf(1, 1));
  EXPECT_TRUE(set.OwnsRowOf(2, 1));
  EXPECT_FALSE(set.OwnsRowOf(3, 1));
  EXPECT_TRUE(set.OwnsRowOf(0, 3)) << "around the end";
  for (std::uint32_t stripe = 0; stripe < 4; ++stripe) {
    EXPECT_EQ(set.Available(stripe), 4U);
  }
}

// What the decider heard before the loss is not what is left.
TEST(ClusterModelTest, ASilentNodeLowersTheMarginThatIsSeen) {
  auto nodes = FourNodes();
  Silence(&nodes[2]);
  const Cluster cluster = MergeAnswers(std::move(nodes));
  const ClusterSnapshot& snapshot = cluster.snapshots[0];
  EXPECT_EQ(snapshot.info.margin(), 2U);
  EXPECT_EQ(snapshot.margin_seen, 1U);
  EXPECT_THAT(snapshot.missing, ElementsAre(2));
  EXPECT_THAT(snapshot.lost, IsEmpty()) << "parity brings it back";
  EXPECT_EQ(snapshot.LastSeen(2), TestNode(2));
  EXPECT_THAT(cluster.jobs[0].missing_ranks, ElementsAre(2));
  EXPECT_EQ(cluster.jobs[0].ServerOf(2), TestNode(2)) << "as the job says";
}

TEST(ClusterModelTest, MoreThanTheParityGoneIsLostUnlessARootHasIt) {
  auto nodes = FourNodes();
  Silence(&nodes[0]);
  Silence(&nodes[1]);
  Silence(&nodes[3]);
  Cluster cluster = MergeAnswers(nodes);
  EXPECT_THAT(cluster.snapshots[0].lost, ElementsAre(0, 1, 3));
  EXPECT_EQ(cluster.snapshots[0].margin_seen, 0U);
  EXPECT_EQ(cluster.jobs[0].decider, "");
  nodes[2].mutable_view()->mutable_list()->mutable_snapshots(0)->add_durable_on("/pfs");
  cluster = MergeAnswers(nodes);
  EXPECT_THAT(cluster.snapshots[0].missing, ElementsAre(0, 1, 3));
  EXPECT_THAT(cluster.snapshots[0].lost, IsEmpty());
}

// A member counts with everything that it must have.
TEST(ClusterModelTest, APoisonedShardARowOrASidecarLessIsNoWholeMember) {
  auto nodes = FourNodes();
  Snapshot(&nodes[1])->mutable_shards(0)->set_state("poisoned");
  EXPECT_EQ(MergeAnswers(nodes).snapshots[0].margin_seen, 1U);
  EXPECT_THAT(MergeAnswers(nodes).snapshots[0].missing, ElementsAre(1));
  nodes = FourNodes();
  Snapshot(&nodes[1])->mutable_held_rows(0)->mutable_rows()->RemoveLast();
  EXPECT_EQ(MergeAnswers(nodes).snapshots[0].margin_seen, 1U);
  EXPECT_EQ(MergeAnswers(nodes).snapshots[0].sets[0].Available(0), 3U);
  nodes = FourNodes();
  Snapshot(&nodes[1])->mutable_sidecar_ranks()->RemoveLast();
  EXPECT_EQ(MergeAnswers(nodes).snapshots[0].margin_seen, 1U);
}

TEST(ClusterModelTest, WithoutParityThereIsNoMargin) {
  auto nodes = FourNodes();
  for (proto::NodeAnswer& node : nodes) {
    Snapshot(&node)->clear_held_rows();
  }
  Silence(&nodes[3]);
  const Cluster cluster = MergeAnswers(nodes);
  EXPECT_EQ(cluster.snapshots[0].margin_seen, 0U);
  EXPECT_THAT(cluster.snapshots[0].lost, ElementsAre(3));
  EXPECT_EQ(cluster.snapshots[0].LastSeen(3), TestNode(3)) << "the node that serves the rank";
}

// I8: who has not heard of the latest start is not asked about it.
TEST(ClusterModelTest, TheLatestStartIsBelievedThenWhoDecides) {
  auto nodes = FourNodes();
  proto::JobStatus* stale = nodes[0].mutable_view()->mutable_status()->mutable_jobs(0);
  stale->set_incarnation(6);
  stale->set_phase("run");
  stale->mutable_ranks(0)->set_pid(1);
  const Cluster cluster = MergeAnswers(nodes);
  EXPECT_EQ(cluster.jobs[0].status.incarnation(), 7U);
  EXPECT_EQ(cluster.jobs[0].decider, "");
  EXPECT_THAT(cluster.jobs[0].missing_ranks, ElementsAre(0));
  EXPECT_EQ(cluster.jobs[0].status.phase(), "idle");
}

TEST(ClusterModelTest, SnapshotsAreNewestFirstAndStatesGoForward) {
  auto nodes = FourNodes();
  proto::ListReply* list = nodes[3].mutable_view()->mutable_list();
  *list->add_snapshots() = list->snapshots(0);
  list->mutable_snapshots(1)->mutable_id()->set_step(1300);
  *list->add_snapshots() = list->snapshots(0);
  list->mutable_snapshots(2)->mutable_id()->set_incarnation(6);
  Snapshot(&nodes[1])->set_state("sealed");
  Snapshot(&nodes[2])->set_state("durable");
  const Cluster cluster = MergeAnswers(nodes);
  ASSERT_THAT(cluster.snapshots, SizeIs(3));
  EXPECT_EQ(cluster.snapshots[0].info.id().step(), 1300);
  EXPECT_EQ(cluster.snapshots[1].info.id().step(), 1200);
  EXPECT_EQ(cluster.snapshots[1].info.state(), "durable");
  EXPECT_EQ(cluster.snapshots[2].info.id().incarnation(), 6U);
}

TEST(ClusterModelTest, NobodyAnsweringIsAnEmptyPicture) {
  auto nodes = FourNodes();
  for (proto::NodeAnswer& node : nodes) {
    Silence(&node);
  }
  const Cluster cluster = MergeAnswers(nodes);
  EXPECT_THAT(cluster.jobs, IsEmpty());
  EXPECT_THAT(cluster.snapshots, IsEmpty());
  EXPECT_THAT(cluster.nodes, SizeIs(4));
}

}  // namespace
}  // namespace holdfast::cli
