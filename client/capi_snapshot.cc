// The C ABI: layout, snapshot and fence.  The contract is holdfast.h.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "client/capi_internal.h"
#include "layout/sidecar.h"
#include "layout/utf8.h"

namespace holdfast::client {
namespace {

// Of C arrays, before anything of that many elements is allocated.
constexpr std::size_t kMaxTensors = layout::kMaxTensors;
constexpr std::size_t kMaxStreams = 1024;

layout::Shape ToShape(const std::uint64_t* dimensions, std::uint32_t count) {
  return count == 0 ? layout::Shape() : layout::Shape(dimensions, dimensions + count);
}

Status CheckPointers(const hf_tensor& tensor, std::size_t index) {
  const std::string which = "tensor " + std::to_string(index);
  HF_TRYV(CheckText(tensor.name, (which + ": name").c_str()));
  HF_TRYV(
      CheckText(tensor.alias_of == nullptr ? "" : tensor.alias_of, (which + ": alias_of").c_str()));
  const bool sizes = tensor.global_ndim <= layout::kMaxDims &&
                     tensor.local_ndim <= layout::kMaxDims &&
                     tensor.box_count <= static_cast<std::uint32_t>(layout::kMaxBoxesPerPart);
  const bool pointers =
      (tensor.global_ndim == 0 || tensor.global_shape != nullptr) &&
      (tensor.local_ndim == 0 || tensor.local_shape != nullptr) &&
      (tensor.box_count == 0 || tensor.global_ndim == 0 || tensor.boxes != nullptr);
  if (!sizes || !pointers) {
    return Error(Errc::kInvalidArgument,
                 which + " " + layout::Quoted(tensor.name) +
                     ": more than 16 dimensions or 1024 boxes, or a NULL array");
  }
  if (tensor.on_device > 1 || (tensor.on_device == 1 && tensor.device < 0)) {
    return Error(Errc::kInvalidArgument,
                 which + " " + layout::Quoted(tensor.name) + ": on_device " +
                     std::to_string(tensor.on_device) + ", device " +
                     std::to_string(tensor.device) + " is no place");
  }
  if (!proto::DataType_IsValid(static_cast<int>(tensor.dtype)) ||
      !proto::TensorClass_IsValid(static_cast<int>(tensor.tensor_class))) {
    return Error(Errc::kInvalidArgument,
                 which + " " + layout::Quoted(tensor.name) + ": unknown dtype " +
                     std::to_string(tensor.dtype) + " or class " +
                     std::to_string(tensor.tensor_class));
  }
  return Ok();
}

layout::TensorSpec ToSpec(const hf_tensor& tensor) {
  layout::TensorSpec spec;
  spec.name = tensor.name;
  spec.dtype = static_cast<proto::DataType>(tensor.dtype);
  spec.tensor_class = static_cast<proto::TensorClass>(tensor.tensor_class);
  spec.global_shape = ToShape(tensor.global_shape, tensor.global_ndim);
  spec.local_shape = ToShape(tensor.local_shape, tensor.local_ndim);
  spec.replica_id = tensor.replica_id;
  spec.alias_of = tensor.alias_of == nullptr ? "" : tensor.alias_of;
  spec.image = spec.tensor_class == proto::CONSTANT ? proto::STATIC : proto::DYNAMIC;
  spec.part.set_opaque(tensor.opaque != 0);
  for (std::uint32_t i = 0; i < tensor.box_count; ++i) {
    proto::Box* box = spec.part.add_boxes();
    for (std::uint32_t d = 0; d < tensor.global_ndim; ++d) {
      const std::size_t at = 2 * std::size_t{i} * tensor.global_ndim + d;
      box->add_offset(tensor.boxes[at]);
      box->add_length(tensor.boxes[at + tensor.global_ndim]);
    }
  }
  if (tensor.has_flat_range != 0) {
    spec.part.set_has_flat_range(true);
    spec.part.set_flat_offset(tensor.flat_offset);
    spec.part.set_flat_length(tensor.flat_length);
  }
  return spec;
}

struct Places {
  std::vector<layout::TensorSpec> specs;
  std::vector<std::int32_t> devices;  // one for each spec
};

Result<Places> ToPlaces(const hf_tensor* tensors, std::size_t count) {
  if (count > kMaxTensors || (count > 0 && tensors == nullptr)) {
    return Error(Errc::kInvalidArgument, "tensors: NULL, or more than 1,000,000");
  }
  Places places;
  places.specs.reserve(count);
  places.devices.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    HF_TRYV(CheckPointers(tensors[i], i));
    places.specs.push_back(ToSpec(tensors[i]));
    places.devices.push_back(tensors[i].on_device == 0 ? kHostDevice : tensors[i].device);
  }
  return places;
}

Result<std::vector<TensorStrides>> ToStrides(const hf_strides* strides, std::size_t count) {
  if (count > kMaxTensors || (count > 0 && strides == nullptr)) {
    return Error(Errc::kInvalidArgument, "strides: NULL, or too many");
  }
  std::vector<TensorStrides> all;
  all.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const hf_strides& one = strides[i];
    if (one.ndim > layout::kMaxDims || (one.ndim > 0 && one.strides == nullptr)) {
      return Error(
          Errc::kInvalidArgument,
          "strides of tensor " + std::to_string(one.tensor) + ": NULL, or more than 16 dimensions");
    }
    TensorStrides& entry = all.emplace_back();
    entry.spec = one.tensor;
    if (one.ndim > 0) {
      entry.strides.assign(one.strides, one.strides + one.ndim);
    }
  }
  return all;
}

