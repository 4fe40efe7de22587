// Feeds a stream to the decoder as a hostile peer would send it, and each payload to both parsers.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "common/check.h"
#include "transport/frame.h"
#include "transport/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace holdfast;             // NOLINT: one function
  using namespace holdfast::transport;  // NOLINT
  if (size == 0) {
    return 0;
  }
  // The first byte says how large the pieces are in which the rest arrives.
  const std::size_t piece = std::size_t{data[0]} + 1;
  std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  FrameDecoder decoder(std::size_t{1} << 16);
  while (true) {
    const auto payload = decoder.Next();
    if (payload.has_error()) {
      HOLDFAST_CHECK(decoder.Next().has_error());
      return 0;
    }
    if (payload.value().has_value()) {
      const auto request = ParseClientMessage(*payload.value());
      if (request.has_value()) {
        HOLDFAST_CHECK(request.value().request_id() != 0);
        HOLDFAST_CHECK(EncodeFrame(request.value()).has_value());
      }
      const auto answer = ParseServerMessage(*payload.value());
      if (answer.has_value()) {
        (void)CarriesFd(answer.value());
      }
      continue;
    }
    if (stream.empty()) {
      HOLDFAST_CHECK(decoder.ReceivedBytes() == size - 1);
      return 0;
    }
    const MutableByteView space = decoder.Space();
    const std::size_t count = std::min({space.size(), piece, stream.size()});
    std::memcpy(space.data(), stream.data(), count);
    decoder.Commit(count);
    stream.remove_prefix(count);
    HOLDFAST_CHECK(decoder.CapacityBytes() <= 4 * size + (std::size_t{1} << 15));
  }
}
