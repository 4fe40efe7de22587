// Copies memory and digests it on the way, past the caches or into them.
//
// A snapshot reads gigabytes once and writes them once: stores through the cache would first read
// every destination line and push the trainer's working set out.  Digesting 4 KiB and then storing
// the same 4 KiB past the cache reads memory once for both (measured on one thread: 21 GB/s where
// memcpy alone gives 12).
//
// Threads:   any thread; pure functions.  The source may be written by others meanwhile: the digest
//            and the copy then disagree or are torn, which is for the caller to find, and nothing
//            worse happens.
// Ownership: views are not kept; source and destination may not overlap.
#pragma once

#include <cstddef>
#include <cstdint>

namespace holdfast::client {

// Copies "bytes" from "from" to "to", any alignment, and gives the CRC32C "crc" continued over the
// source.
[[nodiscard]] std::uint32_t CopyAndDigest(std::uint32_t crc,
                                          std::byte* to,
                                          const std::byte* from,
                                          std::size_t bytes);

// The same with stores into the caches: for a destination that is used again and again and that a
// device reads next, out of the caches where it is small enough for them.  Memory then moves each
// byte once in place of three times (docs/benchmarks.md).
[[nodiscard]] std::uint32_t CopyNearAndDigest(std::uint32_t crc,
                                              std::byte* to,
                                              const std::byte* from,
                                              std::size_t bytes);

// Streaming stores are weakly ordered: what a thread copied may be told to another thread or
// process only AFTER this was called on the copying thread.
void EndStreaming();

}  // namespace holdfast::client
