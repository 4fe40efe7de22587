// States of a trainer made up at random, with a plain reference of the image that they must become.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "client/copy_engine.h"
#include "client/copy_plan.h"
#include "layout/image.h"

namespace holdfast::client {

struct RandomState {
  std::vector<layout::TensorSpec> specs;
  std::vector<std::vector<std::byte>> memory;  // behind each spec, with room to be unaligned
  std::vector<const void*> pointers;
  std::vector<TensorStrides> strides;
  proto::Layout layout;
  std::string hash;

  // Where tensor i starts, writable.
  std::byte* Tensor(std::size_t i) {
    return const_cast<std::byte*>(static_cast<const std::byte*>(pointers[i]));
  }

  std::size_t IndexOf(const std::string& name) const;

  // What a snapshot of the state now must be, made element by element.
  std::string ReferenceImage(proto::ImageKind kind = proto::DYNAMIC) const;
};

struct StateShape {
  int tensors = 20;
  std::uint64_t max_elements = 60'000;
  bool strided = true;  // transposed, sliced and expanded views too
  bool staged = true;   // STAGED tensors and aliases too
  bool unaligned = true;
};

// Deterministic in "seed".
RandomState MakeRandomState(std::uint64_t seed, const StateShape& shape);

// One contiguous F32 tensor of each name, STABLE.
RandomState MakePlainState(const std::vector<std::pair<std::string, std::uint64_t>>& tensors);

// Memory for a slot, with the image's header at its start.
std::shared_ptr<SlotMapping> MakeSlot(const proto::Layout& layout,
                                      proto::ImageKind kind = proto::DYNAMIC);

std::string BytesOf(const SlotMapping& slot);

}  // namespace holdfast::client
