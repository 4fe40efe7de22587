// Two daemons that behave: requests in both directions, order, deadlines, cancellation, load, end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "common/with_timeout.h"
#include "tests/transport/peer_fixture.h"

namespace holdfast::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using Reply = Result<proto::PeerReply>;

class PeerCallsTest : public PeerTest, public testing::WithParamInterface<bool> {
 protected:
  Node::Options Named(char name, const PeerLimits& limits = {}) const {
    Node::Options options;
    options.name = name;
    options.limits = limits;
    options.tls = GetParam() ? TlsOf("ca", name) : nullptr;
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(Streams, PeerCallsTest, testing::Bool(), [](const auto& tls) {
  return tls.param ? "Tls" : "Plain";
});

TEST_P(PeerCallsTest, BothSidesAskAndAnswer) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  b.Listen();
  auto client = Connected(&a, &b);
  const Reply there = RunToEnd(client->Call(SidecarOf('x'), seconds(10)));
  ASSERT_TRUE(there.has_value()) << there.error().ToString();
  EXPECT_EQ(there.value().fetch_sidecar().sidecar(), Uuid('x'));
  const Reply back = RunToEnd(b.ups.front()->Call(SidecarOf('y'), seconds(10)));
  ASSERT_TRUE(back.has_value()) << back.error().ToString();
  EXPECT_EQ(back.value().fetch_sidecar().sidecar(), Uuid('y'));
  EXPECT_EQ(b.ups.front()->facts()->node_uuid, Uuid('a'));
  EXPECT_EQ(b.ups.front()->facts()->authenticated, GetParam());
  EXPECT_THAT(client->InUse(), HasSubstr(" -> " + b.server.address()));
  End(client.get());
  End(&b);
}

TEST_P(PeerCallsTest, ReadsBringTheirBytesAndDigests) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  b.Listen();
  auto client = Connected(&a, &b);
  const Reply read = RunToEnd(client->Call(ReadOf(3, kMaxReadRangeBytes), seconds(10)));
  ASSERT_TRUE(read.has_value()) << read.error().ToString();
  EXPECT_EQ(read.value().read_range().data(), std::string(kMaxReadRangeBytes, 'D'));
  EXPECT_EQ(read.value().read_range().chunk_crc32c_size(), 4);
  EXPECT_TRUE(VerifyDigests(read.value().read_range()).has_value());
  const Reply large = RunToEnd(client->Call(ReadOf(0, kMaxReadRangeBytes + 1), seconds(10)));
  EXPECT_EQ(large.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(b.context.refusals().count(Refusal::kRequest), 1U);
  End(client.get());
  End(&b);
}

TEST_P(PeerCallsTest, AnswersComeInAnyOrder) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  b.hold = true;
  b.Listen();
  auto client = Connected(&a, &b);
  std::vector<std::optional<Reply>> replies(5);
  for (std::size_t i = 0; i < replies.size(); ++i) {
    Start(client->Call(SidecarOf(static_cast<char>('a' + i)), seconds(10)), &replies[i]);
  }
  ASSERT_TRUE(RunUntil([&b] { return b.held.size() == 5; }));
  for (std::size_t i = replies.size(); i-- > 0;) {
    b.LetGo(i);
    ASSERT_TRUE(RunUntil([&] { return replies[i].has_value(); }));
    ASSERT_TRUE(replies[i]->has_value());
    EXPECT_EQ(replies[i]->value().fetch_sidecar().sidecar(), Uuid(static_cast<char>('a' + i)));
    EXPECT_EQ(client->channel()->calls(), i);
  }
  End(client.get());
  End(&b);
}

