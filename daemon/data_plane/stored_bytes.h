// Bytes that this node stores, and what keeps them mapped.
//
// Threads: a value; the memory is read from any thread.
#pragma once

#include <memory>

#include "common/bytes.h"

namespace holdfast::daemon {

struct StoredBytesView {
  ByteView bytes;
  std::shared_ptr<const void> keep;
};

}  // namespace holdfast::daemon
