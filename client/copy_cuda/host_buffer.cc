#include "client/copy_cuda/host_buffer.h"

#include <new>
#include <utility>

namespace holdfast::client {

Result<HostBuffer> HostBuffer::Make(ByteCount bytes) {
  HostBuffer buffer;
  auto pinned = MakePinnedMemory(bytes);
  if (pinned.has_value()) {
    buffer.pinned_ = std::move(pinned).value();
    return buffer;
  }
  buffer.why_not_ = pinned.error().message;
  buffer.pageable_.reset(new (std::nothrow) std::byte[bytes]());
  if (buffer.pageable_ == nullptr) {
    return Error(Errc::kNoSpace, FormatBytes(bytes) + " of host memory");
  }
  return buffer;
}

}  // namespace holdfast::client
