// Sidecar files and, since a CRC stops a fuzzer at once, payloads framed rightly: no crash; what is
// accepted can be encoded and read again, and every tensor of it can be asked for all its bytes.
#include <cstddef>
#include <cstdint>
#include <string>

#include "common/check.h"
#include "common/crc32c.h"
#include "layout/region.h"
#include "layout/sidecar.h"

namespace {

using holdfast::AsBytes;
using holdfast::ByteView;

std::string Framed(ByteView payload) {
  std::string file = "HFSIDE1\n";
  file.resize(20);
  holdfast::StoreLe32(file.data() + 8, 1);
  holdfast::StoreLe64(file.data() + 12, payload.size());
  file += holdfast::AsText(payload);
  const std::uint32_t crc = holdfast::Crc32c(0, AsBytes(file));
  file.resize(file.size() + 4);
  holdfast::StoreLe32(file.data() + file.size() - 4, crc);
  return file;
}

void CheckAccepted(const holdfast::proto::Sidecar& sidecar) {
  const auto again = holdfast::layout::EncodeSidecarFile(sidecar);
  HOLDFAST_CHECK(again.has_value());
  HOLDFAST_CHECK(holdfast::layout::DecodeSidecarFile(AsBytes(again.value())).has_value());
  for (const auto& entry : sidecar.layout().tensors()) {
    if (entry.part().opaque()) {
      continue;
    }
    const auto whole = holdfast::layout::WholeBox(holdfast::layout::ViewOf(entry.global_shape()));
    const auto region = holdfast::layout::RegionRuns::OfGlobal(entry, whole);
    HOLDFAST_CHECK(region.has_value());
    HOLDFAST_CHECK(region.value().CoveredBytes() == entry.length_bytes());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView input = std::as_bytes(std::span(data, size));
  if (const auto sidecar = holdfast::layout::DecodeSidecarFile(input)) {
    CheckAccepted(sidecar.value());
  }
  const std::string framed = Framed(input);
  if (const auto sidecar = holdfast::layout::DecodeSidecarFile(AsBytes(framed))) {
    CheckAccepted(sidecar.value());
  }
  return 0;
}
