// I10: who protects whom.  Numbers and spread are those of grouping.h, for any nodes in any order.
#include "ec/grouping.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "ec/geometry.h"
#include "tests/ec/groups.h"

namespace holdfast::ec {
namespace {

using Counts = std::vector<std::size_t>;

std::vector<Node> Nodes(std::size_t count, const std::vector<std::string>& domains = {""}) {
  std::vector<Node> nodes;
  for (std::size_t i = 0; i < count; ++i) {
    nodes.push_back({.uuid = Uuid(i),
                     .shard_bytes = {kGiB, kGiB},
                     .failure_domain = domains[i % domains.size()]});
  }
  return nodes;
}

// By value, so that a loop over it does not outlive its Result.
std::vector<Group> Groups(const std::vector<Node>& nodes, const GroupingOptions& options) {
  return MakeGroups(nodes, options).value();
}

Counts SizesOf(const std::vector<Group>& groups) {
  Counts sizes;
  for (const Group& group : groups) {
    sizes.push_back(group.members.size());
  }
  std::sort(sizes.rbegin(), sizes.rend());
  return sizes;
}

TEST(GroupingTest, SizesOfTheNodeCountsThatAreHardToDivide) {
  const std::pair<std::uint32_t, std::map<std::size_t, Counts>> expected[] = {
      {4, {{5, {5}}, {7, {7}}, {11, {6, 5}}, {13, {5, 4, 4}}, {21, {6, 5, 5, 5}}}},
      {8, {{5, {5}}, {7, {7}}, {11, {6, 5}}, {13, {7, 6}}, {21, {7, 7, 7}}}}};
  for (const auto& [k, by_count] : expected) {
    for (const auto& [count, sizes] : by_count) {
      const auto groups = Groups(Nodes(count), {.data = k, .parity = 2});
      EXPECT_EQ(SizesOf(groups), sizes) << count << " nodes, " << k << "+2";
      for (const Group& group : groups) {
        EXPECT_EQ(group.parity, 2u);
        EXPECT_EQ(group.data + group.parity, group.members.size());
        EXPECT_FALSE(group.reduced);
      }
    }
  }
}

TEST(GroupingTest, SmallJobsSayWhatTheyLack) {
  const GroupingOptions options{.data = 8, .parity = 2};
  EXPECT_TRUE(Groups({}, options).empty());
  const Group one = Groups(Nodes(1), options).at(0);
  EXPECT_FALSE(one.HasPeers());
  EXPECT_TRUE(one.reduced);
  EXPECT_EQ(one.data, 1u);
  const Group two = Groups(Nodes(2), options).at(0);
  EXPECT_TRUE(two.HasPeers());
  EXPECT_TRUE(two.reduced);
  EXPECT_EQ(two.data, 1u);  // a mirror
  EXPECT_EQ(two.parity, 1u);
  const Group three = Groups(Nodes(3), options).at(0);
  EXPECT_FALSE(three.reduced);
  EXPECT_EQ(three.data, 1u);  // mirrored twice
  EXPECT_EQ(three.parity, 2u);
}

// "count" nodes of each stage, the stage with the longest shards first.
std::vector<Node> Stages(const std::vector<std::size_t>& counts) {
  std::vector<Node> nodes;
  for (std::size_t stage = 0; stage < counts.size(); ++stage) {
    for (std::size_t i = 0; i < counts[stage]; ++i) {
      nodes.push_back({.uuid = Uuid(nodes.size()),
                       .shard_bytes = {kGiB * 2 * (counts.size() - stage)},
                       .failure_domain = {}});
    }
  }
  return nodes;
}

// The lengths that meet in each group.
std::multiset<std::set<ByteCount>> LengthsOf(const std::vector<Node>& nodes,
                                             const std::vector<Group>& groups) {
  std::multiset<std::set<ByteCount>> lengths;
  for (const Group& group : groups) {
    std::set<ByteCount> here;
    for (const std::uint32_t member : group.members) {
      here.insert(nodes[member].shard_bytes[0]);
    }
    lengths.insert(here);
  }
  return lengths;
}

TEST(GroupingTest, StagesThatFillWholeGroupsAreNotMixed) {
  // Groups of 5 and 4: the four nodes of the first stage must get the smaller one.
  const auto nodes = Stages({4, 5});
  const auto groups = Groups(nodes, {.data = 4, .parity = 2});
  EXPECT_EQ(LengthsOf(nodes, groups), (std::multiset<std::set<ByteCount>>{{4 * kGiB}, {2 * kGiB}}));
}

TEST(GroupingTest, StagesThatMustMeetAreNeighboursInLength) {
  // Groups of 6, 5, 5 and 5 for three stages of 7: none fits, and the longest never meets the
  // shortest, which it would make pay for the longest segments.
  const auto nodes = Stages({7, 7, 7});
  const auto groups = Groups(nodes, {.data = 4, .parity = 2});
  EXPECT_EQ(LengthsOf(nodes, groups),
            (std::multiset<std::set<ByteCount>>{
                {6 * kGiB}, {6 * kGiB, 4 * kGiB}, {4 * kGiB, 2 * kGiB}, {2 * kGiB}}));
}

TEST(GroupingTest, WhereStagesMeetDomainsAreSpreadOnceMore) {
  // Two groups of 6: the second gets two nodes of the first stage and all of the second.  Its two
  // of rack x are one too many beside the one that the first stage had sent there.
  auto nodes = Stages({8, 4});
  const char* racks[] = {"x", "x", "a", "b", "c", "d", "e", "f", "x", "x", "g", "h"};
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].failure_domain = racks[i];
  }
  const auto groups = Groups(nodes, {.data = 4, .parity = 2});
  ASSERT_EQ(groups.size(), 2u);
  for (const Group& group : groups) {
    EXPECT_TRUE(group.uncovered_domains.empty());
  }
}

