#include "tests/support/bulk_bytes.h"

#include <cstring>

#include "common/mix64.h"

namespace holdfast {

namespace {

constexpr std::size_t kWord = sizeof(std::uint64_t);

std::uint64_t WordAt(std::uint64_t seed, std::uint64_t number) {
  return Mix64(Mix64(seed) + number);
}

}  // namespace

void FillPattern(MutableByteView memory, std::uint64_t seed) {
  if (memory.empty()) {
    return;
  }
  const std::size_t words = memory.size() / kWord;
  for (std::size_t i = 0; i < words; ++i) {
    StoreLe64(memory.data() + i * kWord, WordAt(seed, i));
  }
  const std::uint64_t last = WordAt(seed, words);
  std::memcpy(memory.data() + words * kWord, &last, memory.size() % kWord);
}

std::size_t FirstOdd(ByteView memory, std::uint64_t offset, std::uint64_t seed) {
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < memory.size(); ++i) {
    const std::uint64_t at = offset + i;
    if (i == 0 || at % kWord == 0) {
      word = WordAt(seed, at / kWord);
    }
    if (memory[i] != static_cast<std::byte>(word >> (8 * (at % kWord)))) {
      return i;
    }
  }
  return memory.size();
}

bool AllAre(ByteView memory, std::byte value) {
  // Each byte is the one before it, and the first is "value".
  return memory.empty() ||
         (memory[0] == value && SameBytes(memory.first(memory.size() - 1), memory.subspan(1)));
}

bool SameBytes(ByteView a, ByteView b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

void FlipAll(MutableByteView memory) {
  for (std::byte& byte : memory) {
    byte ^= std::byte{0x11};
  }
}

}  // namespace holdfast
