#include "client/stream_copy.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/bytes.h"
#include "common/crc32c.h"

namespace holdfast::client {
namespace {

// Small enough that the second reading comes from the first-level cache, with the two blocks that
// are fetched ahead beside it.  Measured against bare streaming stores (bench/README.md): one block
// ahead, or blocks of 4 KiB, are a tenth slower, three blocks of 4 KiB no longer fit.
constexpr std::size_t kBlockBytes = 2048;
constexpr std::size_t kBlocksAhead = 2;
constexpr std::size_t kLineBytes = 64;

// Copies one block, and fetches "ahead" meanwhile, as many bytes of a later block.  The digest,
// which reads a block first, would otherwise wait for memory at every block, since hardware fetches
// ahead neither across pages nor for a block that is read in several streams at once.
using CopyFunction = void (*)(std::byte* to,
                              const std::byte* from,
                              std::size_t bytes,
                              ByteView ahead);

void CopyPlain(std::byte* to, const std::byte* from, std::size_t bytes, ByteView ahead) {
  for (std::size_t i = 0; i < ahead.size(); i += kLineBytes) {
    __builtin_prefetch(ahead.data() + i);
  }
  std::memcpy(to, from, bytes);
}

#if defined(__x86_64__)
constexpr std::size_t kVectorBytes = 32;

__attribute__((target("avx2"))) void CopyAvx2(std::byte* to,
                                              const std::byte* from,
                                              std::size_t bytes,
                                              ByteView ahead) {
  const std::byte* next = ahead.data();
  const std::byte* const next_end = next + ahead.size();
  // A streaming store needs an aligned destination; the source may lie anywhere.
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(to) % kVectorBytes;
  const std::size_t head = std::min(bytes, misaligned == 0 ? 0 : kVectorBytes - misaligned);
  std::memcpy(to, from, head);
  to += head;
  from += head;
  bytes -= head;
  for (; bytes >= 4 * kVectorBytes; bytes -= 4 * kVectorBytes) {
    if (next < next_end) {
      _mm_prefetch(next, _MM_HINT_T0);
      _mm_prefetch(next + kLineBytes, _MM_HINT_T0);
      next += 2 * kLineBytes;
    }
    const auto* source = reinterpret_cast<const __m256i*>(from);
    auto* destination = reinterpret_cast<__m256i*>(to);
    const __m256i a = _mm256_loadu_si256(source);
    const __m256i b = _mm256_loadu_si256(source + 1);
    const __m256i c = _mm256_loadu_si256(source + 2);
    const __m256i d = _mm256_loadu_si256(source + 3);
    _mm256_stream_si256(destination, a);
    _mm256_stream_si256(destination + 1, b);
    _mm256_stream_si256(destination + 2, c);
    _mm256_stream_si256(destination + 3, d);
    from += 4 * kVectorBytes;
    to += 4 * kVectorBytes;
  }
  std::memcpy(to, from, bytes);
}
#endif

CopyFunction ChooseCopy() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    return CopyAvx2;
  }
#endif
  return CopyPlain;
}

std::uint32_t CopyBlocks(
    CopyFunction copy, std::uint32_t crc, std::byte* to, const std::byte* from, std::size_t bytes) {
  while (bytes > 0) {
    // Blocks end where the destination is aligned, so that only the first one has a head to copy.
    const std::size_t lead = reinterpret_cast<std::uintptr_t>(to) % kBlockBytes;
    const std::size_t block = std::min(bytes, kBlockBytes - lead);
    crc = Crc32c(crc, ByteView(from, block));
    constexpr std::size_t kAhead = kBlocksAhead * kBlockBytes;
    const std::size_t behind = bytes - std::min(bytes, kAhead);  // what lies that far ahead
    copy(to, from, block, ByteView(from + bytes - behind, std::min(behind, kBlockBytes)));
    to += block;
    from += block;
    bytes -= block;
  }
  return crc;
}

}  // namespace

std::uint32_t CopyAndDigest(std::uint32_t crc,
                            std::byte* to,
                            const std::byte* from,
                            std::size_t bytes) {
  static const CopyFunction copy = ChooseCopy();
  return CopyBlocks(copy, crc, to, from, bytes);
}

std::uint32_t CopyNearAndDigest(std::uint32_t crc,
                                std::byte* to,
                                const std::byte* from,
                                std::size_t bytes) {
  return CopyBlocks(CopyPlain, crc, to, from, bytes);
}

void EndStreaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
  std::atomic_thread_fence(std::memory_order_release);
}

}  // namespace holdfast::client
