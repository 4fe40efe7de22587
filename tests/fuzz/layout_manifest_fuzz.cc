// The JSON files of the persistent tier: no crash; what is accepted can be written and read again.
#include <cstddef>
#include <cstdint>

#include "common/check.h"
#include "layout/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using holdfast::AsBytes;
  const holdfast::ByteView input = std::as_bytes(std::span(data, size));
  if (const auto manifest = holdfast::layout::DecodeManifest(input)) {
    const auto text = holdfast::layout::EncodeManifest(manifest.value());
    HOLDFAST_CHECK(text.has_value());
    HOLDFAST_CHECK(holdfast::layout::DecodeManifest(AsBytes(text.value())).has_value());
  }
  if (const auto job = holdfast::layout::DecodeJobFile(input)) {
    HOLDFAST_CHECK(holdfast::layout::EncodeJobFile(job.value()).has_value());
  }
  if (const auto incarnation = holdfast::layout::DecodeIncarnationFile(input)) {
    HOLDFAST_CHECK(holdfast::layout::EncodeIncarnationFile(incarnation.value()).has_value());
  }
  return 0;
}
