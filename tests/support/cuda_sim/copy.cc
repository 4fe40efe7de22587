// Copies: how each kind of memory takes part, and how they land.
#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/support/cuda_sim/call.h"
#include "tests/support/cuda_sim/delay.h"
#include "tests/support/cuda_sim/memory.h"

namespace holdfast::cuda_sim {
namespace {

// Up to this size a pageable source is copied away before the call returns; a larger one is sent
// through buffers while the caller waits.
constexpr std::size_t kStagedAtOnce = std::size_t{64} << 10;
constexpr std::uint64_t kMostPieces = 8;
constexpr std::size_t kManyCopies = 64;  // so many are pieces enough

using Staging = std::vector<std::unique_ptr<char[]>>;

struct Plan {
  std::vector<Copy> copies;
  std::vector<Range> sources;
  std::vector<Range> targets;
  std::shared_ptr<Staging> staging = std::make_shared<Staging>();
  bool wait = false;  // the call returns when they have landed
  bool to_pinned = false;
};

bool IsHost(const Place& place) {
  return place.kind != Place::Kind::kDevice;
}

bool Agrees(cudaMemcpyKind kind, const Place& to, const Place& from) {
  switch (kind) {
    case cudaMemcpyHostToHost:
      return IsHost(to) && IsHost(from);
    case cudaMemcpyHostToDevice:
      return !IsHost(to) && IsHost(from);
    case cudaMemcpyDeviceToHost:
      return IsHost(to) && !IsHost(from);
    case cudaMemcpyDeviceToDevice:
      return !IsHost(to) && !IsHost(from);
    default:
      return true;
  }
}

const char* Stage(Plan& plan, const char* from, std::size_t bytes) {
  plan.staging->push_back(std::make_unique<char[]>(bytes));
  const Loud loud;
  std::memcpy(plan.staging->back().get(), from, bytes);
  return plan.staging->back().get();
}

bool ReadEarly(State& state,
               const Place& to,
               const Place& from,
               std::size_t bytes,
               cudaMemcpySrcAccessOrder order) HF_REQUIRES(state.mutex) {
  if (order == cudaMemcpySrcAccessOrderDuringApiCall) {
    return true;
  }
  if (order == cudaMemcpySrcAccessOrderAny && state.random.Below(2) == 0) {
    return true;
  }
  return from.kind == Place::Kind::kPageable && !IsHost(to) && bytes <= kStagedAtOnce;
}

cudaError_t AddCopy(State& state,
                    const char* function,
                    void* target,
                    const void* source,
                    std::size_t bytes,
                    cudaMemcpyKind kind,
                    cudaMemcpySrcAccessOrder order,
                    Plan& plan) HF_REQUIRES(state.mutex) {
  Place to;
  Place from;
  cudaError_t error = Resolve(state, target, bytes, function, &to);
  if (error == cudaSuccess) {
    error = Resolve(state, source, bytes, function, &from);
  }
  if (error != cudaSuccess) {
    return error;
  }
  // The caller knows which memory he means.
  if (to.either && (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyHostToHost)) {
    to.kind = Place::Kind::kPageable;
  }
  if (from.either && (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyHostToHost)) {
    from.kind = Place::Kind::kPageable;
  }
  if (!Agrees(kind, to, from)) {
    return cudaErrorInvalidValue;
  }
  if (to.read_only) {
    AddViolation(state, std::string(function) + " to memory registered as read-only");
    return cudaErrorInvalidValue;
  }
  Copy copy{to.address, from.address, bytes};
  if (ReadEarly(state, to, from, bytes, order)) {
    copy.from = Stage(plan, from.address, bytes);
  } else {
    plan.sources.push_back(from.range);
    if (from.kind == Place::Kind::kPageable) {
      plan.wait = true;
    }
  }
  if (to.kind == Place::Kind::kPageable || (IsHost(to) && IsHost(from))) {
    plan.wait = true;
  }
  plan.to_pinned = to.kind == Place::Kind::kPinned;
  plan.targets.push_back(to.range);
  plan.copies.push_back(copy);
  return cudaSuccess;
}

std::vector<Copy> Pieces(const std::vector<Copy>& copies, Random& random) {
  const std::uint64_t most = copies.size() > kManyCopies ? 2 : kMostPieces;
  std::vector<Copy> pieces;
  for (const Copy& copy : copies) {
    const std::size_t count = 1 + random.Below(std::min<std::uint64_t>(most, copy.bytes));
    std::size_t begin = 0;
    for (std::size_t i = 1; i <= count; ++i) {
      const std::size_t left = copy.bytes - begin;
      const std::size_t bytes = i == count ? left : random.Below(left + 1);
      pieces.push_back({copy.to + begin, copy.from + begin, bytes});
      begin += bytes;
    }
  }
  for (std::size_t i = pieces.size(); i > 1; --i) {
    std::swap(pieces[i - 1], pieces[random.Below(i)]);
  }
  return pieces;
}

void Land(const std::vector<Copy>& copies, Random& random, std::chrono::microseconds max_delay) {
  for (const Copy& piece : Pieces(copies, random)) {
    std::memcpy(piece.to, piece.from, piece.bytes);
    if (random.Below(4) == 0) {
      Delay(random, max_delay);
    }
  }
}

void Issue(State& state, Call& call, Stream& stream, Plan plan) HF_REQUIRES(state.mutex) {
  auto operation = std::make_shared<Operation>();
  operation->copies = plan.copies;
  operation->to_pinned = plan.to_pinned;
  operation->uses = std::move(plan.sources);
  operation->uses.insert(operation->uses.end(), plan.targets.begin(), plan.targets.end());
  operation->body = [copies = std::move(plan.copies),
                     staging = std::move(plan.staging),
                     max_delay = state.options.max_delay](Random& random) {
    Land(copies, random, max_delay);
  };
  Enqueue(state, stream, operation);
  if (plan.wait) {
    Await(state, call.lock(), operation);
  }
  Settle(state, call.lock(), stream);
}

bool HasDependentCopies(const Plan& plan) {
  std::vector<Range> targets = plan.targets;
  const auto by_begin = [](const Range& a, const Range& b) { return a.begin < b.begin; };
  std::sort(targets.begin(), targets.end(), by_begin);
  for (std::size_t i = 1; i < targets.size(); ++i) {
    if (targets[i - 1].Overlaps(targets[i])) {
      return true;
    }
  }
  // The targets are apart from each other, so only the last that begins before a source's end can
  // reach into it.
  return std::any_of(plan.sources.begin(), plan.sources.end(), [&](const Range& source) {
    const auto after =
        std::lower_bound(targets.begin(), targets.end(), Range{source.end, source.end}, by_begin);
    return after != targets.begin() && std::prev(after)->Overlaps(source);
  });
}

// CUDA does not wait for such a copy, though the function's name has no Async.
bool BetweenDevices(const void* target, const void* source) {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  return FindAllocation(state, reinterpret_cast<std::uintptr_t>(target)) != nullptr &&
         FindAllocation(state, reinterpret_cast<std::uintptr_t>(source)) != nullptr;
}

struct Batch {
  void* const* targets = nullptr;
  const void* const* sources = nullptr;
  const std::size_t* sizes = nullptr;
  std::size_t count = 0;
  const cudaMemcpyAttributes* attributes = nullptr;
  const std::size_t* first = nullptr;  // copy that an attribute holds for
  std::size_t attribute_count = 0;
};

bool IsValid(const Batch& batch) {
  if (batch.count == 0 || batch.targets == nullptr || batch.sources == nullptr ||
      batch.sizes == nullptr || batch.attributes == nullptr || batch.first == nullptr ||
      batch.attribute_count == 0 || batch.attribute_count > batch.count || batch.first[0] != 0) {
    return false;
  }
  for (std::size_t i = 0; i < batch.attribute_count; ++i) {
    const cudaMemcpySrcAccessOrder order = batch.attributes[i].srcAccessOrder;
    if (order < cudaMemcpySrcAccessOrderStream || order > cudaMemcpySrcAccessOrderAny) {
      return false;
    }
    if (batch.first[i] >= batch.count || (i > 0 && batch.first[i] <= batch.first[i - 1])) {
      return false;
    }
  }
  return std::all_of(
      batch.sizes, batch.sizes + batch.count, [](std::size_t bytes) { return bytes != 0; });
}

cudaError_t PlanBatch(State& state, const char* function, const Batch& batch, Plan& plan)
    HF_REQUIRES(state.mutex) {
  if (!IsValid(batch)) {
    return cudaErrorInvalidValue;
  }
  std::size_t attribute = 0;
  for (std::size_t i = 0; i < batch.count; ++i) {
    while (attribute + 1 < batch.attribute_count && batch.first[attribute + 1] <= i) {
      ++attribute;
    }
    const cudaError_t error = AddCopy(state,
                                      function,
                                      batch.targets[i],
                                      batch.sources[i],
                                      batch.sizes[i],
                                      cudaMemcpyDefault,
                                      batch.attributes[attribute].srcAccessOrder,
                                      plan);
    if (error != cudaSuccess) {
      return error;
    }
  }
  if (HasDependentCopies(plan)) {
    AddViolation(state, std::string(function) + ": copies of one batch depend on each other");
  }
  return cudaSuccess;
}

}  // namespace
}  // namespace holdfast::cuda_sim

