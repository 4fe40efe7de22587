// What a snapshot of one layout copies where: tensors in the order of the image's bytes.
//
// Made once for each registered layout, so that a snapshot itself decides nothing.
//
// Threads:   immutable after Make; any thread.
// Ownership: owns all it needs of the layout.
// Errors:    Make: kInvalidArgument where layout and specs do not belong together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "client/device.h"
#include "client/source_view.h"
#include "common/result.h"
#include "common/units.h"
#include "layout/image.h"

namespace holdfast::client {

// When the bytes of a tensor reach the slot.
enum class CopyMode {
  kLazy,    // behind training, until the fence
  kStaged,  // inside hf_snapshot
};

// On a device a copy of so many bytes takes about as long as one of a few.
inline constexpr ByteCount kSmallOnDevice = 64 * kKiB;

struct PlannedTensor {
  std::string name;
  ByteCount offset = 0;  // in the image
  ByteCount length = 0;  // never 0
  ByteCount element_bytes = 0;
  layout::Shape shape;  // local
  std::int32_t device = kHostDevice;
  CopyMode mode = CopyMode::kLazy;
  // Nothing may write it before the fence: its content is compared at the end of the copy.
  bool checked = false;
  std::size_t spec = 0;  // index in what the caller registered

  friend bool operator==(const PlannedTensor&, const PlannedTensor&) = default;
};

class CopyPlan {
 public:
  // Of the dynamic image: STABLE tensors above "small_tensor_bytes" (on a device: above
  // "small_on_device", if that is more) are copied lazily, all others staged.
  // "specs" are those that PlanImage made "layout" of; "devices" says where each lies, empty: all
  // in host memory.  The daemon knows nothing of devices: the same layout may move between them.
  [[nodiscard]] static Result<std::shared_ptr<const CopyPlan>> Make(
      const proto::Layout& layout,
      std::span<const layout::TensorSpec> specs,
      ByteCount small_tensor_bytes,
      std::span<const std::int32_t> devices = {},
      ByteCount small_on_device = 0);

  // Of the same layout's static image, with the same specs; all of it lazy.  nullptr: there is
  // none.
  [[nodiscard]] const std::shared_ptr<const CopyPlan>& Frozen() const { return frozen_; }

  // The devices, each once, rising; empty: all is in host memory.
  [[nodiscard]] std::span<const std::int32_t> Devices() const { return devices_; }

  // Those of the static image too.
  [[nodiscard]] std::vector<std::int32_t> AllDevices() const;

  // Without aliases and empty tensors; together with the header they cover the image without holes.
  [[nodiscard]] std::span<const PlannedTensor> Tensors() const { return tensors_; }

  [[nodiscard]] ByteCount HeaderBytes() const { return header_bytes_; }

  [[nodiscard]] ByteCount ImageBytes() const { return image_bytes_; }

  // How many tensors the caller registered: the number of pointers that a snapshot takes.
  [[nodiscard]] std::size_t SpecCount() const { return spec_count_; }

  // Whether snapshots by either are the same: also the tensors' places and the order in which they
  // were registered, of which a layout's hash says nothing.
  [[nodiscard]] bool operator==(const CopyPlan& other) const;

  // Index of the tensor that holds byte "offset" of the image, which is behind the header.
  [[nodiscard]] std::size_t TensorAt(ByteCount offset) const;

 private:
  CopyPlan() = default;

  [[nodiscard]] static Result<std::shared_ptr<CopyPlan>> MakeOne(
      const proto::Layout& layout,
      std::span<const layout::TensorSpec> specs,
      ByteCount small_on_host,
      ByteCount small_on_device,
      std::span<const std::int32_t> devices,
      proto::ImageKind kind);

  std::shared_ptr<const CopyPlan> frozen_;
  std::vector<PlannedTensor> tensors_;
  std::vector<std::int32_t> devices_;
  ByteCount header_bytes_ = 0;
  ByteCount image_bytes_ = 0;
  std::size_t spec_count_ = 0;
};

// What a caller says of a tensor that is not contiguous.
struct TensorStrides {
  std::size_t spec = 0;
  std::vector<std::int64_t> strides;
};

// The sources of one snapshot, one for each planned tensor.  kInvalidArgument for a missing
// pointer, a wrong number of pointers, strides that do not fit, or strides of a tensor named twice.
[[nodiscard]] Result<std::vector<SourceView>> MakeSources(const CopyPlan& plan,
                                                          std::span<const void* const> pointers,
                                                          std::span<const TensorStrides> strides);

}  // namespace holdfast::client