TEST(GroupingTest, LengthsThatDifferByAHeaderAreOneStage) {
  // If each length were a class of its own, domains could not be spread at all.
  std::vector<Node> nodes = Nodes(16, {"a", "b", "c", "d"});
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].shard_bytes = {kGiB + 4096 * (i % 4)};
  }
  for (const Group& group : Groups(nodes, {.data = 6, .parity = 2})) {
    EXPECT_TRUE(group.uncovered_domains.empty());
  }
}

TEST(GroupingTest, ADomainThatTakesMoreThanParityIsNamed) {
  // 4 of 8 nodes in one rack: 2+2 groups of 4 can hold 2 each, groups of 8 cannot.
  const auto nodes = Nodes(8, {"rack", "x", "rack", "y"});
  for (const Group& group : Groups(nodes, {.data = 2, .parity = 2})) {
    EXPECT_TRUE(group.uncovered_domains.empty());
  }
  const auto groups = Groups(nodes, {.data = 6, .parity = 2});
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].uncovered_domains, std::vector<std::string>{"rack"});
}

TEST(GroupingTest, UnknownDomainsAreDomainsOfTheirOwn) {
  const auto groups = Groups(Nodes(10), {.data = 8, .parity = 2});
  EXPECT_TRUE(groups.at(0).uncovered_domains.empty());
}

TEST(GroupingTest, MissingRanksAreEmptyShards) {
  std::vector<Node> nodes = Nodes(2);
  nodes[0].shard_bytes = {7};
  nodes[1].shard_bytes = {5, 9};
  const Group group = Groups(nodes, {}).at(0);
  ASSERT_EQ(group.members.size(), 2u);
  const bool swapped = group.members[0] == 1;
  const auto by_position = [&](ByteCount first, ByteCount second) {
    return swapped ? std::vector{second, first} : std::vector{first, second};
  };
  EXPECT_EQ(ShardBytesOf(nodes, group, 0), by_position(7, 5));
  EXPECT_EQ(ShardBytesOf(nodes, group, 1), by_position(0, 9));
  EXPECT_EQ(ShardBytesOf(nodes, group, 5), by_position(0, 0));
}

