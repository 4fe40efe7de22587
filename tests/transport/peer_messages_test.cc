#include "transport/peer_messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transport/frame.h"

namespace holdfast::transport {
namespace {

using ::testing::HasSubstr;

proto::PeerHello GoodHello() {
  proto::PeerHello hello;
  hello.set_protocol_version(kPeerProtocolVersion);
  hello.set_node_uuid(std::string(kUuidBytes, 'a'));
  hello.set_max_requests(1);
  return hello;
}

TEST(PeerMessagesTest, FramesOfPeersAndOfClientsAreToldApart) {
  proto::PeerMessage message;
  message.mutable_ping()->set_number(3);
  const std::string frame = EncodePeerFrame(message).value();
  EXPECT_EQ(frame.substr(0, 4), "HFP1");
  FrameDecoder client_side;
  std::memcpy(client_side.Space().data(), frame.data(), frame.size());
  client_side.Commit(frame.size());
  EXPECT_EQ(client_side.Next().error().code, Errc::kCorruption);
  EXPECT_EQ(ParsePeerMessage(AsBytes(frame).subspan(kFrameHeaderBytes)).value().ping().number(),
            3U);
}

TEST(PeerMessagesTest, PayloadOfTooManyPartsIsRefusedBeforeItIsBuilt) {
  proto::PeerMessage message;
  auto* command = message.mutable_request()->mutable_command()->mutable_command();
  for (std::size_t i = 0; i < kMaxPeerParts; ++i) {
    command->add_complete();
  }
  const std::string frame = EncodePeerFrame(message).value();
  const auto parsed = ParsePeerMessage(AsBytes(frame).subspan(kFrameHeaderBytes));
  EXPECT_EQ(parsed.error().code, Errc::kCorruption);
}

TEST(PeerMessagesTest, HelloIsCheckedFieldByField) {
  EXPECT_TRUE(CheckHello(GoodHello()).has_value());
  auto hello = GoodHello();
  hello.set_protocol_version(0);
  EXPECT_EQ(CheckHello(hello).error().code, Errc::kVersionMismatch);
  hello = GoodHello();
  hello.set_node_uuid("x");
  EXPECT_EQ(CheckHello(hello).error().code, Errc::kInvalidArgument);
  hello = GoodHello();
  hello.set_wanted_node("x");
  EXPECT_EQ(CheckHello(hello).error().code, Errc::kInvalidArgument);
  hello = GoodHello();
  hello.set_max_requests(0);
  EXPECT_EQ(CheckHello(hello).error().code, Errc::kInvalidArgument);
  hello = GoodHello();
  hello.add_planes();
  EXPECT_EQ(CheckHello(hello).error().code, Errc::kInvalidArgument);
  hello.mutable_planes(0)->set_kind("tls");
  EXPECT_TRUE(CheckHello(hello).has_value());
  hello.mutable_planes(0)->set_address(std::string(257, 'x'));
  EXPECT_EQ(CheckHello(hello).error().code, Errc::kInvalidArgument);
  hello = GoodHello();
  for (int i = 0; i < 65; ++i) {
    hello.add_planes()->set_kind("tls");
  }
  EXPECT_EQ(CheckHello(hello).error().code, Errc::kInvalidArgument);
}

TEST(PeerMessagesTest, DigestsShowTheFirstChunkThatDiffers) {
  proto::ReadRangeReply reply;
  reply.set_data(std::string(2 * kMiB + 5, 'x'));
  AddDigests(&reply);
  EXPECT_EQ(reply.chunk_crc32c_size(), 3);
  EXPECT_TRUE(VerifyDigests(reply).has_value());
  (*reply.mutable_data())[kMiB] = 'y';
  EXPECT_THAT(VerifyDigests(reply).error().message, HasSubstr("chunk 1"));
  reply.mutable_chunk_crc32c()->RemoveLast();
  EXPECT_EQ(VerifyDigests(reply).error().code, Errc::kCorruption);
}

TEST(PeerMessagesTest, ReplyOfAnotherKindDoesNotFit) {
  proto::PeerRequest request;
  request.mutable_fetch_sidecar();
  proto::PeerReply reply;
  EXPECT_FALSE(CheckReply(AskedFor(request), reply).has_value());
  reply.mutable_report();
  EXPECT_FALSE(CheckReply(AskedFor(request), reply).has_value());
  reply.mutable_fetch_sidecar();
  EXPECT_TRUE(CheckReply(AskedFor(request), reply).has_value());
}

// Section 11: for whom it is asked is always said.
TEST(PeerMessagesTest, AViewIsForSomebodyAndOfAJobThatCanBe) {
  proto::PeerRequest request;
  request.set_deadline_ms(1'000);
  request.mutable_view();
  EXPECT_EQ(CheckRequest(request, "").error().code, Errc::kInvalidArgument);
  request.mutable_view()->mutable_user();
  EXPECT_TRUE(CheckRequest(request, "").has_value());
  request.mutable_view()->set_job_name(std::string(kMaxJobNameBytes + 1, 'x'));
  EXPECT_EQ(CheckRequest(request, "").error().code, Errc::kInvalidArgument);
}

// I9: what is decoded for a peer is bounded by what its code set says.
TEST(PeerMessagesTest, AShareIsOfOneRankAndOneCodeSet) {
  proto::PeerRequest good;
  good.set_deadline_ms(1'000);
  proto::DecodeShareRequest* share = good.mutable_decode_share();
  share->mutable_key()->mutable_id()->set_job_uid(std::string(kUuidBytes, 'j'));
  share->mutable_key()->mutable_id()->set_incarnation(1);
  share->mutable_key()->mutable_share()->set_rank(3);
  share->mutable_order()->set_rank(3);
  share->mutable_order()->mutable_held();
  EXPECT_TRUE(CheckRequest(good, "").has_value());
  std::vector<proto::PeerRequest> wrong(4, good);
  wrong[0].mutable_decode_share()->mutable_order()->set_rank(2);
  wrong[1].mutable_decode_share()->mutable_order()->clear_held();
  wrong[2].mutable_decode_share()->mutable_key()->mutable_feed()->set_row(1);
  wrong[3].mutable_decode_share()->mutable_key()->mutable_id()->clear_job_uid();
  for (const proto::PeerRequest& request : wrong) {
    EXPECT_EQ(CheckRequest(request, "").error().code, Errc::kInvalidArgument);
  }
  proto::PeerRequest next;
  next.set_deadline_ms(1'000);
  *next.mutable_feed_next()->mutable_key() = good.decode_share().key();
  EXPECT_TRUE(CheckRequest(next, "").has_value());
}

// I9
TEST(PeerMessagesTest, AScrubIsOfBoundedPartsOfAnImageOrARow) {
  proto::PeerRequest good;
  good.set_deadline_ms(1'000);
  proto::ScrubRequest* scrub = good.mutable_scrub();
  scrub->mutable_key()->mutable_id()->set_job_uid(std::string(kUuidBytes, 'j'));
  scrub->mutable_key()->mutable_id()->set_incarnation(1);
  scrub->mutable_key()->mutable_parity();
  scrub->mutable_user();
  scrub->set_chunks(kMaxScrubChunks);
  EXPECT_TRUE(CheckRequest(good, "").has_value());
  std::vector<proto::PeerRequest> wrong(7, good);
  wrong[6].mutable_scrub()->mutable_key()->mutable_share();
  wrong[0].mutable_scrub()->set_chunks(0);
  wrong[1].mutable_scrub()->set_chunks(kMaxScrubChunks + 1);
  wrong[2].mutable_scrub()->set_first_chunk(~std::uint64_t{0} - 2);
  wrong[3].mutable_scrub()->mutable_key()->mutable_feed();
  wrong[4].mutable_scrub()->clear_user();
  wrong[5].mutable_scrub()->mutable_key()->mutable_id()->set_step(-1);
  for (const proto::PeerRequest& request : wrong) {
    EXPECT_EQ(CheckRequest(request, "").error().code, Errc::kInvalidArgument);
  }
  good.mutable_scrub()->mutable_key()->clear_part();
  EXPECT_EQ(CheckRequest(good, "").error().code, Errc::kVersionMismatch);
}

TEST(PeerMessagesTest, CodesThatAreNotKnownAreInternal) {
  EXPECT_EQ(FromPeerError(0, "x").code, Errc::kInternal);
  EXPECT_EQ(FromPeerError(9'999, "x").code, Errc::kInternal);
  EXPECT_EQ(FromPeerError(static_cast<std::uint32_t>(Errc::kFenced), "x").code, Errc::kFenced);
  EXPECT_EQ(FromPeerError(1, std::string(10'000, 'x')).message.size(), 4'096U);
}

TEST(PeerMessagesTest, UuidsAreReadWithAndWithoutHyphens) {
  const std::string uuid = ParseUuid("01234567-89ab-cdef-0123-456789abcdef").value();
  EXPECT_EQ(uuid.size(), kUuidBytes);
  EXPECT_EQ(UuidText(uuid), "01234567-89ab-cdef-0123-456789abcdef");
  EXPECT_EQ(ParseUuid("0123456789ABCDEF0123456789abcdef").value(), uuid);
  for (const char* text : {"",
                           "0123",
                           "x1234567-89ab-cdef-0123-456789abcdef",
                           "01234567-89ab-cdef-0123-456789abcdef00"}) {
    EXPECT_EQ(ParseUuid(text).error().code, Errc::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace holdfast::transport
