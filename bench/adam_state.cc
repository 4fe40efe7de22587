#include "bench/adam_state.h"

#include <string>
#include <utility>

namespace holdfast::bench {
namespace {

constexpr ByteCount kElementBytes = 4;
constexpr ByteCount kAlignment = 64;
constexpr std::uint64_t kColumns = 1024;
constexpr std::uint64_t kSmallElements = 2048;  // a bias or a norm: 8 KiB
constexpr std::size_t kTensorsOfParameter = 4;

layout::TensorSpec Spec(const std::string& name, const layout::Shape& shape) {
  layout::TensorSpec spec;
  spec.name = name;
  spec.dtype = proto::F32;
  spec.global_shape = shape;
  spec.local_shape = shape;
  spec.tensor_class = proto::STABLE;
  return spec;
}

ByteCount BytesOf(const layout::TensorSpec& spec) {
  ByteCount bytes = kElementBytes;
  for (const std::uint64_t length : spec.local_shape) {
    bytes *= length;
  }
  return bytes;
}

bool IsSmall(std::size_t parameter) {
  return parameter % 3 == 2;
}

}  // namespace

Result<std::vector<layout::TensorSpec>> AdamSpecs(std::size_t tensors, ByteCount bytes) {
  const std::size_t parameters = tensors / kTensorsOfParameter;
  const std::size_t small = parameters / 3;
  const std::size_t large = parameters - small;
  const ByteCount of_small = small * 3 * kSmallElements * kElementBytes;
  if (tensors % kTensorsOfParameter != 0 || large == 0 || bytes < of_small ||
      (bytes - of_small) / (large * 3) < kColumns * kElementBytes) {
    return Error(Errc::kInvalidArgument,
                 FormatBytes(bytes) + " for " + std::to_string(tensors) +
                     " tensors: give a multiple of four tensors, and some KiB for each");
  }
  const std::uint64_t rows = (bytes - of_small) / (large * 3) / (kColumns * kElementBytes);
  const auto shape = [&](std::size_t parameter) {
    return IsSmall(parameter) ? layout::Shape{kSmallElements} : layout::Shape{rows, kColumns};
  };
  std::vector<layout::TensorSpec> specs;
  for (std::size_t i = 0; i < parameters; ++i) {
    specs.push_back(Spec("layers." + std::to_string(i) + ".weight", shape(i)));
  }
  for (std::size_t i = 0; i < parameters; ++i) {
    const std::string prefix = "optimizer.state.layers." + std::to_string(i) + ".weight.";
    specs.push_back(Spec(prefix + "step", {}));
    specs.push_back(Spec(prefix + "exp_avg", shape(i)));
    specs.push_back(Spec(prefix + "exp_avg_sq", shape(i)));
  }
  return specs;
}

Result<AdamMemory> AllocateAdam(const std::vector<layout::TensorSpec>& specs) {
  std::vector<ByteCount> places;
  ByteCount end = 0;
  for (const layout::TensorSpec& spec : specs) {
    places.push_back(end);
    end += (BytesOf(spec) + kAlignment - 1) / kAlignment * kAlignment;
  }
  AdamMemory memory;
  HF_TRY(memory.pages, Pages::Private(end));
  FillRandom(memory.pages.Bytes(), 1);
  for (const ByteCount place : places) {
    memory.tensors.push_back(memory.pages.Bytes().data() + place);
  }
  return memory;
}

}  // namespace holdfast::bench
