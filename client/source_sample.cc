#include "client/source_sample.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/mix64.h"

namespace holdfast::client {
namespace {

constexpr ByteCount kBlockBytes = 64;  // one cache line
constexpr std::uint64_t kBlocksAtDefault = 4;
// One place in so many bytes is compared behind training: close enough that a writer at work passes
// several of them while the check runs, far enough that the fence does not feel it.
constexpr ByteCount kLateEvery = 128 * kKiB;
// Far enough ahead that the line is there when its turn comes.
constexpr std::size_t kPrefetchDistance = 16;

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

// A position for a block in [begin, end), at an element of the tensor.
ByteCount Somewhere(
    std::uint64_t random, ByteCount begin, ByteCount end, ByteCount block, ByteCount element) {
  const ByteCount room = end - begin > block ? (end - begin - block) / element : 0;
  return begin + (room == 0 ? 0 : Mix64(random) % (room + 1)) * element;
}

}  // namespace

SourceSample::SourceSample(const CopyPlan& plan, double fraction, std::uint64_t seed)
    : fraction_(fraction), seed_(Mix64(seed)) {
  Choose(plan);
}

void SourceSample::ChooseAnew(const CopyPlan& plan, std::uint64_t seed) {
  seed_ = Mix64(seed);
  places_.clear();
  Choose(plan);
}

void SourceSample::Choose(const CopyPlan& plan) {
  const auto times = static_cast<std::uint64_t>(std::max(1.0, fraction_ / kDefaultSampleFraction));
  for (std::size_t i = 0; i < plan.Tensors().size(); ++i) {
    const PlannedTensor& tensor = plan.Tensors()[i];
    if (!tensor.checked || tensor.mode != CopyMode::kLazy || tensor.device != kHostDevice) {
      continue;
    }
    const std::uint64_t first_chunk = tensor.offset / kChunkBytes;
    const std::uint64_t pieces =
        (tensor.offset + tensor.length - 1) / kChunkBytes - first_chunk + 1;
    const std::uint64_t wanted = std::max(pieces, kBlocksAtDefault) * times;
    for (std::uint64_t piece = 0; piece < pieces; ++piece) {
      const std::uint64_t share = wanted * (piece + 1) / pieces - wanted * piece / pieces;
      const ByteCount chunk = (first_chunk + piece) * kChunkBytes;
      const ByteCount begin = std::max(chunk, tensor.offset) - tensor.offset;
      const ByteCount end =
          std::min(chunk + kChunkBytes, tensor.offset + tensor.length) - tensor.offset;
      AddPlaces(i, tensor, begin, end, share);
    }
  }
  taken_.resize(places_.empty() ? 0 : places_.back().at + places_.back().bytes);
}

void SourceSample::AddPlaces(std::size_t index,
                             const PlannedTensor& tensor,
                             ByteCount begin,
                             ByteCount end,
                             std::uint64_t count) {
  // A piece may start inside an element; a place never does.
  const ByteCount element = tensor.element_bytes;
  begin = begin / element * element;
  const double share = fraction_ * static_cast<double>(end - begin);
  const auto blocks = static_cast<ByteCount>(
      std::clamp(share / static_cast<double>(kBlockBytes), 1.0, static_cast<double>(count)));
  // Less than a block where a block would be more than the fraction, but an element in any case.
  const ByteCount block = std::clamp(static_cast<ByteCount>(share) / element * element,
                                     element,
                                     std::min(std::max(kBlockBytes, element), tensor.length));
  const ByteCount part = std::max((end - begin) / blocks / element * element, element);
  for (ByteCount k = 0; k < blocks; ++k) {
    const ByteCount from = begin + k * part;
    const ByteCount place = Somewhere(
        seed_ ^ Mix64(index) ^ (begin + k), from, std::min(from + part, end), block, element);
    const std::size_t at = places_.empty() ? 0 : places_.back().at + places_.back().bytes;
    places_.push_back(
        Place{index, std::min(place, tensor.length - block), static_cast<std::size_t>(block), at});
  }
}

void SourceSample::Take(std::span<const SourceView> sources) {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    if (i + kPrefetchDistance < places_.size()) {
      const Place& ahead = places_[i + kPrefetchDistance];
      const ByteView there = sources[ahead.tensor].RunAt(ahead.offset);
      __builtin_prefetch(there.data());  // a block starts at any element: it lies in two lines
      __builtin_prefetch(there.data() + std::min(there.size(), ahead.bytes) - 1);
    }
    const Place& place = places_[i];
    sources[place.tensor].Gather(place.offset,
                                 MutableByteView(taken_).subspan(place.at, place.bytes));
  }
}

