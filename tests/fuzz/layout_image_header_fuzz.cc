// Headers of files that nobody vouches for: no crash, and what is accepted tiles the file.
#include <cstddef>
#include <cstdint>

#include "common/check.h"
#include "layout/image_header.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace holdfast;          // NOLINT: a fuzz target is one function
  using namespace holdfast::layout;  // NOLINT
  // The first two bytes say how much tensor data the file has behind the header.
  if (size < 2) {
    return 0;
  }
  const ByteView head = std::as_bytes(std::span(data + 2, size - 2));
  const ByteCount image_bytes = head.size() + (data[0] | ByteCount{data[1]} << 8);
  const auto tensors = ReadImageHeader(head, image_bytes);
  if (!tensors) {
    return 0;
  }
  ByteCount at = HeaderBytesFromPrefix(head, image_bytes).value();
  for (const HeaderTensor& tensor : tensors.value()) {
    HOLDFAST_CHECK(tensor.offset_bytes == at);
    at += tensor.length_bytes;
  }
  HOLDFAST_CHECK(at == image_bytes);
  return 0;
}
