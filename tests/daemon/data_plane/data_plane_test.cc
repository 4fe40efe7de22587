// Bytes between two nodes of one process over libfabric's tcp, and over their connection where the
// fabric cannot: what is read is always what is stored, and nobody waits for a plane that is away.
#include "daemon/data_plane/data_plane.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "common/task_group.h"
#include "common/with_timeout.h"
#include "daemon/pipeline/stored_readers.h"
#include "tests/common/run_coroutine.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;
using Memory = std::shared_ptr<std::vector<std::byte>>;

constexpr const char* kProvider = "tcp;ofi_rxm";
const std::string kHolder(16, '\x02');

Memory Pattern(ByteCount size, unsigned seed) {
  auto memory = std::make_shared<std::vector<std::byte>>(size);
  for (ByteCount i = 0; i < size; ++i) {
    (*memory)[i] = static_cast<std::byte>((i * 31 + i / 4'096 + seed) & 0xff);
  }
  return memory;
}

proto::StoredKey KeyOf(std::int64_t step) {
  proto::StoredKey key;
  key.mutable_id()->set_job_uid(std::string(16, '\x01'));
  key.mutable_id()->set_incarnation(1);
  key.mutable_id()->set_step(step);
  key.mutable_image()->set_rank(0);
  return key;
}

class DataPlaneTest : public testing::Test {
 protected:
  void TearDown() override {
    tasks_.Stop();
    auto join = [this]() -> asio::awaitable<Status> {
      co_return co_await tasks_.Join(seconds(5)) ? Ok() : Status(Error(Errc::kTimeout, "hangs"));
    };
    EXPECT_TRUE(tests::RunCoroutine(io_, join()).has_value());
    reader_.Stop();
    holder_.Stop();
  }

  void Open(DataPlane* plane, const std::string& address, std::vector<std::string> planes) {
    DataPlaneOptions options;
    options.planes = std::move(planes);
    options.bind_address = address;
    const Status opened = plane->OpenBlocking(
        options, &pool_, [this](const proto::StoredKey& key) { return Find(key); });
    ASSERT_TRUE(opened.has_value()) << opened.error().ToString();
  }

  void OpenBoth() {
    Open(&reader_, "127.0.1.1", {kProvider, "tls"});
    Open(&holder_, "127.0.1.2", {kProvider, "tls"});
    ASSERT_NE(reader_.reading(), nullptr) << "no libfabric";
    ASSERT_NE(holder_.lending(), nullptr);
    ASSERT_TRUE(tasks_.Spawn(holder_.Watch()));
  }

  Result<StoredBytesView> Find(const proto::StoredKey& key) {
    const auto found = stored_.find(key.id().step());
    if (found == stored_.end()) {
      return Error(Errc::kNotFound, "not here");
    }
    return StoredBytesView{*found->second, found->second};
  }

  // What the holder's daemon answers.
  asio::awaitable<Result<proto::PeerReply>> Answer(proto::PeerRequest request) {
    proto::PeerReply reply;
    if (request.has_lend()) {
      ++lends_;
      while (hold_lends_) {
        HF_CO_TRYV(co_await SleepFor(milliseconds(1)));
      }
      if (region_.has_value()) {
        *reply.mutable_lend()->mutable_region() = *region_;
        co_return reply;
      }
      HF_CO_TRY(*reply.mutable_lend(), co_await holder_.Lend(request.lend(), seconds(5)));
      co_return reply;
    }
    ++reads_;
    HF_CO_TRY(const StoredBytesView stored, Find(request.read_range().key()));
    const auto* first = reinterpret_cast<const char*>(stored.bytes.data());
    reply.mutable_read_range()->set_data(first + request.read_range().offset(),
                                         request.read_range().length());
    for (const std::uint32_t crc : ChunkDigests(AsBytes(reply.read_range().data()))) {
      reply.mutable_read_range()->add_chunk_crc32c(crc);
    }
    co_return reply;
  }

  std::shared_ptr<transport::RangeReader> ReaderOf(std::int64_t step) {
    NodeCall call = [this](std::string, proto::PeerRequest request, milliseconds) {
      return Answer(std::move(request));
    };
    return reader_.Reader(std::move(call), kHolder, KeyOf(step), stored_.at(step)->size());
  }

  Status Read(transport::RangeReader* from,
              std::vector<std::byte>* into,
              milliseconds limit = seconds(20)) {
    into->assign(from->length(), std::byte{0});
    transport::ReadOptions options;
    options.deadline = Clock::now() + limit;
    return tests::RunCoroutine(io_, from->Read(0, *into, options));
  }

  void Pass(milliseconds time) { (void)tests::RunCoroutine(io_, SleepFor(time)); }

  asio::io_context io_{1};
  DataPlane reader_{io_.get_executor()};
  DataPlane holder_{io_.get_executor()};
  WorkerPool pool_{"test", 2};
  TaskGroup tasks_{io_.get_executor(), "test", 4};
  std::map<std::int64_t, Memory> stored_;
  std::optional<proto::FabricRegion> region_;  // what a holder says that is not sound
  bool hold_lends_ = false;
  int lends_ = 0;
  int reads_ = 0;
};

TEST_F(DataPlaneTest, BytesComeOverTheFabricAndAreLentOnce) {
  OpenBoth();
  stored_[1] = Pattern(9 * kMiB + 17, 1);
  const auto reader = ReaderOf(1);
  std::vector<std::byte> into;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(Read(reader.get(), &into).has_value());
    EXPECT_TRUE(into == *stored_[1]);
  }
  EXPECT_EQ(reader_.counters().fabric_bytes, 2 * into.size());
  EXPECT_EQ(reader_.counters().connection_bytes, 0U);
  EXPECT_EQ(lends_, 1) << "several blocks at once must ask but once";
  EXPECT_EQ(holder_.lent(), 1U);
  EXPECT_NE(reader->Describe().find(kProvider), std::string::npos) << reader->Describe();
}

TEST_F(DataPlaneTest, AHolderWithoutThatFabricIsReadOverTheConnection) {
  Open(&reader_, "127.0.1.1", {kProvider, "tls"});
  Open(&holder_, "127.0.1.2", {"tls"});
  stored_[1] = Pattern(5 * kMiB, 2);
  std::vector<std::byte> into;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(Read(ReaderOf(1).get(), &into).has_value());
    EXPECT_TRUE(into == *stored_[1]);
  }
  EXPECT_EQ(reader_.counters().fabric_bytes, 0U);
  EXPECT_EQ(reader_.counters().connection_bytes, 2 * into.size());
  EXPECT_EQ(reader_.counters().fallbacks, 1U) << "it is not tried again for a while";
  EXPECT_EQ(lends_, 1);
}

