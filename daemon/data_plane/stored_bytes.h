// Bytes that this node stores, what keeps them mapped, and how they are named.
//
// Threads: a value; the memory is read from any thread.
#pragma once

#include <memory>
#include <string>

#include "common/bytes.h"
#include "proto/stored.pb.h"

namespace holdfast::daemon {

struct StoredBytesView {
  ByteView bytes;
  std::shared_ptr<const void> keep;
};

// Names bytes, or a ring from which the owners of several rows take theirs: whose row does not
// count.
inline std::string NameOfStored(proto::StoredKey key) {
  if (key.has_feed()) {
    key.mutable_feed()->clear_row();
  }
  return key.SerializeAsString();
}

}  // namespace holdfast::daemon