std::optional<std::size_t> SourceSample::Check(const CopyPlan& plan,
                                               std::span<const SourceView> sources,
                                               const std::byte* slot) const {
  std::array<std::byte, 4096> now;
  for (const Place& place : places_) {
    HOLDFAST_CHECK(place.bytes <= now.size());
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
  // Last, and from front to back: the chunks that were copied last are where a writer that came
  // late is still at work.
  auto place = places_.begin();
  for (std::size_t i = 0; i < plan.Tensors().size(); ++i) {
    const PlannedTensor& tensor = plan.Tensors()[i];
    ByteCount taken = 0;
    for (; place != places_.end() && place->tensor == i; ++place) {
      taken += place->bytes;
    }
    if (taken > 0 && !LatePlacesAreUnchanged(tensor, taken, sources[i], slot + tensor.offset)) {
      return i;
    }
  }
  return std::nullopt;
}

std::vector<std::size_t> SourceSample::Differences(const CopyPlan& plan,
                                                   std::span<const SourceView> sources,
                                                   const std::byte* slot) const {
  std::vector<std::size_t> differing;
  std::array<std::byte, 4096> now;
  for (auto place = places_.begin(); place != places_.end();) {
    const std::size_t index = place->tensor;
    const std::byte* in_slot = slot + plan.Tensors()[index].offset;
    bool same = true;
    ByteCount read = 0;
    for (; place != places_.end() && place->tensor == index; ++place) {
      sources[index].Gather(place->offset, MutableByteView(now).first(place->bytes));
      same = same && std::memcmp(now.data(), in_slot + place->offset, place->bytes) == 0;
      read += place->bytes;
    }
    if (!same || !LatePlacesAreUnchanged(plan.Tensors()[index], read, sources[index], in_slot)) {
      differing.push_back(index);
    }
  }
  return differing;
}

bool SourceSample::LatePlacesAreUnchanged(const PlannedTensor& tensor,
                                          ByteCount taken,
                                          const SourceView& source,
                                          const std::byte* in_slot) const {
  const double budget = fraction_ * static_cast<double>(tensor.length) - static_cast<double>(taken);
  const auto affordable = static_cast<ByteCount>(std::max(budget, 0.0)) / kBlockBytes;
  const ByteCount count = std::min(tensor.length / kLateEvery, affordable);
  const ByteCount stride = count == 0 ? 0 : tensor.length / count;
  // A ring of places that are on their way into the cache.
  std::array<ByteCount, kPrefetchDistance> ahead{};
  std::array<std::byte, kBlockBytes> now;
  for (ByteCount k = 0; k < count + ahead.size(); ++k) {
    ByteCount& place = ahead[k % ahead.size()];
    if (k >= ahead.size()) {
      source.Gather(place, now);
      if (std::memcmp(now.data(), in_slot + place, now.size()) != 0) {
        return false;
      }
    }
    if (k < count) {
      const ByteCount from = k * stride;
      place =
          Somewhere(seed_ ^ (tensor.offset + from), from, from + stride, kBlockBytes, kBlockBytes);
      __builtin_prefetch(source.RunAt(place).data());
      __builtin_prefetch(in_slot + place);
    }
  }
  return true;
}

}  // namespace holdfast::client
