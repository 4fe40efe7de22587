// The ceilings of a copy in memory: memcpy, and streaming stores with nothing beside them.
//
// Written here and not shared with client/stream_copy.cc on purpose: a ceiling that is made of the
// code that it judges would sink with it.
//
// Threads:   starts "threads" of its own (the caller is one of them), which end before it returns.
// Ownership: borrows both ranges, which must not overlap.
#pragma once

#include <cstddef>

namespace holdfast::bench {

enum class PlainCopy {
  kMemcpy,
  kStreaming,  // memcpy where the machine has no AVX2
};

// "to" must be a multiple of 4096.
void CopyPlainly(
    PlainCopy kind, std::byte* to, const std::byte* from, std::size_t bytes, std::size_t threads);

}  // namespace holdfast::bench
