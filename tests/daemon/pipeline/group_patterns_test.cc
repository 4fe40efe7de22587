// Protect and rebuild of whole groups with real bytes: whatever is lost, up to m members, comes
// back bit for bit (I10).

#include <algorithm>
#include <bit>
#include <numeric>
#include <random>

#include "common/crc32c.h"
#include "tests/daemon/pipeline/group_fixture.h"
#include "tests/support/bulk_bytes.h"
#include "tests/support/sanitized.h"

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

class GroupPatternsTest : public GroupTest {
 protected:
  static ShardReadOptions Soon() {
    ShardReadOptions options;
    options.deadline = Clock::now() + seconds(50);
    return options;
  }

  void ExpectProtected(TestGroup* group, const ProtectOptions& options) {
    TestGroup reference = *group;
    reference.FillRows();
    ProtectAll(group, options);
    for (std::uint32_t stripe = 0; stripe < group->n(); ++stripe) {
      for (std::uint32_t row = 0; row < group->m(); ++row) {
        EXPECT_TRUE(SameBytes(group->rows[stripe][row].bytes, reference.rows[stripe][row].bytes));
        EXPECT_EQ(group->rows[stripe][row].crc32c, reference.rows[stripe][row].crc32c);
      }
    }
  }

  void ExpectShardComesBack(const TestGroup& group,
                            std::uint32_t position,
                            const SharedSources& sources) {
    RebuildOptions options;
    options.window_bytes = kMiB;
    const auto reader = RebuildReader::Make(
        &cpu_, group.digests[position], group.group, position, sources, options);
    ASSERT_TRUE(reader.has_value()) << reader.error().ToString();
    std::vector<std::byte> image(group.images[position].size());
    const Status read = RunToEnd(reader.value()->ReadRange(0, image, Soon()));
    ASSERT_TRUE(read.has_value()) << read.error().ToString();
    EXPECT_TRUE(SameBytes(image, group.images[position]));
  }

  void ExpectRowsComeBack(const TestGroup& group,
                          std::uint32_t position,
                          const SharedSources& sources) {
    RebuildRowOptions options;
    options.rebuild.window_bytes = kMiB;
    for (std::uint32_t stripe = 0; stripe < group.n(); ++stripe) {
      const std::uint32_t index = group.group->stripes.IndexAt(stripe, position);
      if (index < group.k()) {
        continue;
      }
      const StoredRow& stored = group.rows[stripe][index - group.k()];
      std::vector<std::byte> row(stored.bytes.size());
      const auto digests = RunToEnd(
          RebuildRow(&cpu_, group.group, sources, stripe, index - group.k(), row, options));
      ASSERT_TRUE(digests.has_value()) << digests.error().ToString();
      EXPECT_TRUE(SameBytes(row, stored.bytes));
      EXPECT_EQ(digests.value(), stored.crc32c);
    }
  }

  void ExpectAllComesBack(const TestGroup& group, const std::vector<std::uint32_t>& lost) {
    const SharedSources sources = Sources(group, lost, 99);
    for (const std::uint32_t position : lost) {
      ExpectShardComesBack(group, position, sources);
      ExpectRowsComeBack(group, position, sources);
    }
  }

  static std::vector<std::uint32_t> BitsOf(std::uint32_t mask) {
    std::vector<std::uint32_t> bits;
    for (std::uint32_t bit = 0; bit < 32; ++bit) {
      if ((mask >> bit & 1U) != 0) {
        bits.push_back(bit);
      }
    }
    return bits;
  }
};

class EveryLossTest
    : public GroupPatternsTest,
      public ::testing::WithParamInterface<std::pair<std::uint32_t, std::uint32_t>> {};

// I10.
TEST_P(EveryLossTest, OfUnevenShardsIsRebuilt) {
  const auto [n, m] = GetParam();
  ec::CodeParams code;
  code.data = n - m;
  code.parity = m;
  TestGroup group(code, UnevenLengths(n, code.data));
  ExpectProtected(&group, SmallWindows());
  for (std::uint32_t mask = 1; mask < (1U << n) && !HasFailure(); ++mask) {
    if (static_cast<std::uint32_t>(std::popcount(mask)) <= m) {
      ExpectAllComesBack(group, BitsOf(mask));
    }
  }
}

std::vector<std::pair<std::uint32_t, std::uint32_t>> AllGroups() {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> groups;
  for (std::uint32_t n = 2; n <= UnlessSanitized(8U, 6U); ++n) {
    for (std::uint32_t m = 1; m <= std::min(3U, n - 1); ++m) {
      groups.emplace_back(n, m);
    }
  }
  return groups;
}

std::string NameOf(const ::testing::TestParamInfo<std::pair<std::uint32_t, std::uint32_t>>& info) {
  return std::to_string(info.param.first - info.param.second) + "Plus" +
         std::to_string(info.param.second);
}

INSTANTIATE_TEST_SUITE_P(UpToEightMembers, EveryLossTest, ::testing::ValuesIn(AllGroups()), NameOf);

