// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012), fed in pieces.
//
// The name of a layout is its hash: two layouts that differ must not share one.  128 bits of a
// well-mixed function make an accident impossible in practice where two CRCs would not.  The key is
// fixed and public, so this is no defence against somebody who searches for collisions; a layout
// only ever meets layouts of the same job, which trusts its own ranks.
//
// Threads:   one object, one thread.
// Ownership: keeps no reference to what was fed.
// Lifecycle: construct -> Update any number of times -> Finish once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "common/bytes.h"

namespace holdfast::layout {

class SipHash128 {
 public:
  // The two little-endian halves of the 16-byte key.
  SipHash128(std::uint64_t key_low, std::uint64_t key_high);

  // Splitting the input differently never changes the result.
  void Update(ByteView bytes);

  // 16 bytes, in the order of the reference implementation.
  [[nodiscard]] std::string Finish();

 private:
  void Compress(std::uint64_t word);
  void Rounds(int count);

  std::uint64_t v0_;
  std::uint64_t v1_;
  std::uint64_t v2_;
  std::uint64_t v3_;
  std::array<std::byte, 8> pending_{};  // the first total_ % 8 bytes are waiting for a full word
  std::uint64_t total_ = 0;
};

}  // namespace holdfast::layout
