#include "transport/messages.h"

#include <string>

#include <gtest/gtest.h>

#include "transport/frame.h"

namespace holdfast::transport {
namespace {

proto::ClientMessage Register(int tensors) {
  proto::ClientMessage message;
  message.set_request_id(7);
  auto* layout = message.mutable_register_()->mutable_layout();
  for (int i = 0; i < tensors; ++i) {
    auto* tensor = layout->add_tensors();
    tensor->set_name("layer." + std::to_string(i) + ".weight");
    tensor->add_local_shape(4);
    tensor->mutable_part()->add_boxes()->add_offset(1);
  }
  return message;
}

ByteView PayloadOf(const std::string& frame) {
  return AsBytes(frame).subspan(kFrameHeaderBytes);
}

TEST(MessagesTest, RequestComesBackAsItWasSent) {
  const auto message = Register(1000);
  const std::string frame = EncodeFrame(message).value();
  const auto parsed = ParseClientMessage(PayloadOf(frame));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed.value().SerializeAsString(), message.SerializeAsString());
}

TEST(MessagesTest, RequestWithoutIdOrBodyIsCorruption) {
  auto message = Register(1);
  message.set_request_id(0);
  EXPECT_EQ(ParseClientMessage(PayloadOf(EncodeFrame(message).value())).error().code,
            Errc::kCorruption);
  proto::ClientMessage empty;
  empty.set_request_id(1);
  EXPECT_EQ(ParseClientMessage(PayloadOf(EncodeFrame(empty).value())).error().code,
            Errc::kCorruption);
}

TEST(MessagesTest, CutMessageIsCorruptionAtEveryByte) {
  const std::string payload = Register(3).SerializeAsString();
  for (std::size_t size = 0; size < payload.size(); ++size) {
    // A cut between two fields leaves a shorter message, which is sound; it must not crash.
    const auto parsed = ParseClientMessage(AsBytes(payload.substr(0, size)));
    if (parsed.has_error()) {
      EXPECT_EQ(parsed.error().code, Errc::kCorruption) << size;
    }
  }
}

TEST(MessagesTest, MillionsOfEmptyPartsAreRefusedBeforeTheyAreBuilt) {
  // 0x12 0x00: an empty TensorEntry in two bytes, some hundred in memory.
  std::string tensors;
  for (std::size_t i = 0; i < kMaxMessageParts + 1; ++i) {
    tensors += std::string("\x12\x00", 2);
  }
  proto::ClientMessage message;
  message.set_request_id(1);
  message.mutable_register_()->set_rank(1);
  std::string payload = message.SerializeAsString();
  const auto delimited = [](char tag, const std::string& body) {
    std::string field(1, tag);
    std::uint64_t length = body.size();
    for (; length >= 0x80; length >>= 7) {
      field += static_cast<char>(length | 0x80);
    }
    field += static_cast<char>(length);
    return field + body;
  };
  payload += delimited(0x22, delimited(0x3A, tensors));  // register_ = 4, layout = 7
  ASSERT_LT(payload.size(), kMaxFramePayloadBytes);
  const auto parsed = ParseClientMessage(AsBytes(payload));
  ASSERT_TRUE(parsed.has_error());
  EXPECT_EQ(parsed.error().code, Errc::kCorruption);
}

TEST(MessagesTest, DeepNestingIsRefused) {
  const std::string payload(100'000, '\x0b');  // each the start of group 1
  EXPECT_TRUE(ParseServerMessage(AsBytes(payload)).has_error());
}

TEST(MessagesTest, UnknownEventIsNoError) {
  proto::ServerMessage message;
  EXPECT_TRUE(ParseServerMessage(PayloadOf(EncodeFrame(message).value())).has_value());
  // Field 1000, a message of a newer daemon.
  EXPECT_TRUE(ParseServerMessage(AsBytes(std::string_view("\xc2\x3e\x02\x08\x01", 5))).has_value());
}

TEST(MessagesTest, OnlyMessagesThatSaySoCarryADescriptor) {
  proto::ServerMessage message;
  EXPECT_FALSE(CarriesFd(message));
  message.mutable_grant()->set_slot(1);
  EXPECT_FALSE(CarriesFd(message));
  message.mutable_grant()->set_has_fd(true);
  EXPECT_TRUE(CarriesFd(message));
  message.mutable_restore()->set_has_fd(true);
  EXPECT_TRUE(CarriesFd(message));
  message.mutable_open_shard()->set_has_fd(true);
  EXPECT_TRUE(CarriesFd(message));
}

}  // namespace
}  // namespace holdfast::transport
