// The frames in which messages travel over a stream socket (docs/format/client_protocol.md,
// docs/format/peer-protocol.md).
//
//   u32 LE magic ("HFC1": clients, "HFP1": peers) | u32 LE payload length, at most 64 MiB | payload
//
// The other side is not trusted: it may send anything, in pieces of any size, and stop anywhere.
// What it announces costs nothing; memory grows only with the bytes that really arrived.
//
// Threads:   one thread at a time; no locks inside.
// Ownership: a FrameDecoder owns its buffer; views that it hands out die with the next call.
// Errors:    kCorruption for bytes that are no frame.  Final: a stream has no place to start again,
//            so the connection must be closed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"

namespace holdfast::transport {

inline constexpr std::uint32_t kFrameMagic = 0x31434648;      // "HFC1", first byte first
inline constexpr std::uint32_t kPeerFrameMagic = 0x31504648;  // "HFP1"
inline constexpr std::size_t kFrameHeaderBytes = 8;
// A registration of 300,000 tensors, or the digests of a 16 TiB image, fit.
inline constexpr std::size_t kMaxFramePayloadBytes = 64 * kMiB;

// Writes the header of a frame of "payload_bytes" to "out", which has kFrameHeaderBytes of room.
// kInvalidArgument above kMaxFramePayloadBytes: the message must be made smaller.
[[nodiscard]] Status EncodeFrameHeader(std::size_t payload_bytes,
                                       void* out,
                                       std::uint32_t magic = kFrameMagic);

// Cuts a stream into payloads.
//
//   for (;;) {
//     HF_TRY(auto payload, decoder.Next());
//     if (payload) { use it; continue; }
//     n = read(fd, decoder.Space()...);  decoder.Commit(n);
//   }
class FrameDecoder {
 public:
  // Nothing passes a larger limit; tests, and peers that have not said hello yet, a smaller one.
  explicit FrameDecoder(std::size_t max_payload_bytes = kMaxFramePayloadBytes,
                        std::uint32_t magic = kFrameMagic);

  // For the frames that Next() has not looked at yet.
  void SetMaxPayload(std::size_t max_payload_bytes);

  // The payload of the next whole frame (possibly empty); nothing when more bytes are needed.  The
  // view lives until the next call of any function that is not const.
  [[nodiscard]] Result<std::optional<ByteView>> Next();

  // Gives back the memory of a large frame that Next() has handed out and that is not needed any
  // more; the view dies.
  void Trim();

  // Where the next bytes of the stream are to be put; never empty.  To be asked only after Next()
  // had nothing: the decoder never holds more than one unfinished frame.
  [[nodiscard]] MutableByteView Space();

  // The first "bytes" of the last Space() were filled.
  void Commit(std::size_t bytes);

  // Stream position behind the frame that Next() gave last: where the next frame starts.
  [[nodiscard]] std::uint64_t ConsumedBytes() const { return consumed_bytes_; }

  // Stream position behind the bytes received so far.
  [[nodiscard]] std::uint64_t ReceivedBytes() const { return consumed_bytes_ + (end_ - begin_); }

  // Whether a frame has begun and not ended: an end of the stream here has cut it.
  [[nodiscard]] bool InsideFrame() const { return begin_ != end_; }

  // Memory held, for the bound that tests check.
  [[nodiscard]] std::size_t CapacityBytes() const { return buffer_.capacity(); }

 private:
  std::size_t max_payload_bytes_;
  const std::uint32_t magic_;
  bool broken_ = false;  // sticky: the stream lost its frames
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0;  // first byte not yet handed out
  std::size_t end_ = 0;    // behind the last byte received
  std::uint64_t consumed_bytes_ = 0;
};

}  // namespace holdfast::transport
