// What a node tells an operator of the others: each is named, with its view or the reason why there
// is none, whatever they answer.

#include "daemon/peers/cluster_view.h"

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
using ::testing::HasSubstr;
using Reply = Result<proto::AskNodesReply>;

std::string Uuid(char letter) {
  return std::string(16, letter);
}

proto::NodeView ViewOf(char letter) {
  proto::NodeView view;
  view.mutable_status()->set_node_uuid(Uuid(letter));
  proto::JobStatus* job = view.mutable_status()->add_jobs();
  job->set_name("job");
  job->set_job_uid(Uuid('j'));
  proto::SnapshotInfo* snapshot = view.mutable_list()->add_snapshots();
  snapshot->set_job_name("job");
  snapshot->mutable_id()->set_job_uid(Uuid('j'));
  snapshot->mutable_id()->set_incarnation(1);
  return view;
}

class ClusterViewTest : public testing::Test {
 protected:
  void TearDown() override { EXPECT_TRUE(tests::RunCoroutine(io_, End())); }

  asio::awaitable<bool> End() {
    view_.Stop();
    co_return co_await view_.Join(seconds(20));
  }

  ClusterView::Hooks Hooks() {
    ClusterView::Hooks hooks;
    hooks.nodes = [this] { return nodes_; };
    hooks.own = [](const std::string&, const proto::AskingUser&) { return ViewOf('a'); };
    hooks.call = [this](std::string node, proto::PeerRequest request, milliseconds limit) {
      return Call(std::move(node), std::move(request), limit);
    };
    return hooks;
  }

  static ClusterView::Limits Limits() {
    ClusterView::Limits limits;
    limits.asks = 2;
    limits.nodes_at_once = 3;
    limits.nodes_of_page = 5;
    limits.page_bytes = 64 * kKiB;
    return limits;
  }

  // As the answers say; a node without one never answers.
  asio::awaitable<Result<proto::PeerReply>> Call(std::string node,
                                                 proto::PeerRequest request,
                                                 milliseconds limit) {
    asked_.push_back(std::move(request));
    most_at_once_ = std::max(most_at_once_, ++under_way_);
    const auto found = answers_.find(node);
    const bool silent = found == answers_.end();
    const Status slept = co_await SleepFor(silent ? limit : milliseconds(1));
    --under_way_;
    HF_CO_TRYV(slept);
    if (silent) {
      co_return Error(Errc::kTimeout, "no answer in time");
    }
    HF_CO_TRY(proto::NodeView view, found->second);
    proto::PeerReply reply;
    *reply.mutable_view()->mutable_view() = std::move(view);
    co_return reply;
  }

  void Know(char letter, Result<proto::NodeView> answer) {
    nodes_[Uuid(letter)] = {std::string("10.0.0.") + letter + ":7400"};
    answers_.insert_or_assign(Uuid(letter), std::move(answer));
  }

  static proto::AskNodesRequest Request(std::uint32_t timeout_ms = 5'000) {
    proto::AskNodesRequest request;
    request.set_timeout_ms(timeout_ms);
    return request;
  }

