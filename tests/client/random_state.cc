#include "tests/client/random_state.h"

#include <cstring>
#include <utility>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layout/dtype.h"
#include "layout/layout_hash.h"
#include "tests/support/bulk_bytes.h"

namespace holdfast::client {
namespace {

constexpr proto::DataType kTypes[] = {
    proto::BOOL, proto::U8, proto::BF16, proto::F32, proto::F64, proto::C128, proto::F8_E4M3};

ByteCount SizeOf(proto::DataType dtype) {
  return layout::ElementBytes(dtype).value();
}

std::uint64_t Product(const layout::Shape& shape) {
  std::uint64_t product = 1;
  for (const auto length : shape) {
    product *= length;
  }
  return product;
}

std::vector<std::int64_t> RowMajor(const layout::Shape& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t step = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    step *= static_cast<std::int64_t>(shape[i]);
  }
  return strides;
}

// Elements from the first to behind the last that the strides reach.
std::uint64_t Extent(const layout::Shape& shape, const std::vector<std::int64_t>& strides) {
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    last += (shape[i] - 1) * static_cast<std::uint64_t>(strides[i]);
  }
  return last + 1;
}

// The bytes of a tensor in row-major order, one element at a time.
std::string PlainGather(const std::byte* base,
                        const layout::Shape& shape,
                        const std::vector<std::int64_t>& strides,
                        ByteCount element) {
  std::string bytes;
  const std::uint64_t count = Product(shape);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t rest = i;
    std::int64_t offset = 0;
    for (std::size_t d = shape.size(); d-- > 0;) {
      offset += static_cast<std::int64_t>(rest % shape[d]) * strides[d];
      rest /= shape[d];
    }
    bytes.append(reinterpret_cast<const char*>(base) + offset * static_cast<std::int64_t>(element),
                 element);
  }
  return bytes;
}

void Finish(RandomState* state) {
  state->layout = layout::PlanImage(state->specs).value();
  state->hash = layout::LayoutHash(state->layout);
}

void AddMemory(RandomState* state, std::mt19937_64* random, std::uint64_t bytes, bool unaligned) {
  auto& memory = state->memory.emplace_back(bytes + 64);
  FillPattern(memory, (*random)());
  state->pointers.push_back(memory.data() + (unaligned ? (*random)() % 64 : 0));
}

layout::TensorSpec Spec(std::string name, proto::DataType dtype, layout::Shape shape) {
  layout::TensorSpec spec;
  spec.name = std::move(name);
  spec.dtype = dtype;
  spec.global_shape = shape;
  spec.local_shape = std::move(shape);
  spec.tensor_class = proto::STABLE;
  return spec;
}

}  // namespace

std::size_t RandomState::IndexOf(const std::string& name) const {
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].name == name) {
      return i;
    }
  }
  ADD_FAILURE() << "no tensor " << name;
  return 0;
}

std::string RandomState::ReferenceImage(proto::ImageKind kind) const {
  std::string image = layout::BuildImageHeader(layout, kind).value();
  for (const auto& entry : layout.tensors()) {
    if (!entry.alias_of().empty() || entry.image() != kind) {
      continue;
    }
    const std::size_t i = IndexOf(entry.name());
    std::vector<std::int64_t> steps = RowMajor(specs[i].local_shape);
    for (const auto& given : strides) {
      if (given.spec == i) {
        steps = given.strides;
      }
    }
    image += PlainGather(static_cast<const std::byte*>(pointers[i]),
                         specs[i].local_shape,
                         steps,
                         SizeOf(specs[i].dtype));
  }
  EXPECT_EQ(image.size(), layout::ImageBytes(layout, kind));
  return image;
}

RandomState MakeRandomState(std::uint64_t seed, const StateShape& shape) {
  std::mt19937_64 random(seed);
  RandomState state;
  for (int i = 0; i < shape.tensors; ++i) {
    const auto dtype = kTypes[random() % std::size(kTypes)];
    layout::Shape dims(random() % 5);
    std::uint64_t room = 1 + random() % shape.max_elements;
    for (auto& dim : dims) {
      dim = 1 + random() % std::max<std::uint64_t>(1, std::min<std::uint64_t>(room, 3000));
      room = std::max<std::uint64_t>(1, room / dim);
    }
    if (!dims.empty() && random() % 8 == 0) {
      dims[random() % dims.size()] = 0;
    }
    auto spec = Spec("t" + std::to_string(i), dtype, dims);
    if (shape.staged && random() % 3 == 0) {
      spec.tensor_class = proto::STAGED;
    }
    std::uint64_t extent = Product(dims);
    if (shape.strided && extent > 0 && random() % 2 == 0) {
      // A permuted array whose steps are stretched or, sometimes, repeated.
      std::vector<std::int64_t> strides = RowMajor(dims);
      const auto stretch = static_cast<std::int64_t>(1 + random() % 3);
      for (std::size_t d = 0; d < dims.size(); ++d) {
        strides[d] = random() % 6 == 0 ? 0 : strides[d] * stretch;
      }
      if (dims.size() >= 2 && random() % 2 == 0) {
        std::swap(dims[0], dims[dims.size() - 1]);
        std::swap(strides[0], strides[dims.size() - 1]);
        spec.global_shape = spec.local_shape = dims;
      }
      extent = Extent(dims, strides);
      state.strides.push_back(TensorStrides{static_cast<std::size_t>(i), strides});
    }
    state.specs.push_back(spec);
    AddMemory(&state, &random, extent * SizeOf(dtype), shape.unaligned);
  }
  if (shape.staged) {
    auto alias = state.specs[0];
    alias.name = "tied";
    alias.alias_of = state.specs[0].name;
    state.specs.push_back(alias);
    state.memory.emplace_back();
    state.pointers.push_back(nullptr);
  }
  Finish(&state);
  return state;
}

RandomState MakePlainState(const std::vector<std::pair<std::string, std::uint64_t>>& tensors) {
  std::mt19937_64 random(7);
  RandomState state;
  for (const auto& [name, elements] : tensors) {
    state.specs.push_back(Spec(name, proto::F32, {elements}));
    AddMemory(&state, &random, elements * 4, false);
  }
  Finish(&state);
  return state;
}

std::shared_ptr<SlotMapping> MakeSlot(const proto::Layout& layout, proto::ImageKind kind) {
  transport::OwnedFd fd(::memfd_create("slot", MFD_CLOEXEC));
  const ByteCount bytes = layout::ImageBytes(layout, kind);
  EXPECT_EQ(::ftruncate(fd.Get(), static_cast<off_t>(bytes)), 0);
  auto slot = SlotMapping::Map(std::move(fd), bytes).value();
  const std::string header = layout::BuildImageHeader(layout, kind).value();
  std::memcpy(slot->Data(), header.data(), header.size());
  return slot;
}

std::string BytesOf(const SlotMapping& slot) {
  return {reinterpret_cast<const char*>(slot.Data()), static_cast<std::size_t>(slot.Size())};
}

}  // namespace holdfast::client
