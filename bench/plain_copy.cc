#include "bench/plain_copy.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace holdfast::bench {
namespace {

constexpr std::size_t kPageBytes = 4096;

#if defined(__x86_64__)
__attribute__((target("avx2"))) void Stream(std::byte* to,
                                            const std::byte* from,
                                            std::size_t bytes) {
  std::size_t at = 0;
  for (; at + 128 <= bytes; at += 128) {
    const auto* source = reinterpret_cast<const __m256i*>(from + at);
    auto* target = reinterpret_cast<__m256i*>(to + at);
    const __m256i a = _mm256_loadu_si256(source);
    const __m256i b = _mm256_loadu_si256(source + 1);
    const __m256i c = _mm256_loadu_si256(source + 2);
    const __m256i d = _mm256_loadu_si256(source + 3);
    _mm256_stream_si256(target, a);
    _mm256_stream_si256(target + 1, b);
    _mm256_stream_si256(target + 2, c);
    _mm256_stream_si256(target + 3, d);
  }
  std::memcpy(to + at, from + at, bytes - at);
  _mm_sfence();
}
#endif

void CopyPart(PlainCopy kind, std::byte* to, const std::byte* from, std::size_t bytes) {
#if defined(__x86_64__)
  if (kind == PlainCopy::kStreaming && __builtin_cpu_supports("avx2")) {
    Stream(to, from, bytes);
    return;
  }
#endif
  std::memcpy(to, from, bytes);
}

}  // namespace

void CopyPlainly(
    PlainCopy kind, std::byte* to, const std::byte* from, std::size_t bytes, std::size_t threads) {
  const std::size_t pages = bytes / kPageBytes;
  const std::size_t part = (pages + threads - 1) / threads * kPageBytes;
  std::vector<std::thread> others;
  for (std::size_t at = part; at < bytes && part > 0; at += part) {
    const std::size_t length = std::min(part, bytes - at);
    others.emplace_back([=] { CopyPart(kind, to + at, from + at, length); });
  }
  CopyPart(kind, to, from, std::min(part == 0 ? bytes : part, bytes));
  for (std::thread& other : others) {
    other.join();
  }
}

}  // namespace holdfast::bench
