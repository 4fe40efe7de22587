// The seam of a restore to memory that the host cannot write: checked bytes go through buffers of
// the sink.
//
// Threads:   Borrow and Send by any thread, each room by one at a time; Finish after all of them.
// Ownership: rooms belong to the sink; whoever borrows one sends it or gives it back.
// Errors:    kIoError, kNoSpace; after one the destinations hold rubbish.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"

namespace holdfast::client {

class LoadSink {
 public:
  // Of a room: copies of less leave the link idle in between.
  static constexpr std::size_t kRoomChunks = 4;

  // A part of a room and where it goes.
  struct Part {
    std::size_t room_offset = 0;
    std::size_t bytes = 0;
    std::int32_t device = 0;
    std::byte* destination = nullptr;
  };

  virtual ~LoadSink() = default;

  // A buffer of kRoomChunks chunks, after waiting for one if need be.
  [[nodiscard]] virtual Result<MutableByteView> Borrow() = 0;

  // Starts the copies out of "room" and takes it back when they have ended.  No parts: at once.
  [[nodiscard]] virtual Status Send(MutableByteView room, std::span<const Part> parts) = 0;

  // Copies what has been loaded once to a second place, on "device"; it is there when this returns.
  // After Finish.
  [[nodiscard]] virtual Status Duplicate(std::byte* to,
                                         std::int32_t device,
                                         const std::byte* from,
                                         ByteCount bytes) = 0;

  // Waits until everything has arrived.
  [[nodiscard]] virtual Status Finish() = 0;

  // Why it is slower than it could be, for the user; empty: it is not.
  [[nodiscard]] virtual std::string Note() const { return ""; }
};

}  // namespace holdfast::client
