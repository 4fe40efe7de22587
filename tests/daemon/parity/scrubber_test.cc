// A node reads again what it holds: what is rotten is found, told and no source any more.

#include "daemon/parity/scrubber.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "common/task_group.h"
#include "daemon/core/code_set.h"
#include "tests/common/run_coroutine.h"
#include "tests/daemon/pipeline/pipeline_node.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr ByteCount kLength = 20 * kMiB + 17;  // two windows, and a piece
constexpr ByteCount kCapacity = 21 * kMiB;
constexpr std::uint32_t kOwner = 4242;

std::string Uuid(char letter) {
  return std::string(16, letter);
}

// A node that holds a shard of rank 0 in slot 1 and a row of parity in slot 2.
class ScrubberTest : public PipelineNodeTest {
 protected:
  ScrubberTest() : PipelineNodeTest(TierOptions()) {
    io_thread_.Bind();
    for (std::uint32_t slot = 1; slot <= 2; ++slot) {
      const Status prepared = tests::RunCoroutine(
          io_, slots_->Prepare({slot, 1}, kCapacity, true, nullptr, proto::DYNAMIC));
      EXPECT_TRUE(prepared.has_value()) << prepared.error().ToString();
      const MutableByteView bytes = slots_->Find({slot, 1}).value()->mutable_view();
      for (std::size_t i = 0; i < bytes.size(); i += 4096) {
        std::memset(bytes.data() + i, static_cast<int>(slot + i / 4096), 4096);
      }
    }
    core_ = std::make_unique<NodeCore>(
        CoreOptions(), Recovered(), SystemClock().Now(), SystemClock().WallNow());
    gate_ = std::make_unique<CoreGate>(&io_thread_, core_.get(), [] {});
    scrubber_ =
        std::make_unique<Scrubber>(io_.get_executor(), *context_, &pool_, gate_.get(), &priority_);
  }

  std::vector<std::uint32_t> Digests(std::uint32_t slot) {
    return ChunkDigests(slots_->Find({slot, 1}).value()->view().first(kLength));
  }

  static proto::SnapshotId Id() {
    proto::SnapshotId id;
    id.set_job_uid(Uuid('j'));
    id.set_incarnation(1);
    id.set_step(5);
    return id;
  }

  static proto::CodeSetRecord Set() {
    CodeSet set;
    set.epoch = 1;
    set.geometry = ec::MakeGeometry(1, {Uuid('a'), Uuid('b')}, {1, 1}, {kLength, kLength}).value();
    set.ranks = {0, 1};
    return ToProto(set);
  }

  RecoveredState Recovered() {
    RecoveredState state;
    state.node_uuid = Uuid('a');
    proto::JobRecord& job = state.jobs.emplace_back();
    job.set_job_uid(Uuid('j'));
    job.set_name("job");
    job.set_owner_uid(kOwner);
    job.set_epoch_number(1);
    job.set_world_size(2);
    for (std::uint32_t number = 1; number <= 2; ++number) {
      proto::SlotRecord& slot = state.slots.emplace_back();
      slot.set_slot(number);
      slot.set_generation(1);
      slot.set_capacity_bytes(kCapacity);
      slot.set_state(proto::SLOT_SEALED);
      slot.set_job_uid(Uuid('j'));
      slot.set_purpose(number == 2 ? proto::SLOT_PARITY : proto::SLOT_IMAGE);
    }
    proto::ShardRecord& shard = state.shards.emplace_back();
    shard.set_slot(1);
    shard.set_generation(1);
    *shard.mutable_sidecar()->mutable_id() = Id();
    shard.mutable_sidecar()->set_world_size(2);
    proto::ImageDigest* image = shard.mutable_sidecar()->add_images();
    image->set_length_bytes(kLength);
    for (const std::uint32_t digest : Digests(1)) {
      image->add_chunk_crc32c(digest);
    }
    proto::RowRecord& row = state.rows.emplace_back();
    *row.mutable_id() = Id();
    *row.mutable_set() = Set();
    row.set_slot(2);
    row.set_generation(1);
    row.set_length_bytes(kLength);
    for (const std::uint32_t digest : Digests(2)) {
      row.add_chunk_crc32c(digest);
    }
    return state;
  }

  static proto::ScrubRequest OfShard(std::uint64_t chunks = 1'024, std::uint64_t first = 0) {
    proto::ScrubRequest request;
    *request.mutable_key()->mutable_id() = Id();
    request.mutable_key()->mutable_image()->set_rank(0);
    request.mutable_user()->set_uid(kOwner);
    request.set_first_chunk(first);
    request.set_chunks(chunks);
    return request;
  }

  static proto::ScrubRequest OfRow() {
    proto::ScrubRequest request = OfShard();
    proto::StoredParity* row = request.mutable_key()->mutable_parity();
    row->set_group_epoch(1);
    row->set_group_version(1);
    return request;
  }

  Result<proto::ScrubReply> Scrub(const proto::ScrubRequest& request) {
    return tests::RunCoroutine(io_, scrubber_->Scrub(request));
  }

  void Flip(std::uint32_t slot, ByteCount at) {
    slots_->Find({slot, 1}).value()->mutable_view()[at] ^= std::byte{1};
  }