Result<std::vector<DeviceStream>> ToStreams(const hf_stream* streams, std::size_t count) {
  if (count > kMaxStreams || (count > 0 && streams == nullptr)) {
    return Error(Errc::kInvalidArgument, "streams: NULL, or more than 1024");
  }
  std::vector<DeviceStream> all;
  all.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back(DeviceStream{streams[i].device, streams[i].stream});
  }
  return all;
}

Result<std::vector<proto::StateItem>> ToState(const hf_state_item* items, std::size_t count) {
  if (count > static_cast<std::size_t>(layout::kMaxStateItems) || (count > 0 && items == nullptr)) {
    return Error(Errc::kInvalidArgument, "state: NULL, or more than 4096 items");
  }
  std::vector<proto::StateItem> state;
  ByteCount bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    HF_TRYV(CheckText(items[i].name, "the name of a state item"));
    proto::StateItem& item = state.emplace_back();
    item.set_name(items[i].name);
    if (items[i].json != nullptr) {
      HF_TRYV(CheckText(items[i].json, items[i].name));
      item.set_json(items[i].json);
      bytes += item.json().size();
    } else if (items[i].pickle_bytes <= layout::kMaxStateBytes &&
               (items[i].pickle != nullptr || items[i].pickle_bytes == 0)) {
      item.set_pickle(items[i].pickle_bytes == 0 ? "" : items[i].pickle, items[i].pickle_bytes);
      bytes += items[i].pickle_bytes;
    } else {
      bytes = layout::kMaxStateBytes + 1;
    }
    bytes += item.name().size();
    if (bytes > layout::kMaxStateBytes) {
      return Error(Errc::kInvalidArgument,
                   "the state items have more than 16 MiB in all, or a NULL pickle (item " +
                       layout::Quoted(item.name()) + "): make large ones a U8 tensor");
    }
  }
  return state;
}

}  // namespace
}  // namespace holdfast::client

using namespace holdfast;          // NOLINT: the functions below are the ABI, outside any namespace
using namespace holdfast::client;  // NOLINT

extern "C" {

int hf_set_layout(hf_client* client, const hf_tensor* tensors, size_t count) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    HF_TRY(auto places, ToPlaces(tensors, count));
    return session.SetLayout(std::move(places.specs), std::nullopt, places.devices);
  });
}

int hf_set_layout_within(hf_client* client,
                         const hf_tensor* tensors,
                         size_t count,
                         uint32_t wait_ms) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    HF_TRY(auto places, ToPlaces(tensors, count));
    return session.SetLayout(
        std::move(places.specs), std::chrono::milliseconds(wait_ms), places.devices);
  });
}

int hf_expect_zero(hf_client* client, const uint32_t* indices, size_t count) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    if (indices == nullptr && count != 0) {
      return Error(Errc::kInvalidArgument, "indices is null");
    }
    return session.ExpectZero({indices, count});
  });
}

int hf_wait_ready(hf_client* client, uint32_t timeout_ms) {
  return WithSession(SessionOf(client),
                     [&](Session& session) { return session.WaitReady(After(timeout_ms)); });
}

int hf_snapshot(hf_client* client,
                int64_t step,
                const void* const* pointers,
                size_t count,
                const hf_strides* strides,
                size_t strides_count,
                const hf_stream* streams,
                size_t stream_count,
                const hf_state_item* state,
                size_t state_count,
                hf_begin* out) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    if (out == nullptr || step < 0 || (count > 0 && pointers == nullptr)) {
      return Error(Errc::kInvalidArgument, "out or pointers are NULL, or the step is negative");
    }
    *out = hf_begin{};
    HF_TRY(const auto all_strides, ToStrides(strides, strides_count));
    SnapshotInput input;
    input.step = step;
    input.pointers = {pointers, count};
    input.strides = all_strides;
    HF_TRY(input.streams, ToStreams(streams, stream_count));
    HF_TRY(input.state, ToState(state, state_count));
    HF_TRY(const SnapshotStart start, session.Snapshot(std::move(input)));
    out->started = start.started ? 1 : 0;
    out->bytes = start.bytes;
    out->static_bytes = start.static_bytes;
    CopyText(start.reason, out->reason, sizeof out->reason);
    return Ok();
  });
}

int hf_skip(hf_client* client, int64_t step, const char* reason) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    HF_TRYV(CheckText(reason, "the reason"));
    if (step < 0) {
      return Error(Errc::kInvalidArgument, "the step is negative");
    }
    return session.Miss(step, reason);
  });
}

int hf_fence(hf_client* client, const hf_stream* streams, size_t stream_count) {
  return WithSession(SessionOf(client), [&](Session& session) -> int {
    const auto further = ToStreams(streams, stream_count);
    if (further.has_error()) {
      return Fail(further.error());
    }
    const FenceResult result = session.Fence(further.value());
    switch (result.kind) {
      case CopyOutcome::Kind::kCopied:
        return HF_OK;
      case CopyOutcome::Kind::kTorn:
        return Fail(HF_TORN, result.reason);
      case CopyOutcome::Kind::kFailed:
        break;
    }
    return Fail(HF_IO_ERROR, result.reason);
  });
}

int hf_not_constant(hf_client* client, uint32_t* indices, size_t capacity, size_t* count) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    if (count == nullptr || (capacity > 0 && indices == nullptr)) {
      return Error(Errc::kInvalidArgument, "count or indices are NULL");
    }
    const std::vector<std::uint32_t> changed = session.NotFrozen();
    *count = changed.size();
    std::copy_n(changed.begin(), std::min(capacity, changed.size()), indices);
    return Ok();
  });
}

int hf_wait_sealed(hf_client* client, int64_t step, uint32_t timeout_ms) {
  return WithSession(SessionOf(client),
                     [&](Session& session) { return session.WaitSealed(step, After(timeout_ms)); });
}

}  // extern "C"
