// The fixture of tests in which a raw peer talks to a node.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "tests/transport/peer_fixture.h"

namespace holdfast::transport {

using Messages = std::vector<proto::PeerMessage>;

class PeerHostileTest : public PeerTest {
 protected:
  void Open(PeerLimits limits = {}, PeerServerLimits server = {}) {
    Node::Options options;
    options.name = 'b';
    options.limits = limits;
    options.server = server;
    node_ = std::make_unique<Node>(io_, options);
    node_->Listen();
    peer_.Connect(node_->port());
  }

  void Greet() {
    peer_.SendHello('a');
    const Messages heard = Hear(&peer_, [](const Messages& m) { return m.size() == 1; });
    ASSERT_TRUE(heard.at(0).has_hello());
    ASSERT_TRUE(RunUntil([this] { return !node_->ups.empty(); }));
  }

  static proto::PeerMessage Ask(std::uint64_t id, const proto::PeerRequest& request) {
    proto::PeerMessage message;
    *message.mutable_request() = request;
    message.mutable_request()->set_request_id(id);
    message.mutable_request()->set_deadline_ms(10'000);
    return message;
  }

  // What the node answers to one request.
  proto::PeerReply Answer(std::uint64_t id, const proto::PeerRequest& request) {
    peer_.SendMessage(Ask(id, request));
    const Messages heard = Hear(&peer_, [](const Messages& m) { return m.size() == 1; });
    EXPECT_EQ(heard.at(0).reply().request_id(), id);
    return heard.at(0).reply();
  }

  // The connection ends with these last words; the node forgot the peer.
  void ExpectEnd(Errc code, const std::string& words, Refusal refusal) {
    const Messages heard = Hear(&peer_);
    ASSERT_FALSE(heard.empty());
    EXPECT_EQ(heard.back().refusal().code(), static_cast<std::uint32_t>(code));
    EXPECT_THAT(heard.back().refusal().message(), testing::HasSubstr(words));
    EXPECT_TRUE(RunUntil([this] { return node_->server.connections() == 0; }));
    EXPECT_EQ(node_->context.refusals().count(refusal), 1U);
    EXPECT_EQ(node_->context.refusals().logged(), 1U);
  }

  void TearDown() override {
    boost::system::error_code ignored;
    (void)peer_.socket.close(ignored);
    End(node_.get());
  }

  RawPeer peer_{io_};
  std::unique_ptr<Node> node_;
};

}  // namespace holdfast::transport
