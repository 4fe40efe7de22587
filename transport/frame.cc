#include "transport/frame.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "common/check.h"

namespace holdfast::transport {
namespace {

constexpr std::size_t kFirstBufferBytes = 16 * kKiB;
// One large message must not keep its buffer for the life of an idle connection.
constexpr std::size_t kKeptBufferBytes = 256 * kKiB;

}  // namespace

Status EncodeFrameHeader(std::size_t payload_bytes, void* out, std::uint32_t magic) {
  if (payload_bytes > kMaxFramePayloadBytes) {
    return Error(Errc::kInvalidArgument,
                 "a message of " + FormatBytes(payload_bytes) + " is above the limit of " +
                     FormatBytes(kMaxFramePayloadBytes) + " for one frame");
  }
  StoreLe32(out, magic);
  StoreLe32(static_cast<char*>(out) + 4, static_cast<std::uint32_t>(payload_bytes));
  return Ok();
}

FrameDecoder::FrameDecoder(std::size_t max_payload_bytes, std::uint32_t magic)
    : max_payload_bytes_(std::min(max_payload_bytes, kMaxFramePayloadBytes)), magic_(magic) {}

void FrameDecoder::SetMaxPayload(std::size_t max_payload_bytes) {
  max_payload_bytes_ = std::min(max_payload_bytes, kMaxFramePayloadBytes);
}

Result<std::optional<ByteView>> FrameDecoder::Next() {
  if (broken_) {
    return Error(Errc::kCorruption, "the stream lost its frames before: close the connection");
  }
  const std::size_t available = end_ - begin_;
  if (available < kFrameHeaderBytes) {
    return std::optional<ByteView>();
  }
  const std::byte* header = buffer_.data() + begin_;
  const std::uint32_t magic = LoadLe32(header);
  const std::size_t payload_bytes = LoadLe32(header + 4);
  if (magic != magic_) {
    broken_ = true;
    return Error(Errc::kCorruption,
                 "no frame at byte " + std::to_string(consumed_bytes_) +
                     " of the stream: the magic is " + ToHex({header, 4}) + ", not \"" +
                     std::string(AsText(ByteView(reinterpret_cast<const std::byte*>(&magic_), 4))) +
                     "\"");
  }
  if (payload_bytes > max_payload_bytes_) {
    broken_ = true;
    return Error(Errc::kCorruption,
                 "the frame at byte " + std::to_string(consumed_bytes_) +
                     " of the stream announces " + FormatBytes(payload_bytes) + ", the limit is " +
                     FormatBytes(max_payload_bytes_));
  }
  if (available - kFrameHeaderBytes < payload_bytes) {
    return std::optional<ByteView>();
  }
  const ByteView payload(header + kFrameHeaderBytes, payload_bytes);
  begin_ += kFrameHeaderBytes + payload_bytes;
  consumed_bytes_ += kFrameHeaderBytes + payload_bytes;
  return std::optional<ByteView>(payload);
}

void FrameDecoder::Trim() {
  if (begin_ != end_) {
    return;
  }
  begin_ = end_ = 0;
  if (buffer_.size() > kKeptBufferBytes) {
    std::vector<std::byte>().swap(buffer_);
  }
}

MutableByteView FrameDecoder::Space() {
  Trim();
  if (end_ == buffer_.size() && begin_ > 0) {
    // What is left is less than a frame, and moves once for each frame at most.
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == buffer_.size()) {
    const std::size_t limit = kFrameHeaderBytes + max_payload_bytes_;
    HOLDFAST_CHECK(end_ < limit);  // a whole frame lies here: Next() was not asked
    const std::size_t wanted = std::max(kFirstBufferBytes, 2 * buffer_.size());
    buffer_.resize(std::min(wanted, limit));
  }
  return MutableByteView(buffer_).subspan(end_);
}

void FrameDecoder::Commit(std::size_t bytes) {
  HOLDFAST_CHECK(bytes <= buffer_.size() - end_);
  end_ += bytes;
}

}  // namespace holdfast::transport
