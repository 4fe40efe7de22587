// A scrub over nodes: each part is answered in its place, whatever the nodes say.

#include "daemon/peers/cluster_scrub.h"

#include <map>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/with_timeout.h"
#include "tests/common/run_coroutine.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Reply = Result<proto::ScrubNodesReply>;

std::string Uuid(char letter) {
  return std::string(16, letter);
}

proto::ScrubReply Read(std::uint64_t bytes, const std::vector<std::uint64_t>& bad = {}) {
  proto::ScrubReply reply;
  reply.set_bytes(bytes);
  reply.mutable_bad_chunks()->Add(bad.begin(), bad.end());
  return reply;
}

class ClusterScrubTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_TRUE(tests::RunCoroutine(io_, End())); }

  asio::awaitable<bool> End() {
    scrub_.Stop();
    co_return co_await scrub_.Join(seconds(20));
  }

  ClusterScrub::Hooks Hooks() {
    ClusterScrub::Hooks hooks;
    hooks.own = [this](proto::ScrubRequest request) { return Own(std::move(request)); };
    hooks.call = [this](std::string node, proto::PeerRequest request, milliseconds limit) {
      return Call(std::move(node), std::move(request), limit);
    };
    return hooks;
  }

  asio::awaitable<Result<proto::ScrubReply>> Own(proto::ScrubRequest request) {
    asked_.push_back(std::move(request));
    if (own_hangs_) {
      HF_CO_TRYV(co_await SleepFor(seconds(600)));
    }
    co_return Read(5, {3});
  }

  asio::awaitable<Result<proto::PeerReply>> Call(std::string node,
                                                 proto::PeerRequest request,
                                                 milliseconds /*limit*/) {
    asked_.push_back(request.scrub());
    HF_CO_TRYV(co_await SleepFor(milliseconds(1)));
    HF_CO_TRY(const proto::ScrubReply answer, answers_.at(node));
    proto::PeerReply reply;
    *reply.mutable_scrub() = answer;
    co_return reply;
  }

  static proto::ScrubPart PartOf(char letter) {
    proto::ScrubPart part;
    part.set_node_uuid(Uuid(letter));
    part.mutable_key()->mutable_id()->set_job_uid(Uuid('j'));
    part.mutable_key()->mutable_id()->set_incarnation(1);
    part.mutable_key()->mutable_image()->set_rank(2);
    part.set_first_chunk(2);
    part.set_chunks(4);
    return part;
  }

  static proto::ScrubNodesRequest RequestTo(const std::string& letters) {
    proto::ScrubNodesRequest request;
    request.set_timeout_ms(5'000);
    for (const char letter : letters) {
      *request.add_parts() = PartOf(letter);
    }
    return request;
  }

  std::shared_ptr<std::optional<Reply>> Start(proto::ScrubNodesRequest request) {
    auto reply = std::make_shared<std::optional<Reply>>();
    proto::AskingUser user;
    user.set_uid(7);
    scrub_.Ask(std::move(request), user, [reply](Reply got) { reply->emplace(std::move(got)); });
    return reply;
  }

  bool RunUntil(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + seconds(20);
    io_.restart();
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      io_.run_one_for(milliseconds(10));
    }
    return done();
  }

  proto::ScrubNodesReply Ask(proto::ScrubNodesRequest request) {
    const auto reply = Start(std::move(request));
    EXPECT_TRUE(RunUntil([&] { return reply->has_value(); }));
    EXPECT_TRUE((*reply)->has_value());
    return (*reply)->value();
  }

  asio::io_context io_{1};
  bool own_hangs_ = false;
  std::map<std::string, Result<proto::ScrubReply>> answers_;
  std::vector<proto::ScrubRequest> asked_;
  ClusterScrub scrub_{io_.get_executor(), Uuid('a'), Hooks()};
};