// Reachable over the connection, not over the fabric.
TEST_F(DataPlaneTest, AFabricThatDoesNotAnswerCostsPartOfTheDeadlineOnce) {
  OpenBoth();
  stored_[1] = Pattern(3 * kMiB, 3);
  DataPlane away{io_.get_executor()};
  Open(&away, "127.0.1.3", {kProvider, "tls"});
  proto::LendRequest wish;
  *wish.mutable_key() = KeyOf(1);
  wish.set_provider(kProvider);
  const auto lent = tests::RunCoroutine(io_, away.Lend(wish, seconds(5)));
  ASSERT_TRUE(lent.has_value());
  region_ = lent.value().region();
  away.Stop();  // nobody answers there any more
  std::vector<std::byte> into;
  const auto began = Clock::now();
  const Status read = Read(ReaderOf(1).get(), &into, seconds(8));
  ASSERT_TRUE(read.has_value()) << read.error().ToString();
  EXPECT_TRUE(into == *stored_[1]);
  EXPECT_LT(Clock::now() - began, seconds(8));
  EXPECT_EQ(reader_.counters().fallbacks, 1U);
  EXPECT_FALSE(reader_.IsWorthTrying(kHolder));
  const int before = lends_;
  ASSERT_TRUE(Read(ReaderOf(1).get(), &into).has_value());
  EXPECT_EQ(lends_, before);
}

