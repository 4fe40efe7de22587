#include "layout/layout_hash.h"

#include <cstdint>
#include <string_view>

#include "common/bytes.h"
#include "layout/siphash.h"
#include "layout/tensor_box.h"

namespace holdfast::layout {
namespace {

// "HFLAYOUT" and "HASH0001" read as little-endian words.
constexpr std::uint64_t kKeyLow = 0x54554f59414c4648;
constexpr std::uint64_t kKeyHigh = 0x3130303048534148;
// "HFSTATIC", in place of the first word.
constexpr std::uint64_t kStaticKeyLow = 0x4349544154534648;

// Appends fields in the encoding that docs/format/sidecar.md defines.  Every variable-length field
// has its length in front, so two different layouts never have the same bytes.
class CanonicalBytes {
 public:
  void U32(std::uint32_t value) {
    const std::size_t at = Grow(4);
    StoreLe32(bytes_.data() + at, value);
  }

  void U64(std::uint64_t value) {
    const std::size_t at = Grow(8);
    StoreLe64(bytes_.data() + at, value);
  }

  void Text(std::string_view text) {
    U64(text.size());
    bytes_ += text;
  }

  void Numbers(ShapeView numbers) {
    U64(numbers.size());
    for (std::uint64_t number : numbers) {
      U64(number);
    }
  }

  void FlushTo(SipHash128* hash) {
    hash->Update(AsBytes(bytes_));
    bytes_.clear();
  }

 private:
  std::size_t Grow(std::size_t count) {
    bytes_.resize(bytes_.size() + count);
    return bytes_.size() - count;
  }

  std::string bytes_;
};

void AppendPart(const proto::Part& part, CanonicalBytes* out) {
  out->U64(static_cast<std::uint64_t>(part.boxes_size()));
  for (const proto::Box& box : part.boxes()) {
    out->Numbers(ViewOf(box.offset()));
    out->Numbers(ViewOf(box.length()));
  }
  out->U32((part.has_flat_range() ? 1u : 0u) | (part.opaque() ? 2u : 0u));
  out->U64(part.flat_offset());
  out->U64(part.flat_length());
}

void AppendEntry(const proto::TensorEntry& entry, CanonicalBytes* out) {
  out->Text(entry.name());
  out->U32(static_cast<std::uint32_t>(entry.dtype()));
  out->Numbers(ViewOf(entry.global_shape()));
  out->Numbers(ViewOf(entry.local_shape()));
  AppendPart(entry.part(), out);
  out->U32(static_cast<std::uint32_t>(entry.tensor_class()));
  out->U32(entry.replica_id());
  out->Text(entry.alias_of());
  out->U32(static_cast<std::uint32_t>(entry.image()));
  out->U64(entry.offset_bytes());
  out->U64(entry.length_bytes());
}

}  // namespace

std::string LayoutHash(const proto::Layout& layout) {
  SipHash128 hash(kKeyLow, kKeyHigh);
  CanonicalBytes bytes;
  bytes.U32(layout.format_version());
  bytes.U64(layout.dynamic_image_bytes());
  bytes.U64(layout.dynamic_header_bytes());
  bytes.U64(layout.static_image_bytes());
  bytes.U64(layout.static_header_bytes());
  bytes.U64(static_cast<std::uint64_t>(layout.tensors_size()));
  for (const proto::TensorEntry& entry : layout.tensors()) {
    AppendEntry(entry, &bytes);
    bytes.FlushTo(&hash);
  }
  bytes.FlushTo(&hash);
  return hash.Finish();
}

std::string StaticHash(const proto::Layout& layout) {
  if (layout.static_image_bytes() == 0) {
    return {};
  }
  SipHash128 hash(kStaticKeyLow, kKeyHigh);
  CanonicalBytes bytes;
  bytes.U32(layout.format_version());
  bytes.U64(layout.static_image_bytes());
  bytes.U64(layout.static_header_bytes());
  for (const proto::TensorEntry& entry : layout.tensors()) {
    // An alias has no bytes of its own; its names may come and go.
    if (entry.image() == proto::STATIC && entry.alias_of().empty()) {
      AppendEntry(entry, &bytes);
      bytes.FlushTo(&hash);
    }
  }
  bytes.FlushTo(&hash);
  return hash.Finish();
}

}  // namespace holdfast::layout
