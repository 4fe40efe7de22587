#include "transport/wire.h"

#include <climits>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
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

}  // namespace

Result<std::string> EncodeMessage(const google::protobuf::Message& message, std::uint32_t magic) {
  const std::size_t bytes = message.ByteSizeLong();
  char header[kFrameHeaderBytes];
  HF_TRYV(EncodeFrameHeader(bytes, header, magic));
  std::string frame;
  frame.reserve(kFrameHeaderBytes + bytes);
  frame.append(header, kFrameHeaderBytes);
  if (!message.AppendToString(&frame)) {
    return Error(Errc::kInternal, "Protobuf cannot serialise " + message.GetTypeName());
  }
  return frame;
}

Status ParseMessage(ByteView payload, std::size_t max_parts, google::protobuf::Message* message) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(payload.data());
  std::size_t parts_left = max_parts;
  // The frame limits the payload to 64 MiB, far below INT_MAX; a longer view is a foreign caller's.
  bool sound = payload.size() <= kMaxFramePayloadBytes;
  if (sound) {
    CodedInputStream in(data, static_cast<int>(payload.size()));
    sound = CountParts(&in, message->GetDescriptor(), kMaxDepth, &parts_left) &&
            message->ParseFromArray(data, static_cast<int>(payload.size()));
  }
  if (!sound) {
    return Error(Errc::kCorruption,
                 "a payload of " + std::to_string(payload.size()) + " bytes is no " +
                     message->GetDescriptor()->name() + ", or has too many parts");
  }
  return Ok();
}

}  // namespace holdfast::transport
