#include "cli/touched_tensors.h"

#include <algorithm>

#include "common/crc32c.h"
#include "layout/image.h"

namespace holdfast::cli {
namespace {

// Whether [offset, offset + length) has a byte in one of the chunks.
bool Touched(const std::vector<std::uint64_t>& chunks, ByteCount offset, ByteCount length) {
  if (length == 0) {
    return false;
  }
  const auto first = std::lower_bound(chunks.begin(), chunks.end(), offset / kChunkBytes);
  return first != chunks.end() && *first <= (offset + length - 1) / kChunkBytes;
}

}  // namespace

std::vector<std::string> TouchedTensors(const proto::Layout& layout,
                                        proto::ImageKind kind,
                                        const std::vector<std::uint64_t>& chunks) {
  std::vector<std::string> names;
  if (Touched(chunks, 0, layout::ImageHeaderBytes(layout, kind))) {
    names.emplace_back(kImageHeaderName);
  }
  for (const proto::TensorEntry& tensor : layout.tensors()) {
    if (tensor.image() == kind && Touched(chunks, tensor.offset_bytes(), tensor.length_bytes())) {
      names.push_back(tensor.name());
    }
  }
  return names;
}

}  // namespace holdfast::cli
