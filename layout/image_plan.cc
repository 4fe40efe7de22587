#include <algorithm>
#include <numeric>
#include <unordered_map>
#include <utility>
#include <vector>

#include "layout/dtype.h"
#include "layout/header_json.h"
#include "layout/image.h"
#include "layout/utf8.h"

namespace holdfast::layout {
namespace {

Error Refuse(const TensorSpec& spec, std::string_view what) {
  return Error(Errc::kInvalidArgument, "tensor " + Quoted(spec.name) + ": " + std::string(what));
}

Status CheckName(const TensorSpec& spec) {
  if (spec.name.empty() || spec.name.size() > kMaxNameBytes) {
    return Refuse(spec, "a name must have 1 to 1024 bytes");
  }
  if (!IsUtf8(spec.name)) {
    return Refuse(spec, "the name is not UTF-8");
  }
  if (spec.name == "__metadata__") {
    return Refuse(spec, "safetensors keeps this name for itself");
  }
  return Ok();
}

Status CheckClass(const TensorSpec& spec) {
  const proto::TensorClass c = spec.tensor_class;
  if (c != proto::STABLE && c != proto::STAGED && c != proto::CONSTANT) {
    return Refuse(spec, "its class is none of STABLE, STAGED, CONSTANT");
  }
  if (spec.image != proto::DYNAMIC && spec.image != proto::STATIC) {
    return Refuse(spec, "its image is neither DYNAMIC nor STATIC");
  }
  if (spec.alias_of.empty() && spec.image == proto::STATIC && c != proto::CONSTANT) {
    return Refuse(spec, "only tensors of class CONSTANT can be in the static image");
  }
  return Ok();
}

// What planning needs to know of each spec.
struct Measured {
  ByteCount element_bytes = 0;
  ByteCount length_bytes = 0;
};

Result<Measured> CheckSpec(const TensorSpec& spec) {
  HF_TRYV(CheckName(spec));
  HF_TRYV(CheckClass(spec));
  const auto element_bytes = ElementBytes(spec.dtype);
  if (!element_bytes) {
    return Refuse(spec, element_bytes.error().message);
  }
  if (const Status part = ValidatePart(spec.part, spec.global_shape, spec.local_shape); !part) {
    return Refuse(spec, part.error().message);
  }
  HF_TRY(const std::uint64_t elements, ElementCount(spec.local_shape));
  const ByteCount length_bytes = elements * element_bytes.value();
  if (length_bytes >= kMaxImageBytes) {
    return Refuse(spec, "it has 2^53 bytes or more");
  }
  return Measured{element_bytes.value(), length_bytes};
}

void CopySpec(const TensorSpec& spec, proto::TensorEntry* entry) {
  entry->set_name(spec.name);
  entry->set_dtype(spec.dtype);
  entry->mutable_global_shape()->Add(spec.global_shape.begin(), spec.global_shape.end());
  entry->mutable_local_shape()->Add(spec.local_shape.begin(), spec.local_shape.end());
  *entry->mutable_part() = spec.part;
  entry->set_tensor_class(spec.tensor_class);
  entry->set_replica_id(spec.replica_id);
  entry->set_alias_of(spec.alias_of);
}

TensorSpec SpecOf(const proto::TensorEntry& entry) {
  const ShapeView global_shape = ViewOf(entry.global_shape());
  const ShapeView local_shape = ViewOf(entry.local_shape());
  TensorSpec spec;
  spec.name = entry.name();
  spec.dtype = entry.dtype();
  spec.global_shape.assign(global_shape.begin(), global_shape.end());
  spec.local_shape.assign(local_shape.begin(), local_shape.end());
  spec.part = entry.part();
  spec.tensor_class = entry.tensor_class();
  spec.replica_id = entry.replica_id();
  spec.alias_of = entry.alias_of();
  spec.image = entry.image();
  return spec;
}

// One planning: the specs, what was measured, and the layout as it grows.
class Planner {
 public:
  explicit Planner(std::span<const TensorSpec> specs) : specs_(specs) {}