  asio::awaitable<void> Keep(proto::ScrubRequest request) {
    kept_ = co_await scrubber_->Scrub(std::move(request));
  }

  asio::awaitable<bool> JoinTasks() { co_return co_await tasks_.Join(seconds(20)); }

  IoThread io_thread_;
  std::unique_ptr<NodeCore> core_;
  std::unique_ptr<CoreGate> gate_;
  TrafficPriority priority_;
  std::unique_ptr<Scrubber> scrubber_;
  std::optional<Result<proto::ScrubReply>> kept_;
  TaskGroup tasks_{io_.get_executor(), "test", 4};
};

TEST_F(ScrubberTest, WhatIsSoundIsReadWholeAndStaysASource) {
  for (const proto::ScrubRequest& request : {OfShard(), OfRow()}) {
    const auto reply = Scrub(request);
    ASSERT_TRUE(reply.has_value()) << reply.error().ToString();
    EXPECT_EQ(reply.value().bytes(), kLength);
    EXPECT_THAT(reply.value().bad_chunks(), IsEmpty());
    EXPECT_TRUE(core_->FindStored(request.key()).has_value());
  }
  EXPECT_EQ(scrubber_->counters().bytes, 2 * kLength);
  EXPECT_EQ(scrubber_->counters().poisoned, 0U);
}

// I5: whoever finds rot ends that it is read.
TEST_F(ScrubberTest, ARottenShardIsPoisonedAndAllItsBadChunksAreTold) {
  Flip(1, 3 * kMiB + 5);
  Flip(1, kLength - 1);
  const auto reply = Scrub(OfShard());
  ASSERT_TRUE(reply.has_value());
  EXPECT_THAT(reply.value().bad_chunks(), ElementsAre(3, 20));
  EXPECT_EQ(reply.value().bytes(), kLength);
  EXPECT_FALSE(core_->FindStored(OfShard().key()).has_value()) << "no source any more";
  EXPECT_EQ(core_->ListNow("job").snapshots(0).shards(0).state(), "poisoned");
  EXPECT_EQ(scrubber_->counters().bad_chunks, 2U);
  EXPECT_EQ(scrubber_->counters().poisoned, 1U);
  EXPECT_TRUE(core_->FindStored(OfRow().key()).has_value()) << "the row is another's";
}

// I5: the row is dropped, so that it is made again.
TEST_F(ScrubberTest, ARottenRowIsDropped) {
  Flip(2, 0);
  const auto reply = Scrub(OfRow());
  ASSERT_TRUE(reply.has_value());
  EXPECT_THAT(reply.value().bad_chunks(), ElementsAre(0));
  EXPECT_FALSE(core_->FindStored(OfRow().key()).has_value());
  EXPECT_EQ(Scrub(OfRow()).error().code, Errc::kNotFound);
  EXPECT_EQ(core_->ListNow("job").snapshots(0).shards(0).state(), "sealed");
}

TEST_F(ScrubberTest, APartIsReadAlone) {
  Flip(1, 0);
  const auto reply = Scrub(OfShard(2, 19));
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply.value().bytes(), kMiB + 17) << "to the end";
  EXPECT_THAT(reply.value().bad_chunks(), IsEmpty());
  EXPECT_EQ(Scrub(OfShard(2, 21)).error().code, Errc::kInvalidArgument);
}

// Section 11
TEST_F(ScrubberTest, OnlyForTheOwnerOfTheJob) {
  proto::ScrubRequest request = OfShard();
  request.mutable_user()->set_uid(kOwner + 1);
  EXPECT_EQ(Scrub(request).error().code, Errc::kPermission);
  request.mutable_user()->set_sees_all(true);
  EXPECT_TRUE(Scrub(request).has_value());
}

TEST_F(ScrubberTest, WhatIsNotHereIsNotFound) {
  proto::ScrubRequest request = OfShard();
  request.mutable_key()->mutable_image()->set_rank(7);
  EXPECT_EQ(Scrub(request).error().code, Errc::kNotFound);
  request = OfShard();
  request.mutable_key()->mutable_id()->set_job_uid(Uuid('x'));
  EXPECT_EQ(Scrub(request).error().code, Errc::kNotFound);
}

// It goes on at last: a node that is never idle must be checked too.
TEST_F(ScrubberTest, AScrubGivesWayToRestoreAndToProtect) {
  std::optional<TrafficPriority::Urgent> urgent;
  priority_.EnterInto(&urgent);
  ASSERT_TRUE(tasks_.Spawn(Keep(OfShard())));
  io_.run_for(milliseconds(100));
  EXPECT_FALSE(kept_.has_value());
  EXPECT_EQ(scrubber_->counters().bytes, 0U);
  {
    const auto protecting = priority_.EnterProtect();
    urgent.reset();
    io_.run_for(milliseconds(100));
    EXPECT_EQ(scrubber_->counters().bytes, 0U);
  }
  EXPECT_TRUE(tests::RunCoroutine(io_, JoinTasks()));
  EXPECT_EQ(kept_->value().bytes(), kLength);
}

}  // namespace
}  // namespace holdfast::daemon
