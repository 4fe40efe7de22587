// A group of nodes in one process: images and rows with real bytes, which others reach through
// range readers that count, lag, hang, lie or end short as a test says.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>
#include <gtest/gtest.h>

#include "common/offload.h"
#include "common/task_group.h"
#include "daemon/pipeline/protect_stripe.h"
#include "daemon/pipeline/pull_vector.h"
#include "daemon/pipeline/rebuild.h"
#include "daemon/pipeline/rebuild_reader.h"
#include "daemon/pipeline/stored_readers.h"
#include "tests/support/fault_range_reader.h"

namespace holdfast::daemon {

using transport::FaultRangeReader;

// A taker's calls, in the process of its maker.
class LocalFeedCalls final : public FeedCalls {
 public:
  LocalFeedCalls(std::shared_ptr<WindowFeed> feed, std::size_t lane)
      : feed_(std::move(feed)), lane_(lane) {}

  [[nodiscard]] boost::asio::awaitable<Result<FedWindow>> Next(
      std::uint64_t number, transport::Deadline deadline) override;

  [[nodiscard]] std::string Describe() const override { return "the maker of a test"; }

  std::function<std::optional<Error>(std::uint64_t number)> fault;  // instead of asking
  std::function<void(FedWindow*)> alter;                            // what is answered
  std::chrono::milliseconds delay{0};

 private:
  const std::shared_ptr<WindowFeed> feed_;
  const std::size_t lane_;
};

struct StoredRow {
  std::vector<std::byte> bytes;
  std::vector<std::uint32_t> crc32c;
};

// One code set.
struct TestGroup {
  TestGroup(const ec::CodeParams& code, const std::vector<ByteCount>& shard_bytes);

  [[nodiscard]] std::uint32_t n() const { return group->stripes.Count(); }

  [[nodiscard]] std::uint32_t k() const { return group->stripes.Code().data; }

  [[nodiscard]] std::uint32_t m() const { return group->stripes.Code().parity; }

  // The bytes of vector "index" of "stripe", from the images alone.
  [[nodiscard]] std::vector<std::byte> Vector(std::uint32_t stripe, std::uint32_t index) const;

  // All rows by the codec in one call each: what protecting must give.
  void FillRows();

  SharedGroup group;
  std::vector<std::vector<std::byte>> images;
  std::vector<SharedDigests> digests;
  std::vector<std::vector<StoredRow>> rows;  // by stripe and row
};

// Shard lengths by position: full, empty, one byte, around a segment, a tenth.
[[nodiscard]] std::vector<ByteCount> UnevenLengths(std::uint32_t n, std::uint32_t k);

class GroupTest : public ::testing::Test {
 protected:
  ~GroupTest() override;  // NOLINT(bugprone-exception-escape): would end the test, as it should

  static ProtectOptions SmallWindows();

  // How bytes of others are reached: here from this process, remembered by who reads what.
  virtual std::shared_ptr<transport::RangeReader> ImageBytes(const TestGroup& group,
                                                             std::uint32_t reader,
                                                             std::uint32_t holder);
  virtual std::shared_ptr<transport::RangeReader> RowBytes(const TestGroup& group,
                                                           std::uint32_t reader,
                                                           std::uint32_t stripe,
                                                           std::uint32_t row);

  std::shared_ptr<ShardReader> ReaderOf(const TestGroup& group,
                                        std::uint32_t reader,
                                        std::uint32_t holder);
  std::shared_ptr<ShardReader> RowReaderOf(const TestGroup& group,
                                           std::uint32_t reader,
                                           std::uint32_t stripe,
                                           std::uint32_t row);

  // Everything that the members other than "lost" hold, each read by "reader".
  std::shared_ptr<GroupSources> Sources(const TestGroup& group,
                                        const std::vector<std::uint32_t>& lost,
                                        std::uint32_t reader);

  std::shared_ptr<WindowFeed> FeedOf(const FeedShape& shape);
  // The ring of a feed, as a taker reads it.
  std::shared_ptr<FaultRangeReader> RingOf(const std::shared_ptr<WindowFeed>& feed);

  // Starts a task whose result lands in "out".
  template <class T>
  void Start(boost::asio::awaitable<T> work, std::optional<T>* out) {
    ASSERT_TRUE(tasks_.Spawn(Store(std::move(work), out)));
  }

  template <class T>
  T RunToEnd(boost::asio::awaitable<T> work) {
    std::optional<T> out;
    Start(std::move(work), &out);
    EXPECT_TRUE(RunUntil([&out] { return out.has_value(); }));
    return std::move(*out);
  }

  // Cancels all tasks and runs until they have ended.  In the loop, as a daemon does it: a
  // cancellation from outside of it comes when its target may be gone.
  void CancelAndEnd();

  // False after a minute.
  [[nodiscard]] bool RunUntil(const std::function<bool()>& done);

  // One stripe with its pullers, all of which end.
  struct StripeRun {
    std::shared_ptr<WindowFeed> feed;
    std::vector<StoredRow> rows;                           // row 0, then those that were pulled
    std::vector<std::shared_ptr<LocalFeedCalls>> calls;    // by row, null for row 0
    std::vector<std::shared_ptr<FaultRangeReader>> rings;  // by row, null for row 0
    std::optional<SegmentFault> fault;
    std::optional<Result<ProtectedStripe>> made;
    std::vector<std::optional<Result<std::vector<std::uint32_t>>>> pulled;  // by row

    [[nodiscard]] bool Ended() const;
  };

  std::unique_ptr<StripeRun> Prepare(const TestGroup& group,
                                     std::uint32_t stripe,
                                     const ProtectOptions& options);
  // How a row's owner reaches the ring of the stripe's first owner.
  virtual std::shared_ptr<transport::RangeReader> RingBytes(const TestGroup& group,
                                                            std::uint32_t stripe,
                                                            std::uint32_t row,
                                                            const StripeRun& run);
  void StartStripe(const TestGroup& group,
                   std::uint32_t stripe,
                   const ProtectOptions& options,
                   StripeRun* run);

  // All stripes at once, as a group does it; the rows land in the group.
  void ProtectAll(TestGroup* group, const ProtectOptions& options);

  template <class T>
  static boost::asio::awaitable<void> Store(boost::asio::awaitable<T> work, std::optional<T>* out) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    out->emplace(co_await std::move(work));
  }

  boost::asio::io_context io_{1};
  WorkerPool cpu_{"cpu", 2};
  TaskGroup tasks_{io_.get_executor(), "test", 10'000};
  // By who reads and whose image it is.
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::shared_ptr<FaultRangeReader>> readers_;
  // By stripe and row.
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::shared_ptr<FaultRangeReader>> row_readers_;
  PullOptions pull_;
};

}  // namespace holdfast::daemon
