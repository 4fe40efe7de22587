// A digest that a GPU computes at the speed of its memory: the sum of a range's 32-bit words, each
// times an odd weight of its place.
//
// It says that the bytes which landed in a slot are those that the device had when the snapshot
// began.  Any change of a single word changes it (an odd weight is invertible modulo 2^64, and a
// difference of 32 bits is never 0 there); other changes go unseen with a probability of about
// 2^-64.  It is no replacement for the CRC32C of the chunks, which goes with the bytes for ever.
//
// Threads:   pure; any thread.
#pragma once

#include <cstdint>

#include "common/bytes.h"

namespace holdfast::client {

// Words are little-endian and counted from the start of "bytes"; a last one is filled up with 0.
// At most 16 GiB.
[[nodiscard]] std::uint64_t WordSum(ByteView bytes);

}  // namespace holdfast::client
