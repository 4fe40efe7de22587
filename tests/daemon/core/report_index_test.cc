// What is counted as reports come is what all reports say, whatever came before.

#include "daemon/core/report_index.h"

#include <algorithm>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace holdfast::daemon {
namespace {

constexpr std::uint64_t kEpoch = 4;
constexpr std::uint32_t kParity = 2;

// Twelve nodes of two ranks in three groups, of which one is smaller; "spare" serves nobody.
struct Cluster {
  Cluster() {
    for (std::size_t i = 0; i < 12; ++i) {
      const std::string node = "node-" + std::to_string(100 + i);
      nodes.push_back(node);
      ranks_of[node] = {static_cast<Rank>(2 * i), static_cast<Rank>(2 * i + 1)};
    }
    Regroup({5, 5, 2});
    nodes.push_back("spare");
  }

  void Regroup(const std::vector<std::size_t>& sizes) {
    groups.clear();
    group_of.clear();
    ++version;
    auto next = ranks_of.begin();
    for (const std::size_t size : sizes) {
      GroupView group;
      group.parity = kParity;
      for (std::size_t i = 0; i < size; ++i, ++next) {
        group.nodes.push_back(next->first);
        group_of[next->first] = groups.size();
      }
      groups.push_back(group);
    }
  }

  ReportIndex::View View() const { return {ranks_of, groups, group_of, version, kEpoch}; }

  std::vector<std::string> nodes;
  std::map<std::string, std::vector<Rank>> ranks_of;
  std::vector<GroupView> groups;
  std::map<std::string, std::size_t> group_of;
  std::uint32_t version = 0;
};

using Reports = std::map<std::string, Report>;
using Name = std::pair<SnapshotKey, std::uint64_t>;

bool Serves(const Cluster& cluster, const std::string& node, Rank rank) {
  const auto ranks = cluster.ranks_of.find(node);
  return ranks != cluster.ranks_of.end() &&
         std::count(ranks->second.begin(), ranks->second.end(), rank) > 0;
}

// As the index says it, from the reports alone (I10).
bool IsWhole(const Cluster& cluster, const Report& report, const Name& name) {
  const auto group = cluster.group_of.find(report.node_uuid);
  if (group == cluster.group_of.end()) {
    return false;
  }
  std::set<Rank> known;
  for (const ShardEntry& shard : report.shards) {
    const bool here = Serves(cluster, report.node_uuid, shard.rank);
    if (Name(shard.id, shard.token) == name && here && shard.state == ShardEntry::State::kSealed) {
      known.insert(shard.rank);
    }
  }
  for (const SidecarEntry& sidecars : report.sidecars) {
    for (const Rank rank : sidecars.ranks) {
      if (Name(sidecars.id, sidecars.token) == name && !Serves(cluster, report.node_uuid, rank)) {
        known.insert(rank);
      }
    }
  }
  for (const std::string& member : cluster.groups[group->second].nodes) {
    for (const Rank rank : cluster.ranks_of.at(member)) {
      if (!known.contains(rank)) {
        return false;
      }
    }
  }
  std::set<std::uint32_t> done;
  std::set<std::uint32_t> statics_done;
  std::set<std::uint32_t> shared;
  for (const ParityEntry& parity : report.parity) {
    if (Name(parity.id, parity.token) == name && parity.epoch == kEpoch &&
        parity.version == cluster.version && parity.rows.size() == kParity) {
      (parity.kind == proto::STATIC ? statics_done : done).insert(parity.local_rank);
      if (parity.shares_static) {
        shared.insert(parity.local_rank);
      }
    }
  }
  return done == std::set<std::uint32_t>{0, 1} &&
         std::includes(statics_done.begin(), statics_done.end(), shared.begin(), shared.end());
}

std::map<SnapshotKey, ReportIndex::ByToken> Counted(const Cluster& cluster,
                                                    const Reports& reports) {
  std::map<SnapshotKey, ReportIndex::ByToken> ids;
  for (const auto& [node, report] : reports) {
    std::set<Name> names;
    for (const ShardEntry& shard : report.shards) {
      names.emplace(shard.id, shard.token);
      ReportIndex::Taken& taken = ids[shard.id][shard.token];
      ReportIndex::Holding& holding = taken.held[shard.rank];
      const bool sealed = shard.state == ShardEntry::State::kSealed;
      holding.sealed += sealed ? 1 : 0;
      holding.poisoned += shard.state == ShardEntry::State::kPoisoned ? 1 : 0;
      holding.filling += shard.state == ShardEntry::State::kFilling ? 1 : 0;
      const bool here = sealed && Serves(cluster, node, shard.rank);
      taken.at_servers += here ? 1 : 0;
      taken.measured += here && shard.image_bytes != 0 ? 1 : 0;
    }
    for (const Name& name : names) {
      if (IsWhole(cluster, report, name)) {
        ReportIndex::Taken& taken = ids[name.first][name.second];
        ++taken.whole_nodes;
        ++taken.whole[cluster.group_of.at(node)];
      }
    }
  }
  for (auto& [id, by_token] : ids) {
    for (auto& [token, taken] : by_token) {
      taken.sealed = static_cast<std::size_t>(
          std::count_if(taken.held.begin(), taken.held.end(), [](const auto& entry) {
            return entry.second.State() == ShardEntry::State::kSealed;
          }));
    }
  }
  return ids;
}

// A report that knows mostly all of a few ids: what is whole must come about, and end.
class Reporter {
 public:
  explicit Reporter(std::uint64_t seed) : random_(seed) {}