TEST_P(PeerCallsTest, AThousandRequestsAreInFlight) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  b.hold = true;
  b.Listen();
  auto client = Connected(&a, &b);
  std::vector<std::optional<Reply>> replies(1'000);
  for (auto& reply : replies) {
    Start(client->Call(SidecarOf('x'), seconds(15)), &reply);
  }
  ASSERT_TRUE(RunUntil([&b] { return b.held.size() == 1'000; }));
  EXPECT_EQ(client->channel()->calls(), 1'000U);
  for (std::size_t i = 0; i < replies.size(); ++i) {
    b.LetGo(i);
  }
  ASSERT_TRUE(RunUntil([this] { return tasks_.size() == 0; }));
  EXPECT_EQ(client->channel()->calls(), 0U);
  for (const auto& reply : replies) {
    ASSERT_TRUE(reply.has_value() && reply->has_value());
  }
  End(client.get());
  End(&b);
}

TEST_P(PeerCallsTest, MoreThanThePeerAcceptsWaitTheirTurn) {
  Node a(io_, Named('a'));
  Node::Options narrow = Named('b');
  narrow.limits.max_served = 3;
  Node b(io_, narrow);
  b.hold = true;
  b.Listen();
  auto client = Connected(&a, &b);
  std::vector<std::optional<Reply>> replies(10);
  for (auto& reply : replies) {
    Start(client->Call(SidecarOf('x'), seconds(10)), &reply);
  }
  for (std::size_t i = 0; i < replies.size(); ++i) {
    ASSERT_TRUE(RunUntil([&] { return b.held.size() > i; }));
    EXPECT_LE(client->channel()->calls(), 3U);
    EXPECT_LE(b.ups.front()->served(), 3U);
    b.LetGo(i);
  }
  ASSERT_TRUE(RunUntil([&] { return replies.back().has_value(); }));
  for (const auto& reply : replies) {
    EXPECT_TRUE(reply->has_value());
  }
  EXPECT_EQ(b.context.refusals().count(Refusal::kLimit), 0U);
  End(client.get());
  End(&b);
}

TEST_P(PeerCallsTest, DeadlineEndsTheCallAndTheWorkOfThePeer) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  b.hold = true;
  b.Listen();
  auto client = Connected(&a, &b);
  const Reply late = RunToEnd(client->Call(SidecarOf('x'), milliseconds(50)));
  EXPECT_EQ(late.error().code, Errc::kTimeout);
  ASSERT_TRUE(RunUntil([&b] { return b.cancelled == 1; }));
  ASSERT_TRUE(RunUntil([&client] { return client->channel()->calls() == 0; }));
  b.hold = false;
  EXPECT_TRUE(RunToEnd(client->Call(SidecarOf('y'), seconds(10))).has_value());
  End(client.get());
  End(&b);
}

TEST_P(PeerCallsTest, RequestGivenUpCountsUntilItIsAnswered) {
  Node a(io_, Named('a'));
  Node::Options narrow = Named('b');
  narrow.limits.max_served = 1;
  Node b(io_, narrow);
  b.hold = b.deaf = true;
  b.Listen();
  auto client = Connected(&a, &b);
  // The slow peer is not asked for more than it said it can bear.
  EXPECT_EQ(RunToEnd(client->Call(SidecarOf('x'), milliseconds(30))).error().code, Errc::kTimeout);
  EXPECT_EQ(RunToEnd(client->Call(SidecarOf('y'), milliseconds(30))).error().code, Errc::kTimeout);
  EXPECT_EQ(b.arrived.size(), 1U);
  b.LetGo(0);
  b.hold = false;
  EXPECT_TRUE(RunToEnd(client->Call(SidecarOf('z'), seconds(10))).has_value());
  End(client.get());
  End(&b);
}

TEST_P(PeerCallsTest, RequestGivenUpEndsWithTheConnection) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  b.hold = b.deaf = true;
  b.Listen();
  auto client = Connected(&a, &b);
  EXPECT_EQ(RunToEnd(client->Call(SidecarOf('x'), milliseconds(30))).error().code, Errc::kTimeout);
  const auto channel = client->channel();
  EXPECT_EQ(channel->calls(), 1U);
  End(client.get());
  EXPECT_EQ(channel->calls(), 0U);  // I12
  b.LetGo(0);
  End(&b);
}

TEST_P(PeerCallsTest, CancellationAtAnyMomentLeavesNothing) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  b.hold = true;
  b.Listen();
  auto client = Connected(&a, &b);
  // I12: the caller is cancelled after each number of steps of the loop.
  for (int steps = 0; steps < 40; ++steps) {
    TaskGroup callers(io_.get_executor(), "callers", 1);
    std::optional<Reply> reply;
    ASSERT_TRUE(callers.Spawn(Store(client->Call(SidecarOf('x'), seconds(10)), &reply)));
    io_.restart();
    for (int i = 0; i < steps; ++i) {
      io_.poll_one();
    }
    ASSERT_TRUE(RunToEnd(StopAndJoin(&callers))) << steps;
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->error().code, Errc::kCancelled) << steps;
    ASSERT_TRUE(RunUntil([&client] { return client->channel()->calls() == 0; })) << steps;
  }
  ASSERT_TRUE(RunUntil([&b] { return b.ups.front()->served() == 0; }));
  EXPECT_EQ(b.cancelled, b.arrived.size());
  EXPECT_GT(b.cancelled, 0U);
  End(client.get());
  End(&b);
}

TEST_P(PeerCallsTest, ShutdownUnderLoadLeavesNoCoroutine) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  a.hold = b.hold = true;
  b.Listen();
  auto client = Connected(&a, &b);
  std::vector<std::optional<Reply>> replies(400);
  for (std::size_t i = 0; i < replies.size(); ++i) {
    auto channel = i % 2 == 0 ? client->channel() : b.ups.front();
    Start(channel->Call(i % 3 == 0 ? ReadOf(i, 100'000) : SidecarOf('x'), seconds(60)),
          &replies[i]);
  }
  ASSERT_TRUE(RunUntil([&] { return a.held.size() == 200 && b.held.size() == 200; }));
  End(&b);  // I12
  ASSERT_TRUE(RunUntil([this] { return tasks_.size() == 0; }));
  for (const auto& reply : replies) {
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->error().code, Errc::kUnavailable);
  }
  EXPECT_EQ(b.cancelled, 200U);
  End(client.get());
  EXPECT_EQ(a.cancelled, 200U);
}