  Result<proto::Layout> Plan() {
    HF_TRYV(CheckSpecs());
    layout_.set_format_version(kLayoutFormatVersion);
    layout_.mutable_tensors()->Reserve(static_cast<int>(specs_.size()));
    HF_TRY(const ImageSize dynamic_size, PlaceImage(proto::DYNAMIC));
    layout_.set_dynamic_header_bytes(dynamic_size.header_bytes);
    layout_.set_dynamic_image_bytes(dynamic_size.image_bytes);
    if (has_static_) {
      HF_TRY(const ImageSize static_size, PlaceImage(proto::STATIC));
      layout_.set_static_header_bytes(static_size.header_bytes);
      layout_.set_static_image_bytes(static_size.image_bytes);
    }
    if (layout_.dynamic_image_bytes() + layout_.static_image_bytes() >= kMaxImageBytes) {
      return Error(Errc::kInvalidArgument, "the images have 2^53 bytes or more");
    }
    HF_TRYV(PlaceAliases());
    return std::move(layout_);
  }

 private:
  struct ImageSize {
    ByteCount header_bytes;
    ByteCount image_bytes;
  };

  Status CheckSpecs() {
    if (specs_.size() > kMaxTensors) {
      return Error(
          Errc::kInvalidArgument,
          std::to_string(specs_.size()) + " tensors: at most 1,000,000 are allowed in a shard");
    }
    measured_.reserve(specs_.size());
    index_.reserve(specs_.size());
    std::size_t boxes = 0;
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      boxes += static_cast<std::size_t>(specs_[i].part.boxes_size());
      if (boxes > kMaxBoxes) {
        return Refuse(specs_[i], "the shard's parts have more than 1,000,000 boxes in all");
      }
      HF_TRY(const Measured measured, CheckSpec(specs_[i]));
      measured_.push_back(measured);
      if (!index_.emplace(specs_[i].name, i).second) {
        return Refuse(specs_[i], "the name occurs twice");
      }
      has_static_ |= specs_[i].alias_of.empty() && specs_[i].image == proto::STATIC;
    }
    return Ok();
  }

  // Appends the image's entries, then moves them behind the header whose length they determine.
  Result<ImageSize> PlaceImage(proto::ImageKind kind) {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (specs_[i].alias_of.empty() && specs_[i].image == kind) {
        order.push_back(i);
      }
    }
    std::stable_sort(order.begin(), order.end(), [this](std::size_t a, std::size_t b) {
      return measured_[a].element_bytes > measured_[b].element_bytes;
    });
    const int first = layout_.tensors_size();
    ByteCount at = 0;
    for (std::size_t i : order) {
      proto::TensorEntry* entry = layout_.add_tensors();
      CopySpec(specs_[i], entry);
      entry->set_image(kind);
      entry->set_offset_bytes(at);
      entry->set_length_bytes(measured_[i].length_bytes);
      at += measured_[i].length_bytes;
      if (at >= kMaxImageBytes) {
        return Refuse(specs_[i], "with it the image has 2^53 bytes or more");
      }
    }
    HF_TRY(const std::string json, HeaderJson(layout_, kind, 0));
    const ByteCount header_bytes = AlignUp(kHeaderLengthBytes + json.size(), kHeaderAlignment);
    for (int i = first; i < layout_.tensors_size(); ++i) {
      proto::TensorEntry* entry = layout_.mutable_tensors(i);
      entry->set_offset_bytes(entry->offset_bytes() + header_bytes);
      placed_.emplace(entry->name(), i);
    }
    return ImageSize{header_bytes, header_bytes + at};
  }