TEST(GroupingTest, WrongNodesAndOptionsAreRefused) {
  const auto refused = [](const std::vector<Node>& nodes, const GroupingOptions& options) {
    const auto groups = MakeGroups(nodes, options);
    ASSERT_FALSE(groups.has_value());
    EXPECT_EQ(groups.error().code, Errc::kInvalidArgument);
  };
  refused(Nodes(3), {.data = 0, .parity = 2});
  refused(Nodes(3), {.data = 8, .parity = 0});
  refused(Nodes(3), {.data = ~0u, .parity = 2});
  refused(Nodes(3), {.data = 8, .parity = ~0u});
  refused({}, {.data = 0, .parity = 0});
  std::vector<Node> nodes = Nodes(3);
  nodes[2].uuid = nodes[0].uuid;
  refused(nodes, {});
  nodes[2].uuid = "short";
  refused(nodes, {});
  nodes = Nodes(3);
  nodes[1].shard_bytes[1] = kMaxShardBytes + 1;
  refused(nodes, {});
  nodes[1].shard_bytes.assign(kMaxLocalRanks + 1, 1);
  refused(nodes, {});
  refused(Nodes(kMaxNodes + 1), {});
}

// --- Properties, on random jobs ---

struct Job {
  std::vector<Node> nodes;
  GroupingOptions options;
  std::size_t stages = 1;
  std::map<std::string, std::size_t> domains;
};

Job RandomJob(std::mt19937& random, std::size_t most) {
  Job job;
  job.options = {.data = 1 + static_cast<std::uint32_t>(random() % 12),
                 .parity = 1 + static_cast<std::uint32_t>(random() % 4)};
  const std::size_t count = 1 + random() % most;
  job.stages = 1 + random() % 4;
  const std::size_t domains = 1 + random() % (count + 1);
  for (std::size_t i = 0; i < count; ++i) {
    Node node{.uuid = Uuid(random()), .shard_bytes = {}, .failure_domain = {}};
    node.shard_bytes.assign(1 + random() % 2, kGiB * (1 + 2 * (random() % job.stages)));
    // Skewed: some domains are large.
    node.failure_domain =
        "d" + std::to_string((random() % domains) * (random() % domains) / domains);
    ++job.domains[node.failure_domain];
    job.nodes.push_back(node);
  }
  return job;
}

using GroupsByUuid = std::vector<std::vector<std::string>>;

GroupsByUuid ByUuid(const Job& job, const std::vector<Group>& groups) {
  GroupsByUuid result;
  for (const Group& group : groups) {
    auto& uuids = result.emplace_back();
    for (const std::uint32_t member : group.members) {
      uuids.push_back(job.nodes[member].uuid);
    }
  }
  return result;
}

void ExpectWellSized(const Job& job, const std::vector<Group>& groups) {
  const std::size_t n = job.options.data + job.options.parity;
  const std::size_t least = job.options.parity + 2;
  const std::size_t count = job.nodes.size();
  std::set<std::uint32_t> seen;
  std::size_t shortest = count;
  std::size_t longest = 0;
  for (const Group& group : groups) {
    const std::size_t size = group.members.size();
    seen.insert(group.members.begin(), group.members.end());
    shortest = std::min(shortest, size);
    longest = std::max(longest, size);
    ASSERT_EQ(group.parity, std::min<std::size_t>(job.options.parity, size - 1));
    ASSERT_EQ(group.data + group.parity, size);
    ASSERT_EQ(group.reduced, group.parity < job.options.parity);
    ASSERT_LE(size, kMaxMembers);
  }
  ASSERT_EQ(seen.size(), count);  // each node once
  ASSERT_LE(longest - shortest, 1u);
  ASSERT_TRUE(shortest >= least || groups.size() == 1);
  // As many as the rule says: one more would be too many.
  ASSERT_TRUE(groups.size() == (count + n - 1) / n || count / (groups.size() + 1) < least);
}

void ExpectDomainsNamed(const Job& job, const std::vector<Group>& groups) {
  for (const Group& group : groups) {
    std::map<std::string, std::size_t> here;
    for (const std::uint32_t member : group.members) {
      ++here[job.nodes[member].failure_domain];
    }
    std::vector<std::string> uncovered;
    for (const auto& [domain, count] : here) {
      if (count > group.parity) {
        uncovered.push_back(domain);
      }
      if (job.stages == 1) {
        // Like nodes are spread as evenly as can be.
        const std::size_t even = (job.domains.at(domain) + groups.size() - 1) / groups.size();
        ASSERT_LE(count, even) << domain;
      }
    }
    ASSERT_EQ(group.uncovered_domains, uncovered);
  }
}