// A node that is broken or hostile: nothing of it reaches libfabric, and the bytes come all the
// same.
TEST_F(DataPlaneTest, ARegionThatIsNotSoundIsNotUsed) {
  OpenBoth();
  stored_[1] = Pattern(kMiB, 4);
  proto::LendRequest wish;
  *wish.mutable_key() = KeyOf(1);
  wish.set_provider(kProvider);
  const auto lent = tests::RunCoroutine(io_, holder_.Lend(wish, seconds(5)));
  ASSERT_TRUE(lent.has_value());
  const proto::FabricRegion sound = lent.value().region();
  using Spoil = void (*)(proto::FabricRegion*);
  const Spoil spoils[] = {
      [](proto::FabricRegion* region) { region->set_length_bytes(kMiB - 1); },
      [](proto::FabricRegion* region) { region->set_length_bytes(~std::uint64_t{0}); },
      [](proto::FabricRegion* region) { region->set_version(2); },
      [](proto::FabricRegion* region) { region->set_provider("efa"); },
      [](proto::FabricRegion* region) { region->set_address("no address"); },
      [](proto::FabricRegion* region) { region->Clear(); },
  };
  for (const Spoil spoil : spoils) {
    region_ = sound;
    spoil(&*region_);
    DataPlane fresh{io_.get_executor()};  // which has not given up that node yet
    Open(&fresh, "127.0.1.4", {kProvider, "tls"});
    NodeCall call = [this](std::string, proto::PeerRequest request, milliseconds) {
      return Answer(std::move(request));
    };
    const auto reader = fresh.Reader(std::move(call), kHolder, KeyOf(1), kMiB);
    std::vector<std::byte> into;
    ASSERT_TRUE(Read(reader.get(), &into).has_value());
    EXPECT_TRUE(into == *stored_[1]);
    EXPECT_EQ(fresh.counters().fabric_bytes, 0U);
    EXPECT_EQ(fresh.counters().fallbacks, 1U);
    fresh.Stop();
  }
}

// I5: what does not match is read again where its holder sees it, and only then called bad.
TEST_F(DataPlaneTest, BytesThatDoNotMatchAreReadAgainOverTheConnection) {
  OpenBoth();
  stored_[1] = Pattern(2 * kMiB, 5);
  const auto digests = DigestedBytes::Make("an image", 2 * kMiB, ChunkDigests(*stored_[1]));
  ASSERT_TRUE(digests.has_value());
  const auto reader = PeerShardReader::Make(&pool_, digests.value(), ReaderOf(1)).value();
  std::vector<std::byte> into(2 * kMiB);
  ShardReadOptions options;
  options.deadline = Clock::now() + seconds(20);
  (*stored_[1])[kMiB + 5] ^= std::byte{1};
  const Status read = tests::RunCoroutine(io_, reader->ReadRange(0, into, options));
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kCorruption);
  EXPECT_EQ(reads_, 1) << "the holder never saw what it has";
  (*stored_[1])[kMiB + 5] ^= std::byte{1};
  ASSERT_TRUE(tests::RunCoroutine(io_, reader->ReadRange(0, into, options)).has_value());
  EXPECT_TRUE(into == *stored_[1]);
  EXPECT_EQ(reads_, 2) << "a reader that doubts goes on doubting";
}

// Memory that is freed is lent no more; the next holder of the name is another.
TEST_F(DataPlaneTest, WhatIsFreedIsLetGo) {
  OpenBoth();
  stored_[1] = Pattern(9 * kMiB, 6);  // several blocks: one asks, the others wait for its answer
  const auto reader = ReaderOf(1);
  std::vector<std::byte> into;
  ASSERT_TRUE(Read(reader.get(), &into).has_value());
  ASSERT_EQ(holder_.lent(), 1U);
  const std::weak_ptr<std::vector<std::byte>> memory = stored_[1];
  stored_.erase(1);
  for (int i = 0; i < 100 && (holder_.lent() > 0 || !memory.expired()); ++i) {
    Pass(milliseconds(50));
  }
  EXPECT_EQ(holder_.lent(), 0U);
  EXPECT_TRUE(memory.expired());
  const Status read = Read(reader.get(), &into, seconds(5));
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kNotFound) << read.error().ToString();
  EXPECT_EQ(reader_.counters().fallbacks, 0U) << "no fault of the fabric";
  stored_[1] = Pattern(9 * kMiB, 7);
  ASSERT_TRUE(Read(reader.get(), &into).has_value());
  EXPECT_TRUE(into == *stored_[1]);
  EXPECT_EQ(reader_.counters().connection_bytes, 0U);
}

// What it was lent is lent no more, and the bytes lie elsewhere: it asks again.
TEST_F(DataPlaneTest, BytesThatWereStoredAnewAreReadOverTheFabricToo) {
  OpenBoth();
  stored_[1] = Pattern(9 * kMiB, 8);
  const auto reader = ReaderOf(1);
  std::vector<std::byte> into;
  ASSERT_TRUE(Read(reader.get(), &into).has_value());
  stored_[1] = Pattern(9 * kMiB, 9);
  for (int i = 0; i < 100 && holder_.lent() > 0; ++i) {
    Pass(milliseconds(50));
  }
  ASSERT_TRUE(Read(reader.get(), &into).has_value());
  EXPECT_TRUE(into == *stored_[1]);
  EXPECT_EQ(lends_, 2);
  EXPECT_EQ(reader_.counters().fallbacks, 0U);
  EXPECT_EQ(reader_.counters().connection_bytes, 0U);
}

