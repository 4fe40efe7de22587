#include "client/frozen_part.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "client/chunk_copy.h"
#include "common/bytes.h"

namespace holdfast::client {
namespace {

constexpr std::size_t kNamed = 3;

}  // namespace

bool IsInSlot(const SourceView& source,
              ByteCount offset,
              const std::byte* in_slot,
              ByteCount bytes) {
  std::array<std::byte, 4096> block;
  while (bytes > 0) {
    ByteView piece;
    if (source.RunBytes() >= block.size()) {
      piece = source.RunAt(offset);
      piece = piece.first(static_cast<std::size_t>(std::min<ByteCount>(piece.size(), bytes)));
    } else {
      const auto size = static_cast<std::size_t>(std::min<ByteCount>(block.size(), bytes));
      source.Gather(offset, MutableByteView(block).first(size));
      piece = ByteView(block).first(size);
    }
    if (std::memcmp(piece.data(), in_slot, piece.size()) != 0) {
      return false;
    }
    offset += piece.size();
    in_slot += piece.size();
    bytes -= piece.size();
  }
  return true;
}

std::vector<std::size_t> CompareChunk(const FrozenPart& frozen, std::uint64_t chunk) {
  std::vector<std::size_t> differing;
  ForEachPiece(
      *frozen.plan,
      chunk,
      [](ByteCount, ByteCount) {},
      [&](std::size_t index, ByteCount offset, ByteCount bytes) {
        const std::byte* in_slot =
            frozen.slot->Data() + frozen.plan->Tensors()[index].offset + offset;
        if (!IsInSlot(frozen.sources[index], offset, in_slot, bytes)) {
          differing.push_back(index);
        }
      });
  return differing;
}

std::string NotFrozenText(std::int64_t step, const FrozenPart& frozen) {
  std::string names;
  for (std::size_t i = 0; i < frozen.changed.size() && i < kNamed; ++i) {
    names += (i == 0 ? "\"" : ", \"") + frozen.plan->Tensors()[frozen.changed[i]].name + "\"";
  }
  const std::size_t more = frozen.changed.size() - std::min(frozen.changed.size(), kNamed);
  const std::string rest = more == 0 ? "" : " and " + std::to_string(more) + " more";
  if (frozen.work == FrozenPart::Work::kCompare) {
    return "step " + std::to_string(step) + ": " + names + rest +
           " differ from the frozen tensors of the snapshots before; they are copied anew";
  }
  return "step " + std::to_string(step) + ": " + names + rest +
         " were declared frozen, and have been written since they were copied";
}

}  // namespace holdfast::client
