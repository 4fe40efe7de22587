#include "transport/messages.h"

#include <climits>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/message.h>
#include <google/protobuf/wire_format_lite.h>

#include "transport/frame.h"

namespace holdfast::transport {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Deeper than any message of the protocol, shallow enough for any stack.
constexpr int kMaxDepth = 16;

template <class Message>
Result<std::string> Encode(const Message& message) {
  const std::size_t bytes = message.ByteSizeLong();
  char header[kFrameHeaderBytes];
  HF_TRYV(EncodeFrameHeader(bytes, header));
  std::string frame;
  frame.reserve(kFrameHeaderBytes + bytes);
  frame.append(header, kFrameHeaderBytes);
  if (!message.AppendToString(&frame)) {
    return Error(Errc::kInternal, "Protobuf cannot serialise " + message.GetTypeName());
  }
  return frame;
}

// Walks the wire format of a message of type "type" and takes every length-delimited part from
// "parts_left".  False where the bytes are no such message, or hold too many parts.
bool CountParts(CodedInputStream* in, const Descriptor* type, int depth, std::size_t* parts_left) {
  while (true) {
    const std::uint32_t tag = in->ReadTag();
    if (tag == 0) {
      return in->ConsumedEntireMessage();
    }
    if (WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      // Groups are no part of proto3; Protobuf would skip them by recursion.
      if (WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_START_GROUP ||
          !WireFormatLite::SkipField(in, tag)) {
        return false;
      }
      continue;
    }
    if (*parts_left == 0) {
      return false;
    }
    --*parts_left;
    std::uint32_t length = 0;
    if (!in->ReadVarint32(&length) || length > INT_MAX) {
      return false;
    }
    const FieldDescriptor* field = type->FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    if (field == nullptr || field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      if (!in->Skip(static_cast<int>(length))) {
        return false;
      }
      continue;
    }
    if (depth == 0) {
      return false;
    }
    const auto limit = in->PushLimit(static_cast<int>(length));
    const bool sound = CountParts(in, field->message_type(), depth - 1, parts_left);
    const bool whole = in->BytesUntilLimit() == 0;
    in->PopLimit(limit);
    if (!sound || !whole) {
      return false;
    }
  }
}

template <class Message>
Result<Message> Parse(ByteView payload) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(payload.data());
  Message message;
  std::size_t parts_left = kMaxMessageParts;
  // The frame limits the payload to 64 MiB, far below INT_MAX; a longer view is a foreign caller's.
  bool sound = payload.size() <= kMaxFramePayloadBytes;
  if (sound) {
    CodedInputStream in(data, static_cast<int>(payload.size()));
    sound = CountParts(&in, Message::descriptor(), kMaxDepth, &parts_left) &&
            message.ParseFromArray(data, static_cast<int>(payload.size()));
  }
  if (!sound) {
    return Error(Errc::kCorruption,
                 "a payload of " + std::to_string(payload.size()) + " bytes is no " +
                     Message::descriptor()->name() + ", or has too many parts");
  }
  return message;
}

}  // namespace

Result<std::string> EncodeFrame(const proto::ClientMessage& message) {
  return Encode(message);
}

Result<std::string> EncodeFrame(const proto::ServerMessage& message) {
  return Encode(message);
}

Result<proto::ClientMessage> ParseClientMessage(ByteView payload) {
  HF_TRY(auto message, Parse<proto::ClientMessage>(payload));
  if (message.request_id() == 0 || message.body_case() == proto::ClientMessage::BODY_NOT_SET) {
    return Error(Errc::kCorruption, "a request without id or without a body that is known here");
  }
  return message;
}

Result<proto::ServerMessage> ParseServerMessage(ByteView payload) {
  return Parse<proto::ServerMessage>(payload);
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
