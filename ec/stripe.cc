#include "ec/stripe.h"

#include <algorithm>
#include <string>

#include "common/check.h"

namespace holdfast::ec {
namespace {

// Of n places in a ring, m that follow each other from "first" on are skipped; the others are
// numbered by rising place.
struct Skipped {
  std::uint32_t first;
  std::uint32_t m;
  std::uint32_t n;

  [[nodiscard]] bool Wraps() const { return first + m > n; }

  // Of a place that is not skipped.
  [[nodiscard]] std::uint32_t NumberOf(std::uint32_t place) const {
    if (Wraps()) {
      return place - (first + m - n);
    }
    return place < first ? place : place - m;
  }

  [[nodiscard]] std::uint32_t PlaceOf(std::uint32_t number) const {
    if (Wraps()) {
      return number + (first + m - n);
    }
    return number < first ? number : number + m;
  }
};

// The positions that own a row of "stripe".
Skipped Owners(std::uint32_t stripe, const CodeParams& code) {
  return {stripe, code.parity, code.Members()};
}

// The stripes of which "position" owns a row.
Skipped Owned(std::uint32_t position, const CodeParams& code) {
  const std::uint32_t n = code.Members();
  return {(position + n - (code.parity - 1)) % n, code.parity, n};
}

// The row of "stripe" that "position" owns; m or more: none.
std::uint32_t RowAt(std::uint32_t stripe, std::uint32_t position, std::uint32_t n) {
  return (position + n - stripe) % n;
}

}  // namespace

Stripes::Stripes(const Geometry& geometry)
    : code_(geometry.code),
      segment_bytes_(geometry.segment_bytes),
      shard_bytes_(geometry.shard_bytes) {}

Result<Stripes> Stripes::Make(const Geometry& geometry) {
  HF_TRYV(ValidateGeometry(geometry));
  return Stripes(geometry);
}

std::uint32_t Stripes::RowOwner(std::uint32_t stripe, std::uint32_t row) const {
  HOLDFAST_CHECK(stripe < Count() && row < code_.parity);
  return (stripe + row) % Count();
}

std::uint32_t Stripes::IndexAt(std::uint32_t stripe, std::uint32_t position) const {
  HOLDFAST_CHECK(stripe < Count() && position < Count());
  const std::uint32_t row = RowAt(stripe, position, Count());
  return row < code_.parity ? code_.data + row : Owners(stripe, code_).NumberOf(position);
}

std::uint32_t Stripes::PositionOf(std::uint32_t stripe, std::uint32_t index) const {
  HOLDFAST_CHECK(stripe < Count() && index < Count());
  return index < code_.data ? Owners(stripe, code_).PlaceOf(index)
                            : RowOwner(stripe, index - code_.data);
}

std::uint32_t Stripes::SegmentOf(std::uint32_t stripe, std::uint32_t position) const {
  HOLDFAST_CHECK(stripe < Count() && position < Count());
  HOLDFAST_CHECK(RowAt(stripe, position, Count()) >= code_.parity);
  return Owned(position, code_).NumberOf(stripe);
}

std::uint32_t Stripes::StripeOf(std::uint32_t position, std::uint32_t segment) const {
  HOLDFAST_CHECK(position < Count() && segment < code_.data);
  return Owned(position, code_).PlaceOf(segment);
}

ByteCount Stripes::ShardLength(std::uint32_t position) const {
  HOLDFAST_CHECK(position < Count());
  return shard_bytes_[position];
}

ByteCount Stripes::SegmentLength(std::uint32_t position, std::uint32_t segment) const {
  HOLDFAST_CHECK(segment < code_.data);
  const ByteCount shard = ShardLength(position);
  const ByteCount begin = std::min(shard, segment * segment_bytes_);
  return std::min(shard - begin, segment_bytes_);
}

ByteCount Stripes::VectorLength(std::uint32_t stripe, std::uint32_t index) const {
  if (index >= code_.data) {
    return RowLength(stripe);
  }
  const std::uint32_t position = PositionOf(stripe, index);
  return SegmentLength(position, SegmentOf(stripe, position));
}

ByteCount Stripes::RowLength(std::uint32_t stripe) const {
  ByteCount longest = 0;
  for (std::uint32_t column = 0; column < code_.data; ++column) {
    longest = std::max(longest, VectorLength(stripe, column));
  }
  return longest;
}

ByteCount Stripes::ParityBytes(std::uint32_t position) const {
  ByteCount sum = 0;
  for (std::uint32_t row = 0; row < code_.parity; ++row) {
    sum += RowLength((position + Count() - row) % Count());
  }
  return sum;
}

ByteCount Stripes::ProtectBytesIn(std::uint32_t position) const {
  ByteCount sum = ParityBytes(position) - RowLength(position);  // rows that others make
  for (std::uint32_t column = 0; column < code_.data; ++column) {
    sum += VectorLength(position, column);
  }
  return sum;
}

ByteCount Stripes::ProtectBytesOut(std::uint32_t position) const {
  return ShardLength(position) + (code_.parity - 1) * RowLength(position);
}

Result<std::vector<SegmentRange>> Stripes::MapRange(std::uint32_t position,
                                                    ByteCount offset,
                                                    ByteCount length) const {
  if (position >= Count()) {
    return Error(
        Errc::kInvalidArgument,
        "position " + std::to_string(position) + " of a group of " + std::to_string(Count()));
  }
  const ByteCount shard = ShardLength(position);
  if (offset > shard || length > shard - offset) {
    return Error(Errc::kInvalidArgument,
                 std::to_string(length) + " bytes at " + std::to_string(offset) +
                     " are not within a shard of " + std::to_string(shard));
  }
  std::vector<SegmentRange> ranges;
  while (length > 0) {
    const auto segment = static_cast<std::uint32_t>(offset / segment_bytes_);
    SegmentRange range;
    range.stripe = StripeOf(position, segment);
    range.index = IndexAt(range.stripe, position);
    range.begin = offset % segment_bytes_;
    range.length = std::min(length, segment_bytes_ - range.begin);
    range.offset = offset;
    ranges.push_back(range);
    offset += range.length;
    length -= range.length;
  }
  return ranges;
}

}  // namespace holdfast::ec
