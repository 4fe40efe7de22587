// A peer that says what it likes: pieces, garbage, lies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/transport/raw_peer_fixture.h"

namespace holdfast::transport {
namespace {

using std::chrono::seconds;

TEST_F(PeerHostileTest, FramesMayComeInPieces) {
  Open();
  Greet();
  const std::string frame = EncodePeerFrame(Ask(1, SidecarOf('x'))).value();
  for (const char byte : frame) {
    peer_.Send(std::string(1, byte));
    io_.restart();
    io_.poll();
  }
  const Messages heard = Hear(&peer_, [](const Messages& m) { return m.size() == 1; });
  EXPECT_TRUE(heard.at(0).reply().has_fetch_sidecar());
}

TEST_F(PeerHostileTest, GarbageEndsTheConnection) {
  Open();
  Greet();
  peer_.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ExpectEnd(Errc::kCorruption, "no frame at byte", Refusal::kGarbage);
}

TEST_F(PeerHostileTest, PayloadThatIsNoMessageEndsTheConnection) {
  Open();
  Greet();
  char header[kFrameHeaderBytes];
  ASSERT_TRUE(EncodeFrameHeader(3, header, kPeerFrameMagic).has_value());
  peer_.Send(std::string(header, sizeof header) + "\xff\xff\xff");
  ExpectEnd(Errc::kCorruption, "is no PeerMessage", Refusal::kGarbage);
}

TEST_F(PeerHostileTest, GarbageBeforeHelloIsRefused) {
  Open();
  peer_.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ExpectEnd(Errc::kCorruption, "not \"HFP1\"", Refusal::kGarbage);
}

TEST_F(PeerHostileTest, LargeHelloIsRefused) {
  Open();
  char header[kFrameHeaderBytes];
  ASSERT_TRUE(EncodeFrameHeader(kMaxHelloBytes + 1, header, kPeerFrameMagic).has_value());
  peer_.Send(std::string(header, sizeof header));
  ExpectEnd(Errc::kCorruption, "the limit is 64.0 KiB", Refusal::kGarbage);
}

TEST_F(PeerHostileTest, RequestBeforeHelloIsRefused) {
  Open();
  peer_.SendMessage(Ask(1, SidecarOf('x')));
  ExpectEnd(Errc::kCorruption, "must be hello", Refusal::kGarbage);
  EXPECT_TRUE(node_->arrived.empty());
}

TEST_F(PeerHostileTest, AnotherProtocolVersionIsRefusedWithBoth) {
  Open();
  const std::uint32_t other = kPeerProtocolVersion + 1;
  peer_.SendHello('a', other);
  ExpectEnd(Errc::kVersionMismatch,
            "protocol version " + std::to_string(other) + " (Holdfast \"9.9\")",
            Refusal::kVersion);
}

TEST_F(PeerHostileTest, RequestIdsMustRise) {
  Open();
  Greet();
  EXPECT_TRUE(Answer(5, SidecarOf('x')).has_fetch_sidecar());
  peer_.SendMessage(Ask(5, SidecarOf('x')));
  ExpectEnd(Errc::kCorruption, "request 5 came after request 5", Refusal::kGarbage);
}

TEST_F(PeerHostileTest, AnswerToNothingEndsTheConnection) {
  Open();
  Greet();
  proto::PeerMessage message;
  message.mutable_reply()->set_request_id(77);
  peer_.SendMessage(message);
  ExpectEnd(Errc::kCorruption, "request 77, which waits for none", Refusal::kGarbage);
}

TEST_F(PeerHostileTest, UnknownBodyIsAnsweredVersionMismatch) {
  Open();
  Greet();
  const proto::PeerReply reply = Answer(1, proto::PeerRequest());
  EXPECT_EQ(reply.error().code(), static_cast<std::uint32_t>(Errc::kVersionMismatch));
  EXPECT_EQ(node_->context.refusals().count(Refusal::kVersion), 1U);
  EXPECT_TRUE(Answer(2, SidecarOf('x')).has_fetch_sidecar());
}

TEST_F(PeerHostileTest, WrongKeysAreRefusedEachTimeAndLoggedOnce) {
  Open();
  Greet();
  std::vector<proto::PeerRequest> wrong(5, ReadOf(0, 10));
  wrong[0].mutable_read_range()->mutable_key()->mutable_id()->set_job_uid("short");
  wrong[1].mutable_read_range()->set_offset(~std::uint64_t{0} - 3);
  wrong[2].mutable_read_range()->set_length(0);
  wrong[3].mutable_read_range()->mutable_key()->mutable_id()->set_step(-1);
  wrong[4].mutable_fetch_sidecar();
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    EXPECT_EQ(Answer(i + 1, wrong[i]).error().code(),
              static_cast<std::uint32_t>(Errc::kInvalidArgument))
        << i;
  }
  EXPECT_EQ(node_->context.refusals().count(Refusal::kRequest), 5U);
  EXPECT_EQ(node_->context.refusals().logged(), 1U);
  EXPECT_TRUE(node_->arrived.empty());
}

TEST_F(PeerHostileTest, OlderEpochsAndRepeatedReportsAreRefused) {
  Open();
  Greet();
  EXPECT_TRUE(Answer(1, ReportOf('a', 2, 5)).has_report());
  const auto fenced = static_cast<std::uint32_t>(Errc::kFenced);
  const auto repeated = static_cast<std::uint32_t>(Errc::kAlreadyExists);
  EXPECT_EQ(Answer(2, ReportOf('a', 1, 9)).error().code(), fenced);  // I8
  EXPECT_EQ(Answer(3, ReportOf('a', 2, 5)).error().code(), repeated);
  auto other_token = ReportOf('a', 2, 6);
  other_token.mutable_report()->mutable_report()->mutable_stamp()->set_epoch_token(6);
  EXPECT_EQ(Answer(4, other_token).error().code(), fenced);
  EXPECT_TRUE(Answer(5, ReportOf('a', 2, 6)).has_report());
  EXPECT_EQ(node_->arrived.size(), 2U);
  EXPECT_EQ(node_->context.refusals().count(Refusal::kStale), 3U);
}

TEST_F(PeerHostileTest, ReportOfAnotherNodeIsRefused) {
  Open();
  Greet();
  EXPECT_EQ(Answer(1, ReportOf('c', 2, 5)).error().code(),
            static_cast<std::uint32_t>(Errc::kPermission));
  EXPECT_EQ(node_->context.refusals().count(Refusal::kIdentity), 1U);
}

TEST_F(PeerHostileTest, DaemonOfAnOlderBootIsFenced) {
  Open();
  peer_.SendHello('a', kPeerProtocolVersion, 7);
  ASSERT_TRUE(RunUntil([this] { return !node_->ups.empty(); }));
  RawPeer old(io_);
  old.Connect(node_->port());
  old.SendHello('a', kPeerProtocolVersion, 6);
  const Messages heard = Hear(&old);
  EXPECT_EQ(heard.back().refusal().code(), static_cast<std::uint32_t>(Errc::kFenced));
  EXPECT_EQ(node_->context.refusals().count(Refusal::kStale), 1U);
}

TEST_F(PeerHostileTest, ReplyThatDoesNotFitIsCorruption) {
  Open();
  Greet();
  std::optional<Result<proto::PeerReply>> reply;
  Start(node_->ups.front()->Call(ReadOf(0, 100), seconds(10)), &reply);
  const Messages heard = Hear(&peer_, [](const Messages& m) { return m.size() == 1; });
  proto::PeerMessage lie;
  lie.mutable_reply()->set_request_id(heard.at(0).request().request_id());
  lie.mutable_reply()->mutable_read_range()->set_data(std::string(99, 'x'));
  AddDigests(lie.mutable_reply()->mutable_read_range());
  peer_.SendMessage(lie);
  ASSERT_TRUE(RunUntil([&] { return reply.has_value(); }));
  EXPECT_EQ(reply->error().code, Errc::kCorruption);  // I5
}

TEST_F(PeerHostileTest, CancelOfThePeerReachesItsRequestOnly) {
  Open();
  node_->hold = true;
  Greet();
  peer_.SendMessage(Ask(1, SidecarOf('x')));
  peer_.SendMessage(Ask(2, SidecarOf('y')));
  proto::PeerMessage cancel;
  cancel.mutable_cancel()->set_request_id(1);
  peer_.SendMessage(cancel);
  cancel.mutable_cancel()->set_request_id(99);
  peer_.SendMessage(cancel);
  Messages heard = Hear(&peer_, [](const Messages& m) { return m.size() == 1; });
  EXPECT_EQ(heard.at(0).reply().request_id(), 1U);
  EXPECT_EQ(heard.at(0).reply().error().code(), static_cast<std::uint32_t>(Errc::kCancelled));
  node_->LetGo(1);
  heard = Hear(&peer_, [](const Messages& m) { return m.size() == 1; });
  EXPECT_TRUE(heard.at(0).reply().has_fetch_sidecar());
}

}  // namespace
}  // namespace holdfast::transport
