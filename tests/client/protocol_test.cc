#include "client/protocol.h"

#include <string>

#include <gtest/gtest.h>

namespace holdfast::client {
namespace {

TEST(ProtocolTest, AnotherVersionIsRefusedWithBothVersionsAndBothReleases) {
  proto::ServerMessage reply;
  reply.mutable_hello()->set_protocol_version(77);
  reply.mutable_hello()->set_software_version("9.8.7");
  const Status status = CheckHello(reply);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::kVersionMismatch);
  EXPECT_NE(status.error().message.find("77"), std::string::npos);
  EXPECT_NE(status.error().message.find("9.8.7"), std::string::npos);
  EXPECT_NE(status.error().message.find(std::to_string(kProtocolVersion)), std::string::npos);
}

TEST(ProtocolTest, AnotherAnswerThanAHelloIsNoDaemon) {
  proto::ServerMessage reply;
  reply.mutable_ping();
  EXPECT_EQ(CheckHello(reply).error().code, Errc::kCorruption);
  reply.mutable_hello()->set_protocol_version(kProtocolVersion);
  EXPECT_TRUE(CheckHello(reply).has_value());
}

// docs/format/client_protocol.md: a code of a newer daemon counts as internal.
TEST(ProtocolTest, CodesThatAreNotKnownAreInternalAndKeepTheirText) {
  proto::ErrorReply reply;
  reply.set_message("why");
  for (const std::uint32_t code : {0U, 15U, 255U, 0xffffffffU}) {
    reply.set_code(code);
    EXPECT_EQ(DaemonError(reply).code, Errc::kInternal) << code;
    EXPECT_EQ(DaemonError(reply).message, "why");
  }
  reply.set_code(static_cast<std::uint32_t>(Errc::kFenced));
  EXPECT_EQ(DaemonError(reply).code, Errc::kFenced);
}

}  // namespace
}  // namespace holdfast::client
