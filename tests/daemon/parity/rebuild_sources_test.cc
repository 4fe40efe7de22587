// Who has what is left of a code set, where one of those that are asked does not answer.

#include "daemon/parity/rebuild_sources.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/with_timeout.h"
#include "tests/common/run_coroutine.h"
#include "tests/daemon/pipeline/pipeline_node.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr ByteCount kShard = 4 * kMiB;
constexpr std::uint32_t kStripe = 0;

// 2+3: any two of the three rows of a stripe are enough where both of its shards are lost.
class SourceSearchTest : public PipelineNodeTest {
 protected:
  SourceSearchTest() : PipelineNodeTest(TierOptions()) {
    const std::vector<std::string> members = {Uuid(0), Uuid(1), Uuid(2), Uuid(3), Uuid(4)};
    ec::CodeParams code;
    code.data = 2;
    code.parity = 3;
    set_.geometry =
        ec::MakeGeometry(1, members, code, std::vector<ByteCount>(members.size(), kShard)).value();
    set_.ranks = {0, 1, 2, 3, 4};
    group_ = CodedGroup::Make(set_.geometry).value();
    sources_ = std::make_shared<GroupSources>(GroupSources::None(group_->stripes));
    remote_ = std::make_unique<RemoteBytes>(
        *context_,
        &pool_,
        nullptr,
        std::string(16, 'r'),
        [this](std::string node, proto::PeerRequest request, milliseconds limit) {
          return Answer(std::move(node), std::move(request), limit);
        },
        &plane_);
  }

  static std::string Uuid(std::uint32_t position) {
    return std::string(16, static_cast<char>('a' + position));
  }

  std::uint32_t Owner(std::uint32_t row) const { return group_->stripes.RowOwner(kStripe, row); }

  // As a node does that has every row that it is asked for.
  asio::awaitable<Result<proto::PeerReply>> Answer(std::string node,
                                                   proto::PeerRequest request,
                                                   milliseconds) {
    ++asked_;
    ++pending_;
    Status slept = Ok();
    while (slept.has_value() && silent_.contains(node)) {
      slept = co_await SleepFor(milliseconds(5));
    }
    --pending_;
    if (!slept.has_value()) {
      co_return slept.error();
    }
    proto::PeerReply reply;
    const ByteCount length = group_->stripes.RowLength(request.describe().key().parity().stripe());
    reply.mutable_describe()->set_length_bytes(length);
    for (std::uint64_t chunk = 0; chunk < ChunkCount(length); ++chunk) {
      reply.mutable_describe()->add_chunk_crc32c(0);
    }
    co_return reply;
  }

  std::unique_ptr<SourceSearch> Search() {
    HeldSet held{set_, std::vector<CodeHolder>(set_.Count())};
    for (CodeHolder& holder : held.holders) {
      holder.rows = {{0, set_.Groups()}, {1, set_.Groups()}, {2, set_.Groups()}};
    }
    return std::make_unique<SourceSearch>(
        io_.get_executor(),
        remote_.get(),
        Wanted{{std::string(16, 'j'), {1, 5}}, group_.get(), {kStripe}, std::nullopt},
        std::move(held),
        sources_);
  }

  DataPlane plane_{io_.get_executor()};
  CodeSet set_;
  SharedGroup group_;
  std::shared_ptr<GroupSources> sources_;
  std::unique_ptr<RemoteBytes> remote_;
  std::set<std::string> silent_;
  int asked_ = 0;
  int pending_ = 0;
};

TEST_F(SourceSearchTest, AllThatAnswerAreThereAndOtherStripesAreNotAskedFor) {
  const auto search = Search();
  const auto began = Clock::now();
  auto decode = [&]() -> asio::awaitable<Status> {
    EXPECT_EQ(search->Reached().holders.size(), 5U);
    EXPECT_FALSE(sources_->open);
    co_return Ok();
  };
  ASSERT_TRUE(tests::RunCoroutine(io_, search->Run(decode)).has_value());
  EXPECT_EQ(asked_, 3);
  for (const auto& row : sources_->rows[kStripe]) {
    EXPECT_NE(row, nullptr);
  }
  EXPECT_LT(Clock::now() - began, seconds(10));
}

// I11: a node that hangs does not hold up what needs nothing of it; later it is a source like
// others.
TEST_F(SourceSearchTest, OneThatDoesNotAnswerIsNotWaitedForAndAddedWhenItDoes) {
  silent_ = {Uuid(Owner(1))};
  const auto search = Search();
  auto decode = [&]() -> asio::awaitable<Status> {
    EXPECT_EQ(sources_->rows[kStripe][1], nullptr);
    EXPECT_TRUE(sources_->open);
    EXPECT_TRUE(search->Reached().holders[Owner(1)].rows.empty());
    EXPECT_FALSE(search->Reached().holders[Owner(0)].rows.empty());
    silent_.clear();
    while (sources_->open) {
      HF_CO_TRYV(co_await SleepFor(milliseconds(5)));
    }
    EXPECT_NE(sources_->rows[kStripe][1], nullptr);
    co_return Ok();
  };
  EXPECT_TRUE(tests::RunCoroutine(io_, search->Run(decode)).has_value());
}

// I12.
TEST_F(SourceSearchTest, NothingIsAskedAnyMoreWhenTheDecodingHasEnded) {
  silent_ = {Uuid(Owner(2))};
  const auto search = Search();
  auto decode = [&]() -> asio::awaitable<Status> {
    EXPECT_EQ(pending_, 1);
    co_return Error(Errc::kUnavailable, "too few");
  };
  const Status done = tests::RunCoroutine(io_, search->Run(decode));
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().message, "too few");
  EXPECT_EQ(pending_, 0);
  EXPECT_FALSE(sources_->open);
}

// While they are not enough, each is waited for.
TEST_F(SourceSearchTest, WithTooFewTheOthersAreWaitedFor) {
  silent_ = {Uuid(Owner(1)), Uuid(Owner(2))};
  const auto search = Search();
  bool began = false;
  auto decode = [&]() -> asio::awaitable<Status> {
    began = true;
    co_return Ok();
  };
  TaskGroup tasks(io_.get_executor(), "test", 1);
  std::optional<Status> done;
  auto run = [&]() -> asio::awaitable<void> { done = co_await search->Run(decode); };
  ASSERT_TRUE(tasks.Spawn(run()));
  io_.run_for(milliseconds(500));
  EXPECT_FALSE(began);
  silent_.erase(Uuid(Owner(2)));
  io_.run_for(seconds(5));
  EXPECT_TRUE(began);
  ASSERT_TRUE(done.has_value());
}

}  // namespace
}  // namespace holdfast::daemon
