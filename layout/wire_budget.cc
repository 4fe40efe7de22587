#include "layout/wire_budget.h"

#include <limits>
#include <string>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

namespace holdfast::layout {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;

// Our messages nest at most five deep.
constexpr int kMaxDepth = 16;

class Counter {
 public:
  Counter(google::protobuf::io::CodedInputStream* in, std::uint64_t max_elements)
      : in_(in), left_(max_elements) {}

  // Reads one message up to the stream's current limit.
  Status CountMessage(const Descriptor& type, int depth) {
    if (depth > kMaxDepth) {
      return Error(Errc::kCorruption, "messages are nested more than 16 deep");
    }
    while (const std::uint32_t tag = in_->ReadTag()) {
      const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
      if (IsKept(field, tag) && left_-- == 0) {
        return Error(Errc::kCorruption, "the message has more elements than it may have");
      }
      if (WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
        HF_TRYV(CountDelimited(field, depth));
      } else if (WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_START_GROUP ||
                 !WireFormatLite::SkipField(in_, tag)) {
        // Groups, the other way to nest, do not exist in our messages.
        return Damaged();
      }
    }
    return in_->ConsumedEntireMessage() ? Status(Ok()) : Status(Damaged());
  }

 private:
  static Error Damaged() {
    return Error(Errc::kCorruption, "the bytes are not a protobuf message of the expected type");
  }

  // Whether each occurrence of the field takes memory of its own: elements of repeated strings and
  // messages, and what the parser keeps as an unknown field, be it for its number or its wire type.
  static bool IsKept(const FieldDescriptor* field, std::uint32_t tag) {
    const auto wire_type = WireFormatLite::GetTagWireType(tag);
    if (field == nullptr) {
      return true;
    }
    if (field->is_packable() && wire_type == WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      return false;
    }
    const auto declared = static_cast<WireFormatLite::FieldType>(field->type());
    const bool is_unknown = WireFormatLite::WireTypeForFieldType(declared) != wire_type;
    return is_unknown || (field->is_repeated() && !field->is_packable());
  }

  // "field" is null for a number that this software does not know.
  Status CountDelimited(const FieldDescriptor* field, int depth) {
    int length = 0;
    if (!in_->ReadVarintSizeAsInt(&length) || length < 0) {
      return Damaged();
    }
    if (field == nullptr || field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return in_->Skip(length) ? Status(Ok()) : Status(Damaged());
    }
    if (length > in_->BytesUntilLimit()) {
      return Damaged();
    }
    const auto limit = in_->PushLimit(length);
    HF_TRYV(CountMessage(*field->message_type(), depth + 1));
    in_->PopLimit(limit);
    return Ok();
  }

  google::protobuf::io::CodedInputStream* in_;
  std::uint64_t left_;
};

}  // namespace

Status CheckWireBudget(const Descriptor& type, ByteView bytes, std::uint64_t max_elements) {
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return Error(Errc::kCorruption, "the message is longer than protobuf allows");
  }
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  // Without a limit BytesUntilLimit says -1.
  const auto whole = in.PushLimit(static_cast<int>(bytes.size()));
  HF_TRYV(Counter(&in, max_elements).CountMessage(type, 0));
  in.PopLimit(whole);
  return Ok();
}

}  // namespace holdfast::layout
