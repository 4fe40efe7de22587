// What all data planes share: blocks, depth, the first error, budget and cancellation; and the
// plane over the peers' connection.
#include <algorithm>
#include <vector>

#include <gmock/gmock.h>

#include "common/bandwidth_budget.h"
#include "tests/support/bulk_bytes.h"
#include "tests/support/fault_range_reader.h"
#include "tests/transport/peer_fixture.h"
#include "transport/rpc_range_reader.h"

namespace holdfast::transport {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

class RangeReaderTest : public PeerTest {
 protected:
  static std::vector<std::byte> Pattern(std::size_t size) {
    std::vector<std::byte> bytes(size);
    FillPattern(bytes);
    return bytes;
  }

  static ReadOptions Within(milliseconds limit, std::size_t depth = 4) {
    ReadOptions options;
    options.deadline = Clock::now() + limit;
    options.depth = depth;
    return options;
  }

  [[nodiscard]] Status Read(RangeReader* reader,
                            ByteCount offset,
                            MutableByteView into,
                            ReadOptions options) {
    return RunToEnd(reader->Read(offset, into, options));
  }
};

TEST_F(RangeReaderTest, ReadsInBlocksWithABoundedNumberInFlight) {
  FaultRangeReader reader(Pattern(1'000), 64);
  reader.faults = [](ByteCount, ByteCount size) {
    EXPECT_LE(size, 64U);
    FaultRangeReader::Fault fault;
    fault.delay = milliseconds(1);
    return fault;
  };
  std::vector<std::byte> into(900);
  ASSERT_TRUE(Read(&reader, 50, into, Within(milliseconds(10'000))).has_value());
  EXPECT_EQ(FirstOdd(into, 50), into.size());
  EXPECT_EQ(reader.blocks, 15U);
  EXPECT_EQ(reader.most, 4U);
}

TEST_F(RangeReaderTest, NothingBeyondTheEndIsAskedFor) {
  FaultRangeReader reader(Pattern(100), 64);
  std::vector<std::byte> into(2);
  for (const ByteCount offset : {ByteCount{99}, ByteCount{101}, ~ByteCount{0}}) {
    const Status done = Read(&reader, offset, into, Within(milliseconds(1'000)));
    ASSERT_FALSE(done.has_value());
    EXPECT_EQ(done.error().code, Errc::kInvalidArgument);
  }
  EXPECT_EQ(reader.blocks, 0U);
  EXPECT_TRUE(Read(&reader, 100, MutableByteView(), Within(milliseconds(1'000))).has_value());
}

TEST_F(RangeReaderTest, TheFirstErrorEndsItAfterTheBlocksInFlight) {
  FaultRangeReader reader(Pattern(6'400), 64);
  reader.faults = [](ByteCount offset, ByteCount) {
    FaultRangeReader::Fault fault;
    fault.delay = milliseconds(1);
    if (offset == 320) {  // the sixth block
      fault.error = Error(Errc::kNotFound, "gone");
    }
    return fault;
  };
  std::vector<std::byte> into(6'400);
  const Status done = Read(&reader, 0, into, Within(milliseconds(10'000)));
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, Errc::kNotFound);
  EXPECT_EQ(reader.in_flight, 0U);
  EXPECT_LT(reader.blocks, 15U);
}

TEST_F(RangeReaderTest, ACancellationReachesTheBlocksInFlight) {
  FaultRangeReader reader(Pattern(6'400), 64);
  reader.faults = [](ByteCount, ByteCount) {
    FaultRangeReader::Fault fault;
    fault.hang = true;
    return fault;
  };
  std::vector<std::byte> into(6'400);
  std::optional<Status> out;
  Start(reader.Read(0, into, Within(milliseconds(60'000))), &out);
  ASSERT_TRUE(RunUntil([&] { return reader.in_flight == 4; }));
  tasks_.Cancel();
  ASSERT_TRUE(RunUntil([&] { return out.has_value(); }));
  ASSERT_FALSE(out->has_value());
  EXPECT_EQ(out->error().code, Errc::kCancelled) << out->error().ToString();
  EXPECT_EQ(reader.in_flight, 0U);
  EXPECT_EQ(reader.blocks, 4U);
}

TEST_F(RangeReaderTest, ABudgetSlowsItDownToItsRate) {
  FaultRangeReader reader(Pattern(64'000), 1'000);
  BandwidthBudget budget(100'000);  // of which a quarter is there at once
  ReadOptions options = Within(milliseconds(10'000));
  options.budget = &budget;
  std::vector<std::byte> into(64'000);
  const auto began = Clock::now();
  ASSERT_TRUE(Read(&reader, 0, into, options).has_value());
  EXPECT_GE(Clock::now() - began, milliseconds(380));
  EXPECT_EQ(FirstOdd(into, 0), into.size());
}

TEST_F(RangeReaderTest, ABudgetThatDoesNotReachSaysSoAtOnce) {
  FaultRangeReader reader(Pattern(64'000), 64'000);
  BandwidthBudget budget(1);
  ReadOptions options = Within(milliseconds(5'000));
  options.budget = &budget;
  std::vector<std::byte> into(64'000);
  const auto began = Clock::now();
  const Status done = Read(&reader, 0, into, options);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, Errc::kTimeout);
  EXPECT_THAT(done.error().message, HasSubstr("bandwidth budget"));
  EXPECT_LT(Clock::now() - began, milliseconds(2'000));
  EXPECT_EQ(reader.blocks, 0U);
}

class RpcRangeReaderTest : public RangeReaderTest {
 protected:
  RpcRangeReaderTest() {
    b_.Listen();
    client_ = Connected(&a_, &b_);
  }

  ~RpcRangeReaderTest() override {
    End(client_.get());
    End(&b_);
  }

  static Node::Options Named(char name) {
    Node::Options options;
    options.name = name;
    return options;
  }

  [[nodiscard]] RpcRangeReader ReaderOf(ByteCount length) const {
    return {client_.get(), ReadOf(0, 1).read_range().key(), length, "node b"};
  }

  Node a_{io_, Named('a')};
  Node b_{io_, Named('b')};
  std::unique_ptr<PeerClient> client_;
};

TEST_F(RpcRangeReaderTest, ReadsOverThePeersConnectionInBlocksOfFourMebibytes) {
  RpcRangeReader reader = ReaderOf(100 * kMiB);
  std::vector<std::byte> into(9 * kMiB);
  const Status done = Read(&reader, 26 * kMiB, into, Within(milliseconds(20'000)));
  ASSERT_TRUE(done.has_value()) << done.error().ToString();
  ASSERT_EQ(b_.arrived.size(), 3U);
  std::vector<std::uint64_t> lengths;
  for (const proto::PeerRequest& request : b_.arrived) {
    lengths.push_back(request.read_range().length());
    // The node answers with a letter that follows from the offset.
    const std::size_t at = request.read_range().offset() - 26 * kMiB;
    const auto letter = static_cast<std::byte>('A' + request.read_range().offset() % 26);
    EXPECT_TRUE(AllAre(ByteView(into).subspan(at, lengths.back()), letter));
  }
  std::sort(lengths.begin(), lengths.end());
  EXPECT_EQ(lengths, (std::vector<std::uint64_t>{kMiB, 4 * kMiB, 4 * kMiB}));
}

TEST_F(RpcRangeReaderTest, APeerThatDoesNotAnswerIsATimeoutWithItsName) {
  b_.hold = true;
  RpcRangeReader reader = ReaderOf(kMiB);
  std::vector<std::byte> into(kMiB);
  const Status done = Read(&reader, 0, into, Within(milliseconds(200)));
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code, Errc::kTimeout);
  EXPECT_THAT(done.error().message, HasSubstr("node b over the peer connection"));
}

TEST_F(RpcRangeReaderTest, ACancelledReadWritesNothingAfterwards) {
  b_.hold = true;
  b_.deaf = true;
  RpcRangeReader reader = ReaderOf(kMiB);
  std::vector<std::byte> into(kMiB, std::byte{0x5a});
  std::optional<Status> out;
  Start(reader.Read(0, into, Within(milliseconds(60'000))), &out);
  ASSERT_TRUE(RunUntil([&] { return b_.held.size() == 1; }));
  tasks_.Cancel();
  ASSERT_TRUE(RunUntil([&] { return out.has_value(); }));
  EXPECT_EQ(out->error().code, Errc::kCancelled);
  b_.LetGo(0);
  ASSERT_TRUE(RunUntil([&] { return client_->channel()->calls() == 0; }));
  EXPECT_TRUE(AllAre(into, std::byte{0x5a}));
}

}  // namespace
}  // namespace holdfast::transport
