// Copying with a digest, and the pieces that a digest chunk of an image consists of: what all copy
// engines share.
//
// Threads:   pure but for the memory named; several chunks of one slot may be made at once.
// Ownership: borrows all for the call.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "client/copy_plan.h"
#include "client/source_view.h"
#include "common/crc32c.h"
#include "common/units.h"

namespace holdfast::client {

// Copies [offset, offset + bytes) of a source in host memory to "to"; the digest "crc" continued
// over it.  EndStreaming (stream_copy.h) must follow on this thread BEFORE anybody is told.
[[nodiscard]] std::uint32_t CopySource(
    std::uint32_t crc, const SourceView& source, ByteCount offset, std::byte* to, ByteCount bytes);

// Copies every staged tensor in host memory to its place.
void CopyStaged(const CopyPlan& plan, std::span<const SourceView> sources, std::byte* slot);

// What the user is told of a tensor that was written during the copy of "step".
[[nodiscard]] std::string TornText(std::int64_t step, const std::string& tensor);

// What "chunk" of the image holds, in order: header(image offset, bytes) where it holds some of the
// header, then piece(index of the planned tensor, offset in the tensor, bytes) for each tensor.
template <class Header, class Piece>
void ForEachPiece(const CopyPlan& plan, std::uint64_t chunk, Header header, Piece piece) {
  ByteCount at = chunk * kChunkBytes;
  const ByteCount end = std::min(at + kChunkBytes, plan.ImageBytes());
  const ByteCount header_end = std::min(end, plan.HeaderBytes());
  if (at < header_end) {
    header(at, header_end - at);
    at = header_end;
  }
  std::size_t index = at < end ? plan.TensorAt(at) : 0;
  for (; at < end; ++index) {
    const PlannedTensor& tensor = plan.Tensors()[index];
    const ByteCount piece_end = std::min(end, tensor.offset + tensor.length);
    piece(index, at - tensor.offset, piece_end - at);
    at = piece_end;
  }
}

}  // namespace holdfast::client