using namespace holdfast::cuda_sim;  // NOLINT(google-build-using-namespace): CUDA's own names below

extern "C" {

cudaError_t cudaMemcpyAsync(
    void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t handle) {
  State& state = TheState();
  Call call(state, "cudaMemcpyAsync");
  if (!call.ok()) {
    return call.error();
  }
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) {
    return call.Return(cudaErrorInvalidMemcpyDirection);
  }
  Stream* stream = FindStream(state, handle, call.function());
  if (stream == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  bool captured = false;
  cudaError_t error = CheckCapture(state, *stream, call.function(), false, &captured);
  if (error != cudaSuccess || captured || bytes == 0) {
    return call.Return(error);
  }
  Plan plan;
  error = AddCopy(
      state, call.function(), target, source, bytes, kind, cudaMemcpySrcAccessOrderStream, plan);
  if (error == cudaSuccess && HasDependentCopies(plan)) {
    AddViolation(state, "cudaMemcpyAsync: source and target overlap");
    error = cudaErrorInvalidValue;
  }
  if (error == cudaSuccess) {
    Issue(state, call, *stream, std::move(plan));
  }
  return call.Return(error);
}

cudaError_t cudaMemcpy(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t error = cudaMemcpyAsync(target, source, bytes, kind, nullptr);
  return error != cudaSuccess || BetweenDevices(target, source) ? error
                                                                : cudaStreamSynchronize(nullptr);
}

cudaError_t cudaMemcpyBatchAsync(void* const* targets,
                                 const void* const* sources,
                                 const std::size_t* sizes,
                                 std::size_t count,
                                 cudaMemcpyAttributes* attributes,
                                 std::size_t* first,
                                 std::size_t attribute_count,
                                 cudaStream_t handle) {
  State& state = TheState();
  Call call(state, "cudaMemcpyBatchAsync");
  if (!call.ok()) {
    return call.error();
  }
  if (handle == nullptr || handle == cudaStreamLegacy) {
    return call.Return(cudaErrorInvalidValue);
  }
  Stream* stream = FindStream(state, handle, call.function());
  if (stream == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  bool captured = false;
  cudaError_t error = CheckCapture(state, *stream, call.function(), false, &captured);
  if (error != cudaSuccess || captured) {
    return call.Return(error);
  }
  Plan plan;
  error = PlanBatch(state,
                    call.function(),
                    {targets, sources, sizes, count, attributes, first, attribute_count},
                    plan);
  if (error == cudaSuccess) {
    Issue(state, call, *stream, std::move(plan));
  }
  return call.Return(error);
}

cudaError_t cudaMemsetAsync(void* target, int value, std::size_t bytes, cudaStream_t handle) {
  State& state = TheState();
  Call call(state, "cudaMemsetAsync");
  if (!call.ok()) {
    return call.error();
  }
  Stream* stream = FindStream(state, handle, call.function());
  if (stream == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  bool captured = false;
  cudaError_t error = CheckCapture(state, *stream, call.function(), false, &captured);
  if (error != cudaSuccess || captured || bytes == 0) {
    return call.Return(error);
  }
  Place to;
  error = Resolve(state, target, bytes, call.function(), &to);
  if (error == cudaSuccess && to.kind == Place::Kind::kPageable) {
    error = cudaErrorInvalidValue;
  }
  if (error != cudaSuccess) {
    return call.Return(error);
  }
  auto operation = std::make_shared<Operation>();
  operation->uses.push_back(to.range);
  operation->body = [to, value, bytes](Random&) { std::memset(to.address, value, bytes); };
  Enqueue(state, *stream, operation);
  Settle(state, call.lock(), *stream);
  return call.Return(cudaSuccess);
}

}  // extern "C"