void ExpectFewMixed(const Job& job, const std::vector<Group>& groups) {
  std::set<std::vector<ByteCount>> all;
  std::size_t mixed = 0;
  for (const Group& group : groups) {
    std::set<std::vector<ByteCount>> here;
    for (const std::uint32_t member : group.members) {
      here.insert(job.nodes[member].shard_bytes);
    }
    all.insert(here.begin(), here.end());
    mixed += here.size() > 1 ? 1 : 0;
  }
  ASSERT_LT(mixed, all.size());
}

TEST(GroupingTest, RandomJobsAreGroupedByTheRules) {
  constexpr unsigned kSeed = 4711;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 1500; ++round) {
    Job job = RandomJob(random, round % 3 == 0 ? 12 : 150);
    if (job.stages == 1) {
      for (Node& node : job.nodes) {
        node.shard_bytes = {kGiB};
      }
    }
    SCOPED_TRACE("seed " + std::to_string(kSeed) + " round " + std::to_string(round) + ": " +
                 std::to_string(job.nodes.size()) + " nodes, " + std::to_string(job.options.data) +
                 "+" + std::to_string(job.options.parity));
    const auto groups = Groups(job.nodes, job.options);
    ExpectWellSized(job, groups);
    ExpectDomainsNamed(job, groups);
    ExpectFewMixed(job, groups);
    ASSERT_FALSE(HasFatalFailure());
    // The same nodes in another order make the same groups.
    const GroupsByUuid before = ByUuid(job, groups);
    std::shuffle(job.nodes.begin(), job.nodes.end(), random);
    ASSERT_EQ(ByUuid(job, Groups(job.nodes, job.options)), before);
  }
}

TEST(GroupingTest, LengthsThatAllDifferAreGroupedByLength) {
  // More lengths than are told apart; the longest shards still meet their like.
  Job job{.nodes = {}, .options = {.data = 8, .parity = 2}, .stages = 0, .domains = {}};
  ByteCount length = kMaxShardBytes;
  for (std::uint32_t i = 0; i < 400; ++i) {
    job.nodes.push_back({.uuid = Uuid(i), .shard_bytes = {length}, .failure_domain = {}});
    length -= length / 20;
  }
  const auto groups = Groups(job.nodes, job.options);
  ExpectWellSized(job, groups);
  std::size_t with_longest = 0;
  for (const Group& group : groups) {
    const auto [first, last] = std::minmax_element(group.members.begin(), group.members.end());
    with_longest += *last < 250 ? 1 : 0;
    EXPECT_TRUE(*last >= 250 || *last - *first == group.members.size() - 1);
  }
  EXPECT_EQ(with_longest, 25u);
  const GroupsByUuid before = ByUuid(job, groups);
  std::reverse(job.nodes.begin(), job.nodes.end());
  EXPECT_EQ(ByUuid(job, Groups(job.nodes, job.options)), before);
}

TEST(GroupingTest, LargeJobsWithStagesAndRacksAreCovered) {
  // 2,048 nodes in 8 stages; racks of 32 hold four nodes of each stage.
  std::vector<Node> nodes;
  for (std::uint32_t i = 0; i < 2048; ++i) {
    nodes.push_back({.uuid = Uuid(i),
                     .shard_bytes = std::vector<ByteCount>(8, 10 * kGiB * (10 + i % 8)),
                     .failure_domain = "rack" + std::to_string(i / 32)});
  }
  const auto groups = Groups(nodes, {.data = 8, .parity = 2});
  EXPECT_EQ(groups.size(), 205u);
  std::size_t uncovered = 0;
  for (const Group& group : groups) {
    uncovered += group.uncovered_domains.size();
  }
  EXPECT_EQ(uncovered, 0u);
}

}  // namespace
}  // namespace holdfast::ec
