#include "client/copy_plan.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "common/check.h"
#include "layout/dtype.h"

namespace holdfast::client {
namespace {

Error Mismatch(const std::string& name) {
  return Error(Errc::kInvalidArgument, "the layout has tensor \"" + name + "\" out of place");
}

PlannedTensor Planned(const proto::TensorEntry& entry,
                      ByteCount element_bytes,
                      std::size_t spec,
                      std::int32_t device,
                      ByteCount small_tensor_bytes) {
  PlannedTensor tensor;
  tensor.name = entry.name();
  tensor.offset = entry.offset_bytes();
  tensor.length = entry.length_bytes();
  tensor.element_bytes = element_bytes;
  tensor.shape.assign(entry.local_shape().begin(), entry.local_shape().end());
  tensor.checked = entry.tensor_class() != proto::STAGED;
  tensor.mode =
      tensor.checked && tensor.length > small_tensor_bytes ? CopyMode::kLazy : CopyMode::kStaged;
  tensor.spec = spec;
  tensor.device = device;
  return tensor;
}

}  // namespace

Result<std::shared_ptr<const CopyPlan>> CopyPlan::Make(const proto::Layout& layout,
                                                       std::span<const layout::TensorSpec> specs,
                                                       ByteCount small_tensor_bytes,
                                                       std::span<const std::int32_t> devices,
                                                       ByteCount small_on_device) {
  HF_TRY(auto plan,
         MakeOne(layout,
                 specs,
                 small_tensor_bytes,
                 std::max(small_tensor_bytes, small_on_device),
                 devices,
                 proto::DYNAMIC));
  if (layout.static_image_bytes() > 0) {
    HF_TRY(plan->frozen_, MakeOne(layout, specs, 0, 0, devices, proto::STATIC));
  }
  return std::shared_ptr<const CopyPlan>(std::move(plan));
}

Result<std::shared_ptr<CopyPlan>> CopyPlan::MakeOne(const proto::Layout& layout,
                                                    std::span<const layout::TensorSpec> specs,
                                                    ByteCount small_on_host,
                                                    ByteCount small_on_device,
                                                    std::span<const std::int32_t> devices,
                                                    proto::ImageKind kind) {
  if (!devices.empty() && devices.size() != specs.size()) {
    return Error(Errc::kInvalidArgument, "not every tensor has a device");
  }
  std::unordered_map<std::string_view, std::size_t> spec_of;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    spec_of.emplace(specs[i].name, i);
  }
  std::shared_ptr<CopyPlan> plan(new CopyPlan());  // the constructor is private
  plan->header_bytes_ = layout::ImageHeaderBytes(layout, kind);
  plan->image_bytes_ = layout::ImageBytes(layout, kind);
  plan->spec_count_ = specs.size();
  ByteCount end = plan->header_bytes_;
  for (const proto::TensorEntry& entry : layout.tensors()) {
    if (!entry.alias_of().empty() || entry.length_bytes() == 0 || entry.image() != kind) {
      continue;
    }
    const auto spec = spec_of.find(entry.name());
    if (spec == spec_of.end() || entry.offset_bytes() != end) {
      return Mismatch(entry.name());
    }
    HF_TRY(const ByteCount element_bytes, layout::ElementBytes(entry.dtype()));
    const std::int32_t device = devices.empty() ? kHostDevice : devices[spec->second];
    plan->tensors_.push_back(Planned(entry,
                                     element_bytes,
                                     spec->second,
                                     device,
                                     device == kHostDevice ? small_on_host : small_on_device));
    if (device != kHostDevice) {
      plan->devices_.push_back(device);
    }
    end += entry.length_bytes();
  }
  if (end != plan->image_bytes_) {
    return Error(Errc::kInvalidArgument, "the layout's tensors do not fill its image");
  }
  std::sort(plan->devices_.begin(), plan->devices_.end());
  plan->devices_.erase(std::unique(plan->devices_.begin(), plan->devices_.end()),
                       plan->devices_.end());
  return plan;
}

std::vector<std::int32_t> CopyPlan::AllDevices() const {
  std::vector<std::int32_t> all = devices_;
  if (frozen_ != nullptr) {
    all.insert(all.end(), frozen_->devices_.begin(), frozen_->devices_.end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

bool CopyPlan::operator==(const CopyPlan& other) const {
  const bool frozen_alike = frozen_ == nullptr || other.frozen_ == nullptr
                                ? frozen_ == other.frozen_
                                : *frozen_ == *other.frozen_;
  return frozen_alike && tensors_ == other.tensors_ && devices_ == other.devices_ &&
         header_bytes_ == other.header_bytes_ && image_bytes_ == other.image_bytes_ &&
         spec_count_ == other.spec_count_;
}

std::size_t CopyPlan::TensorAt(ByteCount offset) const {
  HOLDFAST_CHECK(offset >= header_bytes_ && offset < image_bytes_);
  const auto behind = std::upper_bound(
      tensors_.begin(), tensors_.end(), offset, [](ByteCount value, const PlannedTensor& tensor) {
        return value < tensor.offset;
      });
  return static_cast<std::size_t>(behind - tensors_.begin()) - 1;
}

Result<std::vector<SourceView>> MakeSources(const CopyPlan& plan,
                                            std::span<const void* const> pointers,
                                            std::span<const TensorStrides> strides) {
  if (pointers.size() != plan.SpecCount()) {
    return Error(Errc::kInvalidArgument,
                 std::to_string(pointers.size()) + " pointers for a layout of " +
                     std::to_string(plan.SpecCount()) + " tensors: register the layout anew");
  }
  std::unordered_map<std::size_t, const TensorStrides*> strided;
  for (const TensorStrides& entry : strides) {
    if (entry.spec >= plan.SpecCount() || !strided.emplace(entry.spec, &entry).second) {
      return Error(Errc::kInvalidArgument,
                   "strides for tensor " + std::to_string(entry.spec) + " of " +
                       std::to_string(plan.SpecCount()) + ", or given twice");
    }
  }
  std::vector<SourceView> sources;
  sources.reserve(plan.Tensors().size());
  for (const PlannedTensor& tensor : plan.Tensors()) {
    const void* base = pointers[tensor.spec];
    if (base == nullptr) {
      return Error(Errc::kInvalidArgument, "no pointer for tensor \"" + tensor.name + "\"");
    }
    const auto found = strided.empty() ? strided.end() : strided.find(tensor.spec);
    if (found == strided.end()) {
      sources.push_back(SourceView::Contiguous(base, tensor.length));
      continue;
    }
    auto view =
        SourceView::Strided(base, tensor.shape, found->second->strides, tensor.element_bytes);
    if (view.has_error()) {
      return std::move(view).error().WithContext("tensor \"" + tensor.name + "\"");
    }
    if (tensor.device != kHostDevice && view.value().RunBytes() != tensor.length) {
      return Error(Errc::kInvalidArgument,
                   "tensor \"" + tensor.name + "\" on device " + std::to_string(tensor.device) +
                       " is not contiguous: hand over a contiguous copy");
    }
    sources.push_back(std::move(view).value());
  }
  return sources;
}

}  // namespace holdfast::client