  bool Mostly() { return random_() % 16 != 0; }

  std::size_t Below(std::size_t end) { return random_() % end; }

  Report Make(const Cluster& cluster, const std::string& node) {
    Report report;
    report.node_uuid = node;
    for (const Step step : {1, 2, 3}) {
      if (Below(4) != 0) {
        AddId(cluster, {kEpoch, step}, 7 + Below(16) / 15, &report);
      }
    }
    return report;
  }

 private:
  void AddId(const Cluster& cluster, const SnapshotKey& id, std::uint64_t token, Report* report) {
    const auto own = cluster.ranks_of.find(report->node_uuid);
    std::vector<Rank> ranks = own == cluster.ranks_of.end() ? std::vector<Rank>() : own->second;
    if (!Mostly()) {
      ranks.push_back(static_cast<Rank>(30 + Below(4)));  // brought from elsewhere
    }
    for (const Rank rank : ranks) {
      const auto state =
          Mostly() ? ShardEntry::State::kSealed : static_cast<ShardEntry::State>(Below(3));
      if (Mostly()) {
        report->shards.push_back({id, rank, state, 24, token, Mostly() ? 1024U : 0U, Below(3)});
      }
    }
    SidecarEntry sidecars{id, token, {}};
    for (const auto& [node, others] : cluster.ranks_of) {
      sidecars.ranks.insert(sidecars.ranks.end(), others.begin(), others.end());
    }
    if (!Mostly()) {
      sidecars.ranks.erase(sidecars.ranks.begin() + static_cast<std::ptrdiff_t>(Below(24)));
    }
    report->sidecars.push_back(sidecars);
    for (const std::uint32_t local : {0U, 1U}) {
      const std::uint32_t version = Mostly() ? cluster.version : cluster.version - 1;
      std::set<std::uint32_t> rows{0, 1};
      rows.erase(Mostly() ? 2 : 1);
      const bool shares = Below(2) == 0;
      report->parity.push_back(
          {id, token, local, kEpoch, version, rows, std::nullopt, proto::DYNAMIC, shares});
      if (shares && Mostly()) {
        rows = Mostly() ? std::set<std::uint32_t>{0, 1} : std::set<std::uint32_t>{0};
        report->parity.push_back(
            {id, token, local, kEpoch, version, rows, std::nullopt, proto::STATIC, false});
      }
    }
  }

  std::mt19937_64 random_;
};

class ReportIndexTest : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  // The order of the starts in which they count: more ranks first, then the lower token.
  void ExpectSame(const ReportIndex& index, const Cluster& cluster, const Reports& reports) {
    const auto expected = Counted(cluster, reports);
    ASSERT_EQ(index.ids(), expected);
    for (const auto& [id, by_token] : expected) {
      std::size_t most = 0;
      std::uint64_t start = 0;
      for (const auto& [token, taken] : by_token) {
        start = taken.held.size() > most ? token : start;
        most = std::max(most, taken.held.size());
      }
      EXPECT_EQ(index.StartOf(id), start);
      EXPECT_EQ(*index.Find(id), by_token.at(start));
    }
  }
};