// I10.
TEST_F(GroupPatternsTest, RandomLossesOfLargerGroupsAreRebuilt) {
  std::mt19937 random(7);  // NOLINT(cert-msc51-cpp): the same losses in every run
  const std::pair<std::uint32_t, std::uint32_t> codes[] = {{9, 2}, {13, 3}, {12, 4}};
  for (const auto& [k, m] : codes) {
    ec::CodeParams code;
    code.data = k;
    code.parity = m;
    TestGroup group(code, UnevenLengths(k + m, k));
    readers_.clear();
    row_readers_.clear();
    ExpectProtected(&group, SmallWindows());
    for (int pattern = 0; pattern < 4 && !HasFailure(); ++pattern) {
      std::vector<std::uint32_t> all(k + m);
      std::iota(all.begin(), all.end(), 0U);
      std::shuffle(all.begin(), all.end(), random);
      all.resize(m);
      ExpectAllComesBack(group, all);
    }
  }
}

TEST_F(GroupPatternsTest, TenToOneShardsAndLengthsAroundAChunkAreRebuilt) {
  const ByteCount lengths[][5] = {
      {10 * kMiB, kMiB, 10 * kMiB - 1, kMiB + 1, kMiB - 1},
      {3 * kMiB + 1, 3 * kMiB - 1, 3 * kMiB, 1, 0},
      {5, 4, 3, 2, 1},
      {0, 0, 2 * kMiB + 7, 0, 0},
      {0, 0, 0, 0, 0},
  };
  ec::CodeParams code;
  code.data = 3;
  code.parity = 2;
  ProtectOptions options = SmallWindows();
  options.window_bytes = 2 * kMiB;
  for (const auto& row : lengths) {
    TestGroup group(code, {row, row + 5});
    readers_.clear();
    row_readers_.clear();
    ExpectProtected(&group, options);
    for (std::uint32_t mask = 1; mask < 32 && !HasFailure(); ++mask) {
      if (std::popcount(mask) <= 2) {
        ExpectAllComesBack(group, BitsOf(mask));
      }
    }
  }
}

// One more than m: an error that names what is missing, and never bytes.
TEST_F(GroupPatternsTest, OneLossTooManyIsAnError) {
  ec::CodeParams code;
  code.data = 3;
  code.parity = 2;
  TestGroup group(code, std::vector<ByteCount>(5, 3 * kMiB));
  group.FillRows();
  const auto reader = RebuildReader::Make(
      &cpu_, group.digests[1], group.group, 1, Sources(group, {0, 1, 2}, 99), RebuildOptions());
  std::vector<std::byte> image(3 * kMiB);
  const Status read = RunToEnd(reader.value()->ReadRange(0, image, Soon()));
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kUnavailable);
}

// Each byte goes over the wire as often as docs/peers.md says, exactly.
TEST_F(GroupPatternsTest, ProtectingReadsExactlyItsBill) {
  ec::CodeParams code;
  code.data = 4;
  code.parity = 3;
  const ByteCount shard = 8 * kMiB;
  TestGroup group(code, std::vector<ByteCount>(7, shard));
  std::vector<std::unique_ptr<StripeRun>> runs;
  for (std::uint32_t stripe = 0; stripe < 7; ++stripe) {
    runs.push_back(Prepare(group, stripe, SmallWindows()));
    StartStripe(group, stripe, SmallWindows(), runs.back().get());
  }
  ASSERT_TRUE(RunUntil([&runs] {
    return std::all_of(runs.begin(), runs.end(), [](const auto& run) { return run->Ended(); });
  }));
  std::vector<ByteCount> in(7);
  for (const auto& [who, reader] : readers_) {
    in[who.first] += reader->bytes_read;
  }
  for (std::uint32_t stripe = 0; stripe < 7; ++stripe) {
    for (std::uint32_t row = 1; row < 3; ++row) {
      in[group.group->stripes.RowOwner(stripe, row)] += runs[stripe]->rings[row]->bytes_read;
    }
  }
  for (std::uint32_t position = 0; position < 7; ++position) {
    EXPECT_EQ(in[position], (4 + 3 - 1) * shard / 4);
    EXPECT_EQ(in[position], group.group->stripes.ProtectBytesIn(position));
  }
}

// Padding is not sent, and rows end with their longest segment.
TEST_F(GroupPatternsTest, UnevenShardsSendTheirOwnBytesOnly) {
  ec::CodeParams code;
  code.data = 4;
  code.parity = 1;
  TestGroup group(code, {8 * kMiB, 3 * kMiB + 5, 0, kMiB, 7});
  ProtectAll(&group, SmallWindows());
  std::vector<ByteCount> in(5);
  std::vector<ByteCount> out(5);
  for (const auto& [who, reader] : readers_) {
    in[who.first] += reader->bytes_read;
    out[who.second] += reader->bytes_read;
  }
  for (std::uint32_t position = 0; position < 5; ++position) {
    EXPECT_EQ(in[position], group.group->stripes.ProtectBytesIn(position));
    EXPECT_EQ(out[position], group.images[position].size());
  }
}

}  // namespace
}  // namespace holdfast::daemon
