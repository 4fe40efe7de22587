#include "tests/daemon/pipeline/group_fixture.h"

#include <algorithm>

#include <boost/asio/post.hpp>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/with_timeout.h"
#include "tests/ec/groups.h"
#include "tests/support/bulk_bytes.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using std::chrono::milliseconds;

asio::awaitable<Result<FedWindow>> LocalFeedCalls::Next(std::uint64_t number,
                                                        transport::Deadline deadline) {
  if (delay.count() > 0) {
    HF_CO_TRYV(co_await SleepFor(delay));
  }
  if (fault) {
    std::optional<Error> error = fault(number);
    if (error.has_value()) {
      co_return *error;
    }
  }
  auto told = co_await feed_->Next(lane_, number, deadline);
  if (told.has_value() && alter) {
    alter(&told.value());
  }
  co_return told;
}

TestGroup::TestGroup(const ec::CodeParams& code, const std::vector<ByteCount>& shard_bytes)
    : group(CodedGroup::Make(ec::GeometryOf(code, shard_bytes)).value()) {
  for (std::uint32_t position = 0; position < n(); ++position) {
    std::vector<std::byte> image(shard_bytes[position]);
    FillPattern(image, position + 1);
    digests.push_back(
        DigestedBytes::Make("rank " + std::to_string(position), image.size(), ChunkDigests(image))
            .value());
    images.push_back(std::move(image));
  }
  rows.resize(n());
  for (std::uint32_t stripe = 0; stripe < n(); ++stripe) {
    rows[stripe].resize(m());
  }
}

std::vector<std::byte> TestGroup::Vector(std::uint32_t stripe, std::uint32_t index) const {
  if (index >= k()) {
    return rows[stripe][index - k()].bytes;
  }
  const std::uint32_t position = group->stripes.PositionOf(stripe, index);
  const ByteCount offset =
      group->stripes.SegmentOf(stripe, position) * group->stripes.SegmentBytes();
  const ByteCount length = group->stripes.VectorLength(stripe, index);
  if (length == 0) {
    return {};
  }
  const auto first = images[position].begin() + static_cast<std::ptrdiff_t>(offset);
  return {first, first + static_cast<std::ptrdiff_t>(length)};
}

void TestGroup::FillRows() {
  for (std::uint32_t stripe = 0; stripe < n(); ++stripe) {
    std::vector<std::vector<std::byte>> segments;
    std::vector<ByteView> views;
    for (std::uint32_t column = 0; column < k(); ++column) {
      segments.push_back(Vector(stripe, column));
      views.emplace_back(segments.back());
    }
    for (std::uint32_t row = 0; row < m(); ++row) {
      StoredRow& stored = rows[stripe][row];
      stored.bytes.resize(group->stripes.RowLength(stripe));
      HOLDFAST_CHECK(group->codec.EncodeRow(row, views, stored.bytes).has_value());
      stored.crc32c = ChunkDigests(stored.bytes);
    }
  }
}

std::vector<ByteCount> UnevenLengths(std::uint32_t n, std::uint32_t k) {
  const ByteCount full = k * kMiB;
  const ByteCount some[] = {full, full - 1, 1, full / 10, 0, kMiB + 1, kMiB - 1, kMiB};
  std::vector<ByteCount> lengths;
  for (std::uint32_t position = 0; position < n; ++position) {
    lengths.push_back(std::min(full, some[position % std::size(some)]));
  }
  return lengths;
}

// NOLINTNEXTLINE(bugprone-exception-escape): as in the header
GroupTest::~GroupTest() {
  CancelAndEnd();
}

void GroupTest::CancelAndEnd() {
  bool cancelled = false;
  asio::post(io_, [&] {  // lint: allow(post) into the loop, not out of it
    tasks_.Cancel();
    cancelled = true;
  });
  EXPECT_TRUE(RunUntil([&] { return cancelled && tasks_.size() == 0; }));
}

ProtectOptions GroupTest::SmallWindows() {
  ProtectOptions options;
  options.window_bytes = kMiB;
  options.windows_in_flight = 2;
  options.windows_lent = 2;
  return options;
}

bool GroupTest::RunUntil(const std::function<bool()>& done) {
  io_.restart();
  const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!done() && std::chrono::steady_clock::now() < until) {
    io_.run_one_for(milliseconds(20));
    io_.restart();
  }
  return done();
}

std::shared_ptr<transport::RangeReader> GroupTest::ImageBytes(const TestGroup& group,
                                                              std::uint32_t reader,
                                                              std::uint32_t holder) {
  auto& bytes = readers_[{reader, holder}];
  if (bytes == nullptr) {
    bytes = std::make_shared<FaultRangeReader>(ByteView(group.images[holder]));
  }
  return bytes;
}

std::shared_ptr<transport::RangeReader> GroupTest::RowBytes(const TestGroup& group,
                                                            std::uint32_t,
                                                            std::uint32_t stripe,
                                                            std::uint32_t row) {
  auto& bytes = row_readers_[{stripe, row}];
  if (bytes == nullptr) {
    bytes = std::make_shared<FaultRangeReader>(ByteView(group.rows[stripe][row].bytes));
  }
  return bytes;
}

std::shared_ptr<transport::RangeReader> GroupTest::RingBytes(const TestGroup&,
                                                             std::uint32_t,
                                                             std::uint32_t row,
                                                             const StripeRun& run) {
  return run.rings[row];
}

std::shared_ptr<ShardReader> GroupTest::ReaderOf(const TestGroup& group,
                                                 std::uint32_t reader,
                                                 std::uint32_t holder) {
  return PeerShardReader::Make(&cpu_, group.digests[holder], ImageBytes(group, reader, holder))
      .value();
}

