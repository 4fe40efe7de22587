#include "client/source_sample.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace holdfast::client {
namespace {

constexpr ByteCount kBlockBytes = 64;  // one cache line
constexpr double kBlocksAtDefault = 4;
// Far enough ahead that the line is there when its turn comes.
constexpr std::size_t kPrefetchDistance = 16;

// SplitMix64: spreads neighbouring numbers over all 64 bits.
std::uint64_t Mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

// Whether all bytes of a tensor in the slot are those of the source now.
bool StagedIsUnchanged(const SourceView& source, const std::byte* in_slot, ByteCount length) {
  std::array<std::byte, 4096> piece;
  for (ByteCount done = 0; done < length;) {
    const auto bytes = static_cast<std::size_t>(std::min<ByteCount>(piece.size(), length - done));
    source.Gather(done, MutableByteView(piece).first(bytes));
    if (std::memcmp(piece.data(), in_slot + done, bytes) != 0) {
      return false;
    }
    done += bytes;
  }
  return true;
}

}  // namespace

SourceSample::SourceSample(const CopyPlan& plan, double fraction, std::uint64_t seed) {
  const double most_blocks = kBlocksAtDefault * std::max(1.0, fraction / kDefaultSampleFraction);
  std::size_t total = 0;
  for (std::size_t i = 0; i < plan.Tensors().size(); ++i) {
    const PlannedTensor& tensor = plan.Tensors()[i];
    if (!tensor.checked || tensor.mode != CopyMode::kLazy || tensor.device != kHostDevice) {
      continue;
    }
    const double wanted = fraction * static_cast<double>(tensor.length);
    const auto blocks = static_cast<ByteCount>(
        std::clamp(wanted / static_cast<double>(kBlockBytes), 1.0, most_blocks));
    // Less than a block where a block would be more than the fraction, but an element in any case.
    const ByteCount block =
        std::clamp(static_cast<ByteCount>(wanted) / tensor.element_bytes * tensor.element_bytes,
                   tensor.element_bytes,
                   std::min(kBlockBytes, tensor.length));
    // One place in each of "blocks" equal parts, so that every region is looked at.
    const ByteCount part = tensor.length / blocks;
    for (ByteCount k = 0; k < blocks; ++k) {
      const ByteCount room = part > block ? (part - block) / tensor.element_bytes : 0;
      const ByteCount shift = room == 0 ? 0 : Mix(seed ^ Mix(i * 1024 + k)) % (room + 1);
      const ByteCount offset =
          std::min(k * part + shift * tensor.element_bytes, tensor.length - block);
      places_.push_back(Place{i, offset, static_cast<std::size_t>(block), total});
      total += static_cast<std::size_t>(block);
    }
  }
  taken_.resize(total);
}

void SourceSample::Take(std::span<const SourceView> sources) {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    if (i + kPrefetchDistance < places_.size()) {
      const Place& ahead = places_[i + kPrefetchDistance];
      __builtin_prefetch(sources[ahead.tensor].RunAt(ahead.offset).data());
    }
    const Place& place = places_[i];
    sources[place.tensor].Gather(place.offset,
                                 MutableByteView(taken_).subspan(place.at, place.bytes));
  }
}

std::optional<std::size_t> SourceSample::Check(const CopyPlan& plan,
                                               std::span<const SourceView> sources,
                                               const std::byte* slot) const {
  std::array<std::byte, kBlockBytes> now;
  for (const Place& place : places_) {
    sources[place.tensor].Gather(place.offset, MutableByteView(now).first(place.bytes));
    const std::byte* before = taken_.data() + place.at;
    const std::byte* copied = slot + plan.Tensors()[place.tensor].offset + place.offset;
    if (std::memcmp(before, now.data(), place.bytes) != 0 ||
        std::memcmp(before, copied, place.bytes) != 0) {
      return place.tensor;
    }
  }
  for (std::size_t i = 0; i < plan.Tensors().size(); ++i) {
    const PlannedTensor& tensor = plan.Tensors()[i];
    if (tensor.checked && tensor.mode == CopyMode::kStaged && tensor.device == kHostDevice &&
        !StagedIsUnchanged(sources[i], slot + tensor.offset, tensor.length)) {
      return i;
    }
  }
  return std::nullopt;
}

}  // namespace holdfast::client