  Status PlaceAliases() {
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      const TensorSpec& spec = specs_[i];
      if (spec.alias_of.empty()) {
        continue;
      }
      const auto target = placed_.find(spec.alias_of);
      if (target == placed_.end()) {
        return Refuse(spec,
                      (index_.count(spec.alias_of) != 0 ? "it is an alias of another alias, "
                                                        : "it is an alias of an unknown tensor, ") +
                          Quoted(spec.alias_of));
      }
      const proto::TensorEntry& bytes = layout_.tensors(target->second);
      if (bytes.length_bytes() != measured_[i].length_bytes) {
        return Refuse(spec,
                      "it has " + std::to_string(measured_[i].length_bytes) + " bytes, but " +
                          Quoted(spec.alias_of) + ", whose alias it is, has " +
                          std::to_string(bytes.length_bytes()));
      }
      proto::TensorEntry alias;
      CopySpec(spec, &alias);
      alias.set_image(bytes.image());
      alias.set_offset_bytes(bytes.offset_bytes());
      alias.set_length_bytes(bytes.length_bytes());
      *layout_.add_tensors() = std::move(alias);
    }
    return Ok();
  }

  std::span<const TensorSpec> specs_;
  std::vector<Measured> measured_;
  std::unordered_map<std::string_view, std::size_t> index_;  // into specs_, by name
  std::unordered_map<std::string, int> placed_;              // into layout_.tensors, by name
  bool has_static_ = false;
  proto::Layout layout_;
};

Status SamePlace(const proto::TensorEntry& given, const proto::TensorEntry& planned) {
  if (given.name() != planned.name() || given.image() != planned.image() ||
      given.offset_bytes() != planned.offset_bytes() ||
      given.length_bytes() != planned.length_bytes()) {
    return Error(Errc::kInvalidArgument,
                 "the layout places tensor " + Quoted(given.name()) + " at byte " +
                     std::to_string(given.offset_bytes()) + " with length " +
                     std::to_string(given.length_bytes()) + " where tensor " +
                     Quoted(planned.name()) + " belongs at byte " +
                     std::to_string(planned.offset_bytes()) + " with length " +
                     std::to_string(planned.length_bytes()));
  }
  return Ok();
}

}  // namespace

Result<proto::Layout> PlanImage(std::span<const TensorSpec> specs) {
  return Planner(specs).Plan();
}

Status ValidateLayout(const proto::Layout& layout) {
  if (layout.format_version() > kLayoutFormatVersion) {
    return Error(Errc::kVersionMismatch,
                 "the layout has format version " + std::to_string(layout.format_version()) +
                     ", this software reads up to " + std::to_string(kLayoutFormatVersion) +
                     ": upgrade it");
  }
  if (layout.format_version() == 0) {
    return Error(Errc::kInvalidArgument, "the layout has no format version");
  }
  if (static_cast<std::size_t>(layout.tensors_size()) > kMaxTensors) {
    return Error(Errc::kInvalidArgument, "the layout has more than 1,000,000 tensors");
  }
  std::vector<TensorSpec> specs;
  specs.reserve(static_cast<std::size_t>(layout.tensors_size()));
  for (const proto::TensorEntry& entry : layout.tensors()) {
    specs.push_back(SpecOf(entry));
  }
  HF_TRY(const proto::Layout planned, PlanImage(specs));
  if (layout.dynamic_image_bytes() != planned.dynamic_image_bytes() ||
      layout.dynamic_header_bytes() != planned.dynamic_header_bytes() ||
      layout.static_image_bytes() != planned.static_image_bytes() ||
      layout.static_header_bytes() != planned.static_header_bytes()) {
    return Error(Errc::kInvalidArgument,
                 "the layout's totals are not those of its tensors: a dynamic image of " +
                     std::to_string(layout.dynamic_image_bytes()) + " bytes in place of " +
                     std::to_string(planned.dynamic_image_bytes()) + ", a static one of " +
                     std::to_string(layout.static_image_bytes()) + " in place of " +
                     std::to_string(planned.static_image_bytes()));
  }
  for (int i = 0; i < layout.tensors_size(); ++i) {
    HF_TRYV(SamePlace(layout.tensors(i), planned.tensors(i)));
  }
  return Ok();
}

ByteCount ImageBytes(const proto::Layout& layout, proto::ImageKind kind) {
  return kind == proto::STATIC ? layout.static_image_bytes() : layout.dynamic_image_bytes();
}

ByteCount ImageHeaderBytes(const proto::Layout& layout, proto::ImageKind kind) {
  return kind == proto::STATIC ? layout.static_header_bytes() : layout.dynamic_header_bytes();
}

}  // namespace holdfast::layout