// One that is slow is given up by whoever hedges its reads; the others' blocks are not its fault.
TEST_F(DataPlaneTest, WhoWaitsForOneThatIsCancelledAsksInItsStead) {
  OpenBoth();
  stored_[1] = Pattern(kMiB, 10);
  const auto reader = ReaderOf(1);
  hold_lends_ = true;
  std::vector<std::byte> first(kMiB);
  std::vector<std::byte> second(kMiB);
  transport::ReadOptions options;
  options.deadline = Clock::now() + seconds(20);
  TaskGroup asker(io_.get_executor(), "asker", 1);
  TaskGroup waiter(io_.get_executor(), "waiter", 1);
  std::optional<Status> given_up;
  std::optional<Status> read;
  auto read_into = [&](std::vector<std::byte>* into,
                       std::optional<Status>* out) -> asio::awaitable<void> {
    *out = co_await reader->Read(0, *into, options);
  };
  ASSERT_TRUE(asker.Spawn(read_into(&first, &given_up)));
  ASSERT_TRUE(waiter.Spawn(read_into(&second, &read)));
  Pass(milliseconds(20));
  asker.Cancel();
  Pass(milliseconds(20));
  EXPECT_TRUE(given_up.has_value());
  hold_lends_ = false;
  for (int i = 0; i < 1'000 && !read.has_value(); ++i) {
    Pass(milliseconds(10));
  }
  ASSERT_TRUE(read.has_value() && read->has_value());
  EXPECT_TRUE(second == *stored_[1]);
  EXPECT_EQ(reader_.counters().fallbacks, 0U);
  EXPECT_EQ(reader_.counters().connection_bytes, 0U);
}

// I9: so much is registered at one time, and not longer than somebody asks for it.
TEST_F(DataPlaneTest, LentMemoryIsBoundedAndComesBack) {
  Open(&holder_, "127.0.1.2", {kProvider, "tls"});
  LenderLimits limits;
  limits.lent = 2;
  limits.idle = milliseconds(300);
  limits.interval = milliseconds(50);
  Lender lender(
      io_.get_executor(),
      &pool_,
      holder_.lending(),
      [this](const proto::StoredKey& key) { return Find(key); },
      limits);
  ASSERT_TRUE(tasks_.Spawn(lender.Watch()));
  for (const std::int64_t step : {1, 2, 3}) {
    stored_[step] = Pattern(kMiB, static_cast<unsigned>(step));
  }
  const auto lend = [&](std::int64_t step) {
    return tests::RunCoroutine(io_, lender.Lend(KeyOf(step), seconds(5)));
  };
  const auto first = lend(1);
  const auto second = lend(2);
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_NE(first.value().key, second.value().key);
  EXPECT_EQ(lend(1).value().key, first.value().key);
  const auto third = lend(3);
  ASSERT_FALSE(third.has_value());
  EXPECT_EQ(third.error().code, Errc::kNoSpace);
  for (int i = 0; i < 100 && lender.lent() > 0; ++i) {
    Pass(milliseconds(50));
  }
  EXPECT_EQ(lender.lent(), 0U);
  EXPECT_TRUE(lend(3).has_value());
  tasks_.Stop();
  auto join = [this]() -> asio::awaitable<bool> { co_return co_await tasks_.Join(seconds(5)); };
  EXPECT_TRUE(tests::RunCoroutine(io_, join()));
}

TEST_F(DataPlaneTest, AListWithoutTheConnectionNeedsItsFabric) {
  DataPlaneOptions options;
  options.planes = {"efa"};
  options.bind_address = "127.0.1.1";
  const auto find = [this](const proto::StoredKey& key) { return Find(key); };
  const Status alone = reader_.OpenBlocking(options, &pool_, find);
  ASSERT_FALSE(alone.has_value());
  EXPECT_EQ(alone.error().code, Errc::kUnavailable) << alone.error().ToString();
  options.planes = {"efa", "tls", kProvider};
  ASSERT_TRUE(reader_.OpenBlocking(options, &pool_, find).has_value());
  EXPECT_EQ(reader_.reading(), nullptr) << "what stands after tls is never looked for";
  EXPECT_EQ(reader_.Describe(), "the peers' connection");
}

}  // namespace
}  // namespace holdfast::daemon
