#include "layout/siphash.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace holdfast::layout {
namespace {

constexpr int kCompressionRounds = 2;
constexpr int kFinalRounds = 4;

}  // namespace

// The constants are the paper's; the 128-bit variant differs by 0xee here and in Finish.
SipHash128::SipHash128(std::uint64_t key_low, std::uint64_t key_high)
    : v0_(key_low ^ 0x736f6d6570736575),
      v1_(key_high ^ 0x646f72616e646f6d ^ 0xee),
      v2_(key_low ^ 0x6c7967656e657261),
      v3_(key_high ^ 0x7465646279746573) {}

void SipHash128::Rounds(int count) {
  for (int i = 0; i < count; ++i) {
    v0_ += v1_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v3_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ += v3_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ += v1_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v2_ = std::rotl(v2_, 32);
  }
}

void SipHash128::Compress(std::uint64_t word) {
  v3_ ^= word;
  Rounds(kCompressionRounds);
  v0_ ^= word;
}

void SipHash128::Update(ByteView bytes) {
  const std::size_t waiting = total_ % pending_.size();
  total_ += bytes.size();
  if (waiting != 0) {
    const std::size_t taken = std::min(pending_.size() - waiting, bytes.size());
    std::copy_n(bytes.begin(), taken, pending_.begin() + static_cast<std::ptrdiff_t>(waiting));
    bytes = bytes.subspan(taken);
    if (waiting + taken < pending_.size()) {
      return;
    }
    Compress(LoadLe64(pending_.data()));
  }
  while (bytes.size() >= pending_.size()) {
    Compress(LoadLe64(bytes.data()));
    bytes = bytes.subspan(pending_.size());
  }
  std::copy(bytes.begin(), bytes.end(), pending_.begin());
}

std::string SipHash128::Finish() {
  // The last word: what is waiting, zeros, and the length modulo 256 in the top byte.
  std::fill(pending_.begin() + static_cast<std::ptrdiff_t>(total_ % pending_.size()),
            pending_.end(),
            std::byte{0});
  pending_.back() = static_cast<std::byte>(total_ & 0xff);
  Compress(LoadLe64(pending_.data()));
  std::string hash(16, '\0');
  v2_ ^= 0xee;
  Rounds(kFinalRounds);
  StoreLe64(hash.data(), v0_ ^ v1_ ^ v2_ ^ v3_);
  v1_ ^= 0xdd;
  Rounds(kFinalRounds);
  StoreLe64(hash.data() + 8, v0_ ^ v1_ ^ v2_ ^ v3_);
  return hash;
}

}  // namespace holdfast::layout
