#include "layout/image_header.h"

#include "layout/dtype.h"
#include "layout/header_json.h"

namespace holdfast::layout {
namespace {

// JSON text of a name: only what JSON demands is escaped, so the text stays UTF-8.
void AppendJsonString(std::string_view text, std::string* out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  *out += '"';
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      *out += '\\';
      *out += c;
    } else if (byte < 0x20) {
      *out += "\\u00";
      *out += kDigits[byte >> 4];
      *out += kDigits[byte & 0xf];
    } else {
      *out += c;
    }
  }
  *out += '"';
}

Status AppendTensor(const proto::TensorEntry& entry, ByteCount data_start, std::string* out) {
  HF_TRY(const std::string_view dtype, HeaderDataTypeName(entry.dtype()));
  AppendJsonString(entry.name(), out);
  *out += ":{\"dtype\":\"";
  *out += dtype;
  *out += "\",\"shape\":[";
  if (SafetensorsKnows(entry.dtype())) {
    for (int d = 0; d < entry.local_shape_size(); ++d) {
      *out += d == 0 ? "" : ",";
      *out += std::to_string(entry.local_shape(d));
    }
  } else {
    *out += std::to_string(entry.length_bytes());
  }
  const ByteCount begin = entry.offset_bytes() - data_start;
  *out += "],\"data_offsets\":[";
  *out += std::to_string(begin);
  *out += ',';
  *out += std::to_string(begin + entry.length_bytes());
  *out += "]}";
  return Ok();
}

}  // namespace

Result<std::string> HeaderJson(const proto::Layout& layout,
                               proto::ImageKind kind,
                               ByteCount data_start) {
  std::string json = "{";
  for (const proto::TensorEntry& entry : layout.tensors()) {
    if (entry.image() != kind || !entry.alias_of().empty()) {
      continue;
    }
    if (entry.offset_bytes() < data_start) {
      return Error(Errc::kInvalidArgument, "a tensor of the layout lies inside the image's header");
    }
    if (json.size() > 1) {
      json += ',';
    }
    HF_TRYV(AppendTensor(entry, data_start, &json));
    // Checked in the loop: a million long names must not be gathered first.
    if (AlignUp(kHeaderLengthBytes + json.size() + 1, kHeaderAlignment) - kHeaderLengthBytes >
        kMaxHeaderJsonBytes) {
      return Error(Errc::kInvalidArgument,
                   "the image's header is longer than the 100,000,000 bytes that safetensors "
                   "allows: register fewer tensors or shorter names");
    }
  }
  json += '}';
  return json;
}

Result<std::string> BuildImageHeader(const proto::Layout& layout, proto::ImageKind kind) {
  const ByteCount header_bytes =
      kind == proto::STATIC ? layout.static_header_bytes() : layout.dynamic_header_bytes();
  if (header_bytes == 0) {
    return Error(Errc::kNotFound, "the layout has no image of this kind");
  }
  HF_TRY(const std::string json, HeaderJson(layout, kind, header_bytes));
  if (header_bytes != AlignUp(kHeaderLengthBytes + json.size(), kHeaderAlignment)) {
    return Error(Errc::kInvalidArgument,
                 "the layout says that its header has " + std::to_string(header_bytes) +
                     " bytes, which its tensors do not need");
  }
  std::string header(header_bytes, ' ');
  StoreLe64(header.data(), header_bytes - kHeaderLengthBytes);
  header.replace(kHeaderLengthBytes, json.size(), json);
  return header;
}

}  // namespace holdfast::layout
