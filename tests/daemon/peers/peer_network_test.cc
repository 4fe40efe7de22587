// Messages of the core to a node whose connection is at its end, or cannot carry them.

#include "daemon/peers/peer_network.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "daemon/core/node_core.h"
#include "tests/transport/peer_fixture.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using transport::Uuid;

class PeerNetworkTest : public transport::PeerTest {
 protected:
  PeerNetworkTest() {
    io_thread_.Bind();
    RecoveredState state;
    state.node_uuid = Uuid('a');
    core_ = std::make_unique<NodeCore>(
        CoreOptions(), std::move(state), SystemClock().Now(), SystemClock().WallNow());
    gate_ = std::make_unique<CoreGate>(&io_thread_, core_.get(), [] {});
    PeerOptions options;
    options.listen = "127.0.0.1:0";
    options.allow_insecure = true;
    network_ = PeerNetwork::Open(io_.get_executor(), options, Uuid('a'), 1, gate_.get()).value();
    network_->Start();
  }

  ~PeerNetworkTest() override { EXPECT_TRUE(RunToEnd(StopAndJoin(network_.get()))); }

  [[nodiscard]] bool IsConnected() const { return network_->links().Find(Uuid('b')) != nullptr; }

  void ConnectPeer() {
    peer_.Connect(transport::ParseEndpoint(network_->endpoints().front()).value().port());
    peer_.SendHello('b');
    ASSERT_TRUE(RunUntil([this] { return IsConnected(); }));
  }

  static SendReport ReportTo(char node, std::size_t bytes) {
    SendReport action;
    action.node_uuid = Uuid(node);
    action.job_uid = Uuid('j');
    action.job_name = "job";
    action.report.node_uuid = Uuid('a');
    action.report.parity_error = std::string(bytes, 'x');
    return action;
  }

  // As the daemon does: from within the loop.
  void Send(const SendReport& action) {
    auto send = [&]() -> asio::awaitable<bool> {
      network_->Send(action);
      co_return true;
    };
    ASSERT_TRUE(RunToEnd(send()));
  }

  IoThread io_thread_;
  std::unique_ptr<NodeCore> core_;
  std::unique_ptr<CoreGate> gate_;
  std::unique_ptr<PeerNetwork> network_;
  transport::RawPeer peer_{io_};
};

// It fails before anything has to wait: the lane is gone when the call that made it returns.
TEST_F(PeerNetworkTest, AMessageThatIsTooLargeToSendIsGivenUpAtOnceAndTheNextOneGoes) {
  ConnectPeer();
  Send(ReportTo('b', transport::kMaxFramePayloadBytes + 1));
  EXPECT_EQ(network_->counters().unanswered, 1U);
  Send(ReportTo('b', 10));
  const auto heard = Hear(&peer_, [](const auto& messages) {
    return !messages.empty() && messages.back().has_request();
  });
  ASSERT_TRUE(!heard.empty() && heard.back().has_request());
  EXPECT_EQ(heard.back().request().report().report().parity_error(), std::string(10, 'x'));
}

// Only its last words are sent any more: for a second it is there, but takes nothing.
TEST_F(PeerNetworkTest, AConnectionOverWhichGarbageCameIsNoneForWhatIsSentNow) {
  ConnectPeer();
  peer_.Send("this is no frame of ours");
  ASSERT_TRUE(RunUntil([this] { return network_->refused(transport::Refusal::kGarbage) == 1; }));
  EXPECT_FALSE(IsConnected());
  Send(ReportTo('b', 10));
  EXPECT_EQ(network_->counters().reports_sent, 0U);
  EXPECT_EQ(network_->counters().unanswered, 0U);
}

}  // namespace
}  // namespace holdfast::daemon