std::shared_ptr<ShardReader> GroupTest::RowReaderOf(const TestGroup& group,
                                                    std::uint32_t reader,
                                                    std::uint32_t stripe,
                                                    std::uint32_t row) {
  const StoredRow& stored = group.rows[stripe][row];
  const std::string name = "row " + std::to_string(row) + " of stripe " + std::to_string(stripe);
  const auto digests = DigestedBytes::Make(name, stored.bytes.size(), stored.crc32c).value();
  return PeerShardReader::Make(&cpu_, digests, RowBytes(group, reader, stripe, row)).value();
}

std::shared_ptr<GroupSources> GroupTest::Sources(const TestGroup& group,
                                                 const std::vector<std::uint32_t>& lost,
                                                 std::uint32_t reader) {
  auto sources = std::make_shared<GroupSources>(GroupSources::None(group.group->stripes));
  for (std::uint32_t position = 0; position < group.n(); ++position) {
    if (std::find(lost.begin(), lost.end(), position) != lost.end()) {
      continue;
    }
    sources->shards[position] = ReaderOf(group, reader, position);
    for (std::uint32_t stripe = 0; stripe < group.n(); ++stripe) {
      const std::uint32_t index = group.group->stripes.IndexAt(stripe, position);
      if (index >= group.k()) {
        sources->rows[stripe][index - group.k()] =
            RowReaderOf(group, reader, stripe, index - group.k());
      }
    }
  }
  return sources;
}

std::shared_ptr<WindowFeed> GroupTest::FeedOf(const FeedShape& shape) {
  return WindowFeed::Make(io_.get_executor(), shape, std::vector<std::byte>(shape.MemoryBytes()));
}

std::shared_ptr<FaultRangeReader> GroupTest::RingOf(const std::shared_ptr<WindowFeed>& feed) {
  return std::make_shared<FaultRangeReader>(feed->memory());
}

bool GroupTest::StripeRun::Ended() const {
  return made.has_value() && std::all_of(pulled.begin() + 1, pulled.end(), [](const auto& row) {
           return row.has_value();
         });
}

std::unique_ptr<GroupTest::StripeRun> GroupTest::Prepare(const TestGroup& group,
                                                         std::uint32_t stripe,
                                                         const ProtectOptions& options) {
  auto run = std::make_unique<StripeRun>();
  run->feed = FeedOf(RowFeedShape(*group.group, stripe, options));
  run->rows.resize(group.m());
  run->calls.resize(group.m());
  run->rings.resize(group.m());
  run->pulled.resize(group.m());
  for (std::uint32_t row = 0; row < group.m(); ++row) {
    run->rows[row].bytes.resize(group.group->stripes.RowLength(stripe));
    if (row > 0) {
      run->calls[row] = std::make_shared<LocalFeedCalls>(run->feed, row - 1);
      run->rings[row] = RingOf(run->feed);
    }
  }
  return run;
}

void GroupTest::StartStripe(const TestGroup& group,
                            std::uint32_t stripe,
                            const ProtectOptions& options,
                            StripeRun* run) {
  const ec::Stripes& stripes = group.group->stripes;
  const std::uint32_t owner = stripes.FirstOwner(stripe);
  std::vector<std::shared_ptr<ShardReader>> shards(group.n());
  for (std::uint32_t position = 0; position < group.n(); ++position) {
    if (stripes.IndexAt(stripe, position) < group.k()) {
      shards[position] = ReaderOf(group, owner, position);
    }
  }
  StripeToProtect work(group.group, stripe, std::move(shards), run->rows[0].bytes, run->feed);
  Start(ProtectStripe(&cpu_, std::move(work), options, &run->fault), &run->made);
  for (std::uint32_t row = 1; row < group.m(); ++row) {
    PullOptions pull = pull_;
    pull.window_bytes = options.window_bytes;
    FeedSource source{run->calls[row], RingBytes(group, stripe, row, *run)};
    Start(PullVector(&cpu_, std::move(source), run->rows[row].bytes, {}, pull), &run->pulled[row]);
  }
}

void GroupTest::ProtectAll(TestGroup* group, const ProtectOptions& options) {
  std::vector<std::unique_ptr<StripeRun>> runs;
  for (std::uint32_t stripe = 0; stripe < group->n(); ++stripe) {
    runs.push_back(Prepare(*group, stripe, options));
    StartStripe(*group, stripe, options, runs.back().get());
  }
  ASSERT_TRUE(RunUntil([&runs] {
    return std::all_of(runs.begin(), runs.end(), [](const auto& run) { return run->Ended(); });
  }));
  for (std::uint32_t stripe = 0; stripe < group->n(); ++stripe) {
    StripeRun& run = *runs[stripe];
    ASSERT_TRUE(run.made->has_value()) << run.made->error().ToString();
    for (std::uint32_t row = 0; row < group->m(); ++row) {
      run.rows[row].crc32c = run.made->value().row_crc32c[row];
      EXPECT_EQ(run.rows[row].crc32c, ChunkDigests(run.rows[row].bytes));
      EXPECT_TRUE(run.made->value().taken[row]);
      if (row > 0) {
        ASSERT_TRUE(run.pulled[row]->has_value()) << run.pulled[row]->error().ToString();
        EXPECT_EQ(run.pulled[row]->value(), run.rows[row].crc32c);
      }
      group->rows[stripe][row] = std::move(run.rows[row]);
    }
  }
}

}  // namespace holdfast::daemon
