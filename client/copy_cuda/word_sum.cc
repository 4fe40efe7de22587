#include "client/copy_cuda/word_sum.h"

#include <cstring>

#include <immintrin.h>

namespace holdfast::client {
namespace {

// The golden ratio's fraction in 32 bits: neighbouring weights have nothing in common.
constexpr std::uint32_t kWeightStep = 0x9E3779B1U;
constexpr std::size_t kLanes = 8;

std::uint64_t SumFrom(const std::byte* bytes, std::size_t count, std::uint32_t index) {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at < count; at += 4, ++index) {
    std::uint32_t word = 0;
    std::memcpy(&word, bytes + at, count - at < 4 ? count - at : 4);
    sum += static_cast<std::uint64_t>(word) * ((index * kWeightStep) | 1U);
  }
  return sum;
}

// The whole vectors of the range; "*done" is how many bytes that were.
__attribute__((target("avx2"))) std::uint64_t SumVectors(ByteView bytes, std::size_t* done) {
  const __m256i step = _mm256_set1_epi32(static_cast<int>(kLanes * kWeightStep));
  const __m256i one = _mm256_set1_epi32(1);
  __m256i product = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                       _mm256_set1_epi32(static_cast<int>(kWeightStep)));
  __m256i even = _mm256_setzero_si256();
  __m256i odd = _mm256_setzero_si256();
  const std::size_t end = bytes.size() / sizeof(__m256i) * sizeof(__m256i);
  for (std::size_t at = 0; at < end; at += sizeof(__m256i)) {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes.data() + at));
    const __m256i weights = _mm256_or_si256(product, one);
    even = _mm256_add_epi64(even, _mm256_mul_epu32(words, weights));
    odd = _mm256_add_epi64(
        odd, _mm256_mul_epu32(_mm256_srli_epi64(words, 32), _mm256_srli_epi64(weights, 32)));
    product = _mm256_add_epi32(product, step);
  }
  alignas(32) std::uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi64(even, odd));
  *done = end;
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

}  // namespace

std::uint64_t WordSum(ByteView bytes) {
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  std::size_t done = 0;
  const std::uint64_t sum = has_avx2 ? SumVectors(bytes, &done) : 0;
  return sum +
         SumFrom(bytes.data() + done, bytes.size() - done, static_cast<std::uint32_t>(done / 4));
}

}  // namespace holdfast::client
