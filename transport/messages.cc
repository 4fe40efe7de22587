#include "transport/messages.h"

#include "transport/frame.h"
#include "transport/wire.h"

namespace holdfast::transport {

Result<std::string> EncodeFrame(const proto::ClientMessage& message) {
  return EncodeMessage(message, kFrameMagic);
}

Result<std::string> EncodeFrame(const proto::ServerMessage& message) {
  return EncodeMessage(message, kFrameMagic);
}

Result<proto::ClientMessage> ParseClientMessage(ByteView payload) {
  proto::ClientMessage message;
  HF_TRYV(ParseMessage(payload, kMaxMessageParts, &message));
  if (message.request_id() == 0 || message.body_case() == proto::ClientMessage::BODY_NOT_SET) {
    return Error(Errc::kCorruption, "a request without id or without a body that is known here");
  }
  return message;
}

Result<proto::ServerMessage> ParseServerMessage(ByteView payload) {
  proto::ServerMessage message;
  HF_TRYV(ParseMessage(payload, kMaxMessageParts, &message));
  return message;
}

bool CarriesFd(const proto::ServerMessage& message) {
  switch (message.body_case()) {
    case proto::ServerMessage::kGrant:
      return message.grant().has_fd();
    case proto::ServerMessage::kRestore:
      return message.restore().has_fd();
    case proto::ServerMessage::kOpenShard:
      return message.open_shard().has_fd();
    case proto::ServerMessage::kRestoreImage:
      return message.restore_image().has_fd();
    default:
      return false;
  }
}

}  // namespace holdfast::transport
