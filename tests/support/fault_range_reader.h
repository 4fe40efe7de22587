// A RangeReader over bytes of this process, which fails, lags or hangs as a test says.
//
// Threads:   the io thread.
// Ownership: owns its bytes, or borrows them.
// Errors:    what the test put into "faults"; kTimeout and kCancelled like a real one.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/with_timeout.h"
#include "transport/range_reader.h"

namespace holdfast::transport {

class FaultRangeReader final : public RangeReader {
 public:
  struct Fault {
    std::optional<Error> error;            // instead of bytes
    std::chrono::milliseconds delay{0};    // before anything happens
    bool hang = false;                     // until the deadline, or a cancellation
    std::optional<std::size_t> flip_byte;  // of the block: its bits come inverted
  };

  // Asked for each block, in order: what is to happen with it.
  using Faults = std::function<Fault(ByteCount offset, ByteCount size)>;

  explicit FaultRangeReader(std::vector<std::byte> bytes, ByteCount block = 4 * kMiB)
      : owned_(std::move(bytes)), bytes_(owned_), block_(block) {}

  // Bytes of the test's own, which may change between two reads.
  explicit FaultRangeReader(ByteView borrowed, ByteCount block = 4 * kMiB)
      : bytes_(borrowed), block_(block) {}

  [[nodiscard]] ByteCount length() const override { return bytes_.size(); }

  [[nodiscard]] std::string Describe() const override { return "a reader of a test"; }

  Faults faults;
  std::size_t blocks = 0;     // begun
  std::size_t in_flight = 0;  // now
  std::size_t most = 0;       // at once, ever
  ByteCount bytes_read = 0;   // of blocks that succeeded

 protected:
  [[nodiscard]] ByteCount block_bytes() const override { return block_; }

  [[nodiscard]] boost::asio::awaitable<Status> ReadBlock(ByteCount offset,
                                                         MutableByteView into,
                                                         Deadline deadline) override {
    ++blocks;
    most = std::max(most, ++in_flight);
    Status done = co_await Block(offset, into, deadline);
    --in_flight;
    co_return done;
  }

 private:
  boost::asio::awaitable<Status> Block(ByteCount offset, MutableByteView into, Deadline deadline) {
    const Fault fault = faults ? faults(offset, into.size()) : Fault();
    const auto left = deadline - std::chrono::steady_clock::now();
    const auto pause = fault.hang ? left : std::min<std::chrono::nanoseconds>(fault.delay, left);
    HF_CO_TRYV(co_await SleepFor(std::max(pause, std::chrono::nanoseconds(0))));
    if (fault.hang || fault.delay >= left) {
      co_return Error(Errc::kTimeout, "a reader of a test: no answer within the deadline");
    }
    if (fault.error.has_value()) {
      co_return *fault.error;
    }
    bytes_read += into.size();
    std::memcpy(into.data(), bytes_.data() + offset, into.size());
    if (fault.flip_byte.has_value()) {
      into[*fault.flip_byte] = ~into[*fault.flip_byte];
    }
    co_return Ok();
  }

  const std::vector<std::byte> owned_;
  const ByteView bytes_;
  const ByteCount block_;
};

}  // namespace holdfast::transport
