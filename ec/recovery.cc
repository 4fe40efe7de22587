#include "ec/recovery.h"

#include <algorithm>
#include <bitset>
#include <string>

namespace holdfast::ec {
namespace {

Error Invalid(const std::string& message) {
  return {Errc::kInvalidArgument, message};
}

Status CheckHolders(const Stripes& stripes, std::span<const Holder> holders) {
  std::bitset<kMaxMembers> seen;
  for (const Holder& holder : holders) {
    if (holder.position >= stripes.Count() || seen[holder.position]) {
      return Invalid("holder " + std::to_string(holder.position) + " of a group of " +
                     std::to_string(stripes.Count()) +
                     (holder.position < stripes.Count() ? " is named twice" : " does not exist"));
    }
    seen.set(holder.position);
  }
  return Ok();
}

// The part of the piece's range that vector "index" has.
SourceRange SourceOf(const Stripes& stripes, const RebuildPiece& piece, std::uint32_t index) {
  SourceRange source;
  source.index = index;
  source.position = stripes.PositionOf(piece.stripe, index);
  const ByteCount end = stripes.VectorLength(piece.stripe, index);
  source.length = std::min(end - std::min(end, piece.begin), piece.length);
  if (source.length > 0) {
    source.offset = piece.begin;
    if (index < stripes.Code().data) {
      source.offset += stripes.SegmentOf(piece.stripe, source.position) * stripes.SegmentBytes();
    }
  }
  return source;
}

// Fills in the sources: zeros first, then by the holders' order.
Status ChooseSources(const Stripes& stripes, std::span<const Holder> holders, RebuildPiece* piece) {
  const std::uint32_t k = stripes.Code().data;
  std::bitset<kMaxMembers> taken;
  taken.set(piece->index);
  const auto take = [&](const SourceRange& source) {
    if (!taken[source.index]) {
      taken.set(source.index);
      (piece->sources.size() < k ? piece->sources : piece->spare).push_back(source);
    }
  };
  for (std::uint32_t column = 0; column < k; ++column) {
    const SourceRange source = SourceOf(stripes, *piece, column);
    if (source.length == 0) {
      take(source);
    }
  }
  for (const Holder& holder : holders) {
    const std::uint32_t index = stripes.IndexAt(piece->stripe, holder.position);
    if (index < k ? holder.shard : holder.parity) {
      take(SourceOf(stripes, *piece, index));
    }
  }
  if (piece->sources.size() < k) {
    return Error(Errc::kUnavailable,
                 "stripe " + std::to_string(piece->stripe) + " has " +
                     std::to_string(piece->sources.size()) + " vectors left; " + std::to_string(k) +
                     " are needed to rebuild");
  }
  std::sort(piece->sources.begin(), piece->sources.end(), [](const auto& a, const auto& b) {
    return a.index < b.index;
  });
  return Ok();
}

}  // namespace

std::vector<std::uint32_t> RebuildPiece::SourceIndices() const {
  std::vector<std::uint32_t> indices;
  indices.reserve(sources.size());
  for (const SourceRange& source : sources) {
    indices.push_back(source.index);
  }
  return indices;
}

Result<std::vector<RebuildPiece>> PlanShard(const Stripes& stripes,
                                            std::uint32_t position,
                                            ByteCount offset,
                                            ByteCount length,
                                            std::span<const Holder> holders) {
  HF_TRYV(CheckHolders(stripes, holders));
  HF_TRY(const std::vector<SegmentRange> ranges, stripes.MapRange(position, offset, length));
  std::vector<RebuildPiece> pieces;
  for (const SegmentRange& range : ranges) {
    RebuildPiece piece{.stripe = range.stripe,
                       .index = range.index,
                       .begin = range.begin,
                       .length = range.length,
                       .offset = range.offset,
                       .sources = {},
                       .spare = {}};
    HF_TRYV(ChooseSources(stripes, holders, &piece));
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

Result<RebuildPiece> PlanRow(const Stripes& stripes,
                             std::uint32_t stripe,
                             std::uint32_t row,
                             ByteCount begin,
                             ByteCount length,
                             std::span<const Holder> holders) {
  HF_TRYV(CheckHolders(stripes, holders));
  if (stripe >= stripes.Count() || row >= stripes.Code().parity) {
    return Invalid("row " + std::to_string(row) + " of stripe " + std::to_string(stripe) +
                   " does not exist in a group of " + std::to_string(stripes.Code().data) + "+" +
                   std::to_string(stripes.Code().parity));
  }
  const ByteCount end = stripes.RowLength(stripe);
  if (begin > end || length > end - begin) {
    return Invalid(std::to_string(length) + " bytes at " + std::to_string(begin) +
                   " are not within a row of " + std::to_string(end));
  }
  RebuildPiece piece{.stripe = stripe,
                     .index = stripes.Code().data + row,
                     .begin = begin,
                     .length = length,
                     .offset = begin,
                     .sources = {},
                     .spare = {}};
  HF_TRYV(ChooseSources(stripes, holders, &piece));
  return piece;
}

}  // namespace holdfast::ec
