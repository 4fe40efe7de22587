#include "client/chunk_copy.h"

#include <array>

#include "client/stream_copy.h"

namespace holdfast::client {
namespace {

// Runs below this are gathered into a block first: digesting them one by one would cost more.
constexpr ByteCount kShortRunBytes = 4096;

}  // namespace

std::uint32_t CopySource(
    std::uint32_t crc, const SourceView& source, ByteCount offset, std::byte* to, ByteCount bytes) {
  std::array<std::byte, kShortRunBytes> block;
  while (bytes > 0) {
    ByteView piece;
    if (source.RunBytes() >= kShortRunBytes) {
      piece = source.RunAt(offset);
      piece = piece.first(static_cast<std::size_t>(std::min<ByteCount>(piece.size(), bytes)));
    } else {
      const auto size = static_cast<std::size_t>(std::min<ByteCount>(block.size(), bytes));
      source.Gather(offset, MutableByteView(block).first(size));
      piece = ByteView(block).first(size);
    }
    crc = CopyAndDigest(crc, to, piece.data(), piece.size());
    offset += piece.size();
    to += piece.size();
    bytes -= piece.size();
  }
  return crc;
}

void CopyStaged(const CopyPlan& plan, std::span<const SourceView> sources, std::byte* slot) {
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const PlannedTensor& tensor = plan.Tensors()[i];
    if (tensor.mode == CopyMode::kStaged && tensor.device == kHostDevice) {
      sources[i].Gather(
          0, MutableByteView(slot + tensor.offset, static_cast<std::size_t>(tensor.length)));
    }
  }
}

std::string TornText(std::int64_t step, const std::string& tensor) {
  return "tensor \"" + tensor + "\" was written while step " + std::to_string(step) +
         " was copied: call the fence before every write to the state";
}

}  // namespace holdfast::client