// I10, I1: nothing is remembered that the reports do not show.
TEST_P(ReportIndexTest, CountsWhatTheReportsSayWhateverCameBefore) {
  Cluster cluster;
  Reporter reporter(GetParam());
  ReportIndex index(cluster.View());
  Reports reports;
  std::size_t most_whole = 0;
  for (int i = 0; i < 300; ++i) {
    const std::string& node = cluster.nodes[reporter.Below(cluster.nodes.size())];
    switch (reporter.Below(12)) {
      case 0:
        index.Erase(node);
        reports.erase(node);
        break;
      case 1:
        cluster.Regroup(reporter.Below(2) == 0 ? std::vector<std::size_t>{5, 5, 2}
                                               : std::vector<std::size_t>{4, 4, 4});
        index.Rebuild(reports);
        break;
      default:
        reports[node] = reporter.Make(cluster, node);
        index.Put(reports[node]);
    }
    ExpectSame(index, cluster, reports);
    if (const auto* taken = index.Find({kEpoch, 2}); taken != nullptr) {
      most_whole = std::max(most_whole, taken->whole_nodes);
    }
  }
  EXPECT_GT(most_whole, 0U);  // the histories are not too poor to show it
}

// Who decides only where something can be decided relies on it.
TEST_P(ReportIndexTest, NamesTheIdsThatAReportChanged) {
  const Cluster cluster;
  Reporter reporter(GetParam());
  ReportIndex index(cluster.View());
  Reports reports;
  for (int i = 0; i < 200; ++i) {
    const std::string& node = cluster.nodes[reporter.Below(cluster.nodes.size())];
    const Reports before{{node, reports[node]}};
    reports[node] = reporter.Make(cluster, node);
    const Reports after{{node, reports[node]}};
    std::map<Name, bool> named;
    for (const ReportIndex::Touched& touched : index.Put(reports[node])) {
      EXPECT_TRUE(named.emplace(Name(touched.id, touched.token), touched.shrunk).second);
    }
    const auto was = Counted(cluster, before);
    const auto is = Counted(cluster, after);
    for (const Step step : {1, 2, 3}) {
      for (const std::uint64_t token : {7, 8}) {
        const auto of = [&](const auto& ids) {
          const auto id = ids.find({kEpoch, step});
          const bool has = id != ids.end() && id->second.contains(token);
          return has ? id->second.at(token) : ReportIndex::Taken();
        };
        const ReportIndex::Taken one = of(was);
        const ReportIndex::Taken other = of(is);
        const Name name({kEpoch, step}, token);
        if (!(one == other)) {
          EXPECT_TRUE(named.contains(name));
        }
        if (other.whole_nodes < one.whole_nodes || other.at_servers < one.at_servers) {
          EXPECT_TRUE(named.contains(name) && named.at(name));
        }
      }
    }
  }
}

// Without members every node serves what it has: a job of one node.
TEST(ReportIndexShapeTest, WithoutMembersEachNodeServesWhatItHas) {
  Cluster cluster;
  cluster.ranks_of.clear();
  cluster.groups.clear();
  cluster.group_of.clear();
  ReportIndex index(cluster.View());
  Report report;
  report.node_uuid = "alone";
  report.shards.push_back({{1, 1}, 3, ShardEntry::State::kSealed, 4, 7, 1024, 0});
  index.Put(report);
  EXPECT_EQ(index.Find({1, 1})->at_servers, 1U);
  EXPECT_EQ(index.Find({1, 1})->measured, 1U);
}

// A report that names a shard twice does not make it two.
TEST(ReportIndexShapeTest, AShardThatIsNamedTwiceCountsOnce) {
  const Cluster cluster;
  ReportIndex index(cluster.View());
  Report report;
  report.node_uuid = cluster.nodes[0];
  report.shards.push_back({{1, 1}, 0, ShardEntry::State::kFilling, 0, 7, 0, 0});
  report.shards.push_back({{1, 1}, 0, ShardEntry::State::kSealed, 24, 7, 1024, 0});
  index.Put(report);
  EXPECT_EQ(index.Find({1, 1})->at_servers, 1U);
  EXPECT_EQ(index.Find({1, 1})->held.at(0), (ReportIndex::Holding{1, 0, 0}));
}

INSTANTIATE_TEST_SUITE_P(Seeds,
                         ReportIndexTest,
                         ::testing::Range(std::uint64_t{1}, std::uint64_t{9}),
                         [](const auto& test) { return "Seed" + std::to_string(test.param); });

}  // namespace
}  // namespace holdfast::daemon