// Those that wait for room in the queue and those that come when there is some take their ids as
// they go out: an id that does not rise would end the connection.
TEST_P(PeerCallsTest, RequestsAskedInACrowdedQueueGoOutInOrder) {
  PeerLimits tight;
  tight.queue_bytes = 64 * kKiB;
  Node a(io_, Named('a', tight));
  Node b(io_, Named('b', tight));
  b.Listen();
  auto client = Connected(&a, &b);
  auto ask = [](std::shared_ptr<PeerChannel> channel, std::size_t seed) -> asio::awaitable<Status> {
    for (std::size_t i = 0; i < 40; ++i) {
      const auto length = static_cast<std::uint32_t>((seed * 7 + i * 13) % 5 * 20'000 + 1);
      HF_CO_TRYV(co_await channel->Call(ReadOf(i, length), seconds(60)));
    }
    co_return Ok();
  };
  std::vector<std::optional<Status>> ends(64);
  for (std::size_t i = 0; i < ends.size(); ++i) {
    Start(ask(i % 2 == 0 ? client->channel() : b.ups.front(), i), &ends[i]);
  }
  ASSERT_TRUE(RunUntil([this] { return tasks_.size() == 0; }));
  for (const auto& end : ends) {
    EXPECT_TRUE(end->has_value()) << end->error().ToString();
  }
  EXPECT_EQ(a.context.refusals().count(Refusal::kGarbage), 0U);
  EXPECT_EQ(b.context.refusals().count(Refusal::kGarbage), 0U);
  End(client.get());
  End(&b);
}

// A report, or a look at a feed, does not wait until megabytes have left.
TEST_P(PeerCallsTest, WhatHoldsNoBytesDoesNotStandBehindReads) {
  Node a(io_, Named('a'));
  Node::Options narrow = Named('b');
  narrow.limits.read_bytes = kMiB;
  Node b(io_, narrow);
  b.hold = true;
  b.Listen();
  auto client = Connected(&a, &b);
  std::vector<std::optional<Reply>> replies(3);
  Start(client->Call(ReadOf(0, kMiB), seconds(15)), &replies[0]);
  Start(client->Call(ReadOf(1, kMiB), seconds(15)), &replies[1]);
  Start(client->Call(SidecarOf('x'), seconds(15)), &replies[2]);
  ASSERT_TRUE(RunUntil([&b] { return b.arrived.size() == 2; }));
  EXPECT_TRUE(b.arrived.back().has_fetch_sidecar());
  b.hold = false;
  b.LetGo(0);
  b.LetGo(1);
  ASSERT_TRUE(RunUntil([this] { return tasks_.size() == 0; }));
  for (const auto& reply : replies) {
    EXPECT_TRUE(reply->has_value());
  }
  End(client.get());
  End(&b);
}

TEST_P(PeerCallsTest, RepliesThatFloodBothWaysDoNotBlockEachOther) {
  PeerLimits tight;
  tight.queue_bytes = kMiB;
  tight.read_bytes = 8 * kMiB;
  Node a(io_, Named('a', tight));
  Node b(io_, Named('b', tight));
  b.Listen();
  auto client = Connected(&a, &b);
  std::vector<std::optional<Reply>> replies(64);
  for (std::size_t i = 0; i < replies.size(); ++i) {
    auto channel = i % 2 == 0 ? client->channel() : b.ups.front();
    Start(channel->Call(ReadOf(i, 2 * kMiB), seconds(60)), &replies[i]);
  }
  ASSERT_TRUE(RunUntil([this] { return tasks_.size() == 0; }));
  for (std::size_t i = 0; i < replies.size(); ++i) {
    ASSERT_TRUE(replies[i]->has_value()) << replies[i]->error().ToString();
    EXPECT_TRUE(VerifyDigests(replies[i]->value().read_range()).has_value());
  }
  End(client.get());
  End(&b);
}

TEST_P(PeerCallsTest, PingsKeepAQuietConnectionAlive) {
  Node::Options quick = Named('a');
  quick.limits.ping_after = milliseconds(10);
  quick.limits.dead_after = milliseconds(5'000);
  Node a(io_, quick);
  Node b(io_, Named('b'));
  b.Listen();
  auto client = Connected(&a, &b);
  ASSERT_TRUE(RunUntil([&] { return client->channel()->round_trip().count() > 0; }));
  EXPECT_EQ(client->connects(), 1U);
  End(client.get());
  End(&b);
}

}  // namespace
}  // namespace holdfast::transport