  // Where the answer will be.
  std::shared_ptr<std::optional<Reply>> Start(proto::AskNodesRequest request) {
    auto reply = std::make_shared<std::optional<Reply>>();
    proto::AskingUser user;
    user.set_uid(7);
    view_.Ask(std::move(request), user, [reply](Reply got) { reply->emplace(std::move(got)); });
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

  proto::AskNodesReply Ask(proto::AskNodesRequest request) {
    const auto reply = Start(std::move(request));
    EXPECT_TRUE(RunUntil([&] { return reply->has_value(); }));
    EXPECT_TRUE((*reply)->has_value());
    return (*reply)->value();
  }

  // What the only other node is said to have answered.
  proto::NodeAnswer AnswerOf(Result<proto::NodeView> answer) {
    Know('b', std::move(answer));
    return Ask(Request()).nodes(1);
  }

  asio::io_context io_{1};
  NodeHints nodes_;
  std::map<std::string, Result<proto::NodeView>> answers_;
  std::vector<proto::PeerRequest> asked_;
  std::size_t under_way_ = 0;
  std::size_t most_at_once_ = 0;
  ClusterView view_{io_.get_executor(), Uuid('a'), Hooks(), Limits()};
};

TEST_F(ClusterViewTest, EveryNodeIsThereWithItsViewOrTheReason) {
  Know('b', ViewOf('b'));
  Know('c', Error(Errc::kUnavailable, "connection refused"));
  Know('d', Error(Errc::kVersionMismatch, "a request of a kind that is not known here"));
  nodes_[Uuid('e')];  // silent
  const proto::AskNodesReply reply = Ask(Request(50));
  ASSERT_EQ(reply.nodes_size(), 5);
  EXPECT_FALSE(reply.more());
  EXPECT_EQ(reply.nodes(0).view().status().node_uuid(), Uuid('a')) << "this one, though not named";
  EXPECT_EQ(reply.nodes(1).view().list().snapshots_size(), 1);
  EXPECT_EQ(reply.nodes(1).endpoints(0), "10.0.0.b:7400");
  const std::vector<std::pair<Errc, std::string>> reasons = {
      {Errc::kUnavailable, "connection refused"},
      {Errc::kVersionMismatch, "not known here"},
      {Errc::kTimeout, "no answer in time"}};
  for (int i = 2; i < 5; ++i) {
    const auto& [code, text] = reasons[static_cast<std::size_t>(i - 2)];
    EXPECT_FALSE(reply.nodes(i).has_view());
    EXPECT_EQ(reply.nodes(i).error_code(), static_cast<std::uint32_t>(code));
    EXPECT_THAT(reply.nodes(i).error(), HasSubstr(text));
  }
}

// Section 11: the other node decides what this user may see there.
TEST_F(ClusterViewTest, NodesAreToldForWhomAndAboutWhat) {
  Know('b', ViewOf('b'));
  proto::AskNodesRequest request = Request();
  request.set_job_name("job");
  (void)Ask(request);
  ASSERT_EQ(asked_.size(), 1U);
  EXPECT_EQ(asked_[0].view().job_name(), "job");
  EXPECT_EQ(asked_[0].view().user().uid(), 7U);
  EXPECT_FALSE(asked_[0].view().user().sees_all());
}

TEST_F(ClusterViewTest, AnAnswerThatCannotBeBelievedIsNoView) {
  EXPECT_THAT(AnswerOf(ViewOf('c')).error(), HasSubstr("another node"));
  EXPECT_THAT(AnswerOf(proto::NodeView()).error(), HasSubstr("another node"));
  proto::NodeView view = ViewOf('b');
  view.mutable_status()->mutable_jobs(0)->set_name("../../etc");
  EXPECT_THAT(AnswerOf(view).error(), HasSubstr("cannot be believed"));
  view = ViewOf('b');
  view.mutable_list()->mutable_snapshots(0)->mutable_id()->set_step(-3);
  EXPECT_THAT(AnswerOf(view).error(), HasSubstr("cannot be believed"));
  view = ViewOf('b');
  view.mutable_status()->mutable_jobs(0)->add_groups()->add_node_uuids("short");
  EXPECT_THAT(AnswerOf(view).error(), HasSubstr("16 bytes"));
  view = ViewOf('b');
  view.mutable_list()->mutable_snapshots(0)->add_held_rows();
  const proto::NodeAnswer answer = AnswerOf(view);
  EXPECT_THAT(answer.error(), HasSubstr("cannot be believed"));
  EXPECT_EQ(answer.error_code(), static_cast<std::uint32_t>(Errc::kCorruption));
  EXPECT_TRUE(AnswerOf(ViewOf('b')).has_view());
}

// I9: what one node says is bounded, and what all say together.
TEST_F(ClusterViewTest, AHugeAnswerIsRefusedAndNamed) {
  proto::NodeView view = ViewOf('b');
  view.mutable_status()->add_warnings(std::string(kMaxViewBytes, 'x'));
  const proto::NodeAnswer answer = AnswerOf(view);
  EXPECT_FALSE(answer.has_view());
  EXPECT_EQ(answer.error_code(), static_cast<std::uint32_t>(Errc::kNoSpace));
  EXPECT_THAT(answer.error(), HasSubstr("ask for one job"));
}

TEST_F(ClusterViewTest, AnswersComeInPages) {
  for (char letter = 'b'; letter <= 'h'; ++letter) {
    Know(letter, ViewOf(letter));
  }
  proto::AskNodesReply reply = Ask(Request());
  EXPECT_EQ(reply.nodes_size(), 5);
  EXPECT_TRUE(reply.more());
  proto::AskNodesRequest request = Request();
  request.set_after_node(reply.nodes(4).node_uuid());
  reply = Ask(request);
  ASSERT_EQ(reply.nodes_size(), 3);
  EXPECT_EQ(reply.nodes(0).node_uuid(), Uuid('f'));
  EXPECT_FALSE(reply.more());
}

TEST_F(ClusterViewTest, APageEndsWhereItWouldBecomeTooLarge) {
  for (char letter = 'b'; letter <= 'c'; ++letter) {
    proto::NodeView view = ViewOf(letter);
    view.mutable_status()->add_warnings(std::string(40 * kKiB, 'x'));
    Know(letter, view);
  }
  proto::AskNodesReply reply = Ask(Request());
  EXPECT_EQ(reply.nodes_size(), 2);
  EXPECT_TRUE(reply.more());
  proto::AskNodesRequest request = Request();
  request.set_after_node(Uuid('b'));
  reply = Ask(request);
  ASSERT_EQ(reply.nodes_size(), 1) << "one is always there, however large";
  EXPECT_FALSE(reply.more());
}

// I9
TEST_F(ClusterViewTest, AFewNodesAreAskedAtOnce) {
  for (char letter = 'b'; letter <= 'e'; ++letter) {
    Know(letter, ViewOf(letter));
  }
  (void)Ask(Request());
  EXPECT_EQ(asked_.size(), 4U);
  EXPECT_EQ(most_at_once_, 3U);
}

// I9
TEST_F(ClusterViewTest, TooManyAsksAtOneTimeAreRefused) {
  nodes_[Uuid('b')];  // silent
  const auto first = Start(Request(100));
  const auto second = Start(Request(100));
  const auto third = Start(Request(100));
  ASSERT_TRUE(third->has_value());
  EXPECT_EQ((*third)->error().code, Errc::kUnavailable);
  EXPECT_TRUE(RunUntil([&] { return first->has_value() && second->has_value(); }));
}

// I12
TEST_F(ClusterViewTest, ShutdownEndsAnAskAndAnswersIt) {
  nodes_[Uuid('b')];  // silent
  const auto reply = Start(Request(600'000));
  ASSERT_TRUE(RunUntil([&] { return under_way_ == 1; }));
  view_.Stop();
  ASSERT_TRUE(RunUntil([&] { return reply->has_value(); }));
  EXPECT_EQ((*reply)->error().code, Errc::kCancelled);
  EXPECT_EQ(under_way_, 0U);
}

TEST_F(ClusterViewTest, ARequestThatCannotBeIsRefused) {
  std::vector<proto::AskNodesRequest> wrong(4, Request());
  wrong[0].set_timeout_ms(0);
  wrong[1].set_timeout_ms(600'001);
  wrong[2].set_after_node("short");
  wrong[3].set_job_name("a/b");
  for (const proto::AskNodesRequest& request : wrong) {
    const auto reply = Start(request);
    ASSERT_TRUE(reply->has_value());
    EXPECT_EQ((*reply)->error().code, Errc::kInvalidArgument);
  }
  EXPECT_TRUE(asked_.empty());
}

TEST_F(ClusterViewTest, ADaemonWithoutPeersSaysSo) {
  ClusterView::Hooks hooks = Hooks();
  hooks.call = nullptr;
  nodes_[Uuid('b')];
  ClusterView alone(io_.get_executor(), Uuid('a'), std::move(hooks));
  std::optional<Reply> reply;
  alone.Ask(Request(), {}, [&](Reply got) { reply.emplace(std::move(got)); });
  ASSERT_TRUE(RunUntil([&] { return reply.has_value(); }));
  ASSERT_EQ(reply->value().nodes_size(), 2);
  EXPECT_TRUE(reply->value().nodes(0).has_view());
  EXPECT_THAT(reply->value().nodes(1).error(), HasSubstr("peer.listen"));
}

}  // namespace
}  // namespace holdfast::daemon
