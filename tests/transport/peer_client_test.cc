// The way to one node: losing it, finding it again, and its addresses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/transport/peer_fixture.h"

namespace holdfast::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

class PeerClientTest : public PeerTest {
 protected:
  static Node::Options Named(char name, std::uint64_t boot = 1) {
    Node::Options options;
    options.name = name;
    options.boot = boot;
    return options;
  }
};

TEST_F(PeerClientTest, ConnectsAgainAfterThePeerRestarts) {
  Node a(io_, Named('a'));
  auto b = std::make_unique<Node>(io_, Named('b'));
  b->hold = true;
  b->Listen();
  const std::uint16_t port = b->port();
  auto client = Connected(&a, b.get());
  std::optional<Result<proto::PeerReply>> waiting;
  Start(client->Call(SidecarOf('x'), seconds(60)), &waiting);
  ASSERT_TRUE(RunUntil([&] { return b->held.size() == 1; }));
  End(b.get());
  ASSERT_TRUE(RunUntil([&] { return waiting.has_value(); }));
  EXPECT_EQ(waiting->error().code, Errc::kUnavailable);
  ASSERT_TRUE(RunUntil([&] { return client->channel() == nullptr; }));
  EXPECT_EQ(RunToEnd(client->Call(SidecarOf('x'), seconds(1))).error().code, Errc::kUnavailable);
  b = std::make_unique<Node>(io_, Named('b', 2));
  b->Listen(port);
  ASSERT_TRUE(RunToEnd(client->WaitConnected(seconds(10))).has_value());
  EXPECT_EQ(client->connects(), 2U);
  EXPECT_EQ(client->channel()->facts()->boot, 2U);
  EXPECT_TRUE(RunToEnd(client->Call(SidecarOf('x'), seconds(10))).has_value());
  End(client.get());
  End(b.get());
}

TEST_F(PeerClientTest, AbsentPeerIsUnavailableAtOnceWithTheReason) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  b.Listen();
  PeerAddress address;
  address.endpoints = {b.server.address()};
  End(&b);
  PeerClient client(io_.get_executor(), &a.context, address);
  ASSERT_TRUE(client.Start().has_value());
  const Status waited = RunToEnd(client.WaitConnected(milliseconds(100)));
  EXPECT_EQ(waited.error().code, Errc::kTimeout);
  EXPECT_THAT(waited.error().message, HasSubstr("no holdfastd listens at " + b.server.address()));
  EXPECT_EQ(RunToEnd(client.Call(SidecarOf('x'), seconds(60))).error().code, Errc::kUnavailable);
  EXPECT_EQ(client.InUse(), "");
  End(&client);
}

TEST_F(PeerClientTest, SecondAddressIsTriedAndTheBoundOneIsUsed) {
  Node a(io_, Named('a'));
  Node gone(io_, Named('c'));
  Node b(io_, Named('b'));
  gone.Listen();
  b.Listen();
  PeerAddress address;
  address.node_uuid = Uuid('b');
  address.endpoints = {gone.server.address(), b.server.address()};
  address.bind = "127.0.0.3";
  End(&gone);
  PeerClient client(io_.get_executor(), &a.context, address);
  ASSERT_TRUE(client.Start().has_value());
  ASSERT_TRUE(RunToEnd(client.WaitConnected(seconds(10))).has_value());
  EXPECT_THAT(client.InUse(), ::testing::StartsWith("127.0.0.3:"));
  ASSERT_TRUE(RunUntil([&] { return !b.ups.empty(); }));
  EXPECT_THAT(b.ups.front()->facts()->remote, ::testing::StartsWith("127.0.0.3:"));
  End(&client);
  End(&b);
}

TEST_F(PeerClientTest, AddressesThatAreNoneAreRefusedAtTheStart) {
  Node a(io_, Named('a'));
  for (const char* text : {"",
                           "10.0.0.1",
                           "host:7400",
                           "10.0.0.1:",
                           "10.0.0.1:70000",
                           "::1:80",
                           "[::1]",
                           "[10.0.0.1]:80",
                           "10.0.0.1:-1"}) {
    PeerAddress address;
    address.endpoints = {text};
    PeerClient client(io_.get_executor(), &a.context, address);
    EXPECT_EQ(client.Start().error().code, Errc::kInvalidArgument) << text;
  }
  PeerAddress none;
  PeerClient client(io_.get_executor(), &a.context, none);
  EXPECT_EQ(client.Start().error().code, Errc::kInvalidArgument);
  EXPECT_EQ(EndpointText(ParseEndpoint("[fd00::7]:7400").value()), "[fd00::7]:7400");
}

TEST_F(PeerClientTest, StopWhileItConnectsLeavesNothing) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  b.Listen();
  // I12: stopped after each number of steps of the loop.
  for (int steps = 0; steps < 30; ++steps) {
    PeerAddress address;
    address.endpoints = {b.server.address()};
    PeerClient client(io_.get_executor(), &a.context, address);
    ASSERT_TRUE(client.Start().has_value());
    io_.restart();
    for (int i = 0; i < steps; ++i) {
      io_.poll_one();
    }
    End(&client);
  }
  EXPECT_TRUE(RunUntil([&] { return b.ups.empty() && b.server.strangers() == 0; }));
  End(&b);
}

TEST_F(PeerClientTest, PortThatIsTakenIsSaidSo) {
  Node a(io_, Named('a'));
  Node b(io_, Named('b'));
  b.Listen();
  EXPECT_EQ(a.server.Listen("127.0.0.1", b.port(), false).error().code, Errc::kAlreadyExists);
  EXPECT_EQ(a.server.Listen("192.0.2.1", 0, true).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(a.server.Listen("0.0.0.0", 0, false).error().code, Errc::kPermission);
  End(&b);
}

}  // namespace
}  // namespace holdfast::transport