TEST_F(ClusterScrubTest, EachPartIsAnsweredInItsPlace) {
  answers_.insert_or_assign(Uuid('b'), Read(3 * 1024 * 1024));
  answers_.insert_or_assign(Uuid('c'), Error(Errc::kUnavailable, "connection refused"));
  const proto::ScrubNodesReply reply = Ask(RequestTo("cab"));
  ASSERT_EQ(reply.results_size(), 3);
  EXPECT_EQ(reply.results(0).error_code(), static_cast<std::uint32_t>(Errc::kUnavailable));
  EXPECT_THAT(reply.results(0).error(), HasSubstr("connection refused"));
  EXPECT_THAT(reply.results(1).bad_chunks(), ElementsAre(3)) << "of this node";
  EXPECT_EQ(reply.results(1).bytes(), 5U);
  EXPECT_EQ(reply.results(2).bytes(), 3U * 1024 * 1024);
  EXPECT_EQ(reply.results(2).error_code(), 0U);
}

TEST_F(ClusterScrubTest, NodesAreToldWhatAndForWhom) {
  answers_.insert_or_assign(Uuid('b'), Read(1));
  (void)Ask(RequestTo("b"));
  ASSERT_EQ(asked_.size(), 1U);
  EXPECT_EQ(asked_[0].key().image().rank(), 2U);
  EXPECT_EQ(asked_[0].first_chunk(), 2U);
  EXPECT_EQ(asked_[0].chunks(), 4U);
  EXPECT_EQ(asked_[0].user().uid(), 7U);
}

TEST_F(ClusterScrubTest, AnAnswerAboutWhatWasNotAskedIsNone) {
  for (const proto::ScrubReply& garbage :
       {Read(5 * 1024 * 1024), Read(1, {1}), Read(1, {6}), Read(1, {2, 2, 2, 2, 2})}) {
    answers_.insert_or_assign(Uuid('b'), garbage);
    const proto::ScrubNodesReply reply = Ask(RequestTo("b"));
    EXPECT_EQ(reply.results(0).error_code(), static_cast<std::uint32_t>(Errc::kInternal));
    EXPECT_EQ(reply.results(0).bytes(), 0U);
    EXPECT_TRUE(reply.results(0).bad_chunks().empty());
  }
}

TEST_F(ClusterScrubTest, ThisNodeHasALimitToo) {
  own_hangs_ = true;
  proto::ScrubNodesRequest request = RequestTo("a");
  request.set_timeout_ms(30);
  EXPECT_EQ(Ask(request).results(0).error_code(), static_cast<std::uint32_t>(Errc::kTimeout));
}

// I9, I12
TEST_F(ClusterScrubTest, FewScrubAtOnceAndShutdownAnswersThem) {
  own_hangs_ = true;
  const auto first = Start(RequestTo("a"));
  const auto second = Start(RequestTo("a"));
  const auto third = Start(RequestTo("a"));
  ASSERT_TRUE(third->has_value());
  EXPECT_EQ((*third)->error().code, Errc::kUnavailable);
  ASSERT_TRUE(RunUntil([&] { return asked_.size() == 2; }));
  scrub_.Stop();
  ASSERT_TRUE(RunUntil([&] { return first->has_value() && second->has_value(); }));
  EXPECT_EQ((*first)->error().code, Errc::kCancelled);
}

TEST_F(ClusterScrubTest, ARequestThatCannotBeIsRefused) {
  std::vector<proto::ScrubNodesRequest> wrong(6, RequestTo("b"));
  wrong[0].clear_parts();
  wrong[1] = RequestTo(std::string(kMaxScrubParts + 1, 'b'));
  wrong[2].set_timeout_ms(0);
  wrong[3].mutable_parts(0)->set_node_uuid("short");
  wrong[4].mutable_parts(0)->set_chunks(0);
  wrong[5].mutable_parts(0)->mutable_key()->mutable_feed()->set_row(1);
  for (const proto::ScrubNodesRequest& request : wrong) {
    const auto reply = Start(request);
    ASSERT_TRUE(reply->has_value());
    EXPECT_EQ((*reply)->error().code, Errc::kInvalidArgument);
  }
  EXPECT_TRUE(asked_.empty());
}

}  // namespace
}  // namespace holdfast::daemon
