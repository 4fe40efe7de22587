// Functions of the runtime on streams and events, and kernels.
#include <algorithm>
#include <utility>

#include "tests/support/cuda_sim/call.h"

namespace holdfast::cuda_sim {
namespace {

constexpr int kGreatestPriority = -5;

cudaError_t CreateStream(const char* function, cudaStream_t* out, unsigned flags, int priority) {
  State& state = TheState();
  Call call(state, function);
  if (!call.ok()) {
    return call.error();
  }
  if (out == nullptr || (flags & ~unsigned{cudaStreamNonBlocking}) != 0) {
    return call.Return(cudaErrorInvalidValue);
  }
  std::unique_ptr<Stream> stream = NewStream(state, call.thread().device, flags);
  stream->priority = std::clamp(priority, kGreatestPriority, 0);
  *out = PointerOf<cudaStream_t>(stream->handle);
  state.streams[stream->handle] = std::move(stream);
  return call.Return(cudaSuccess);
}

cudaError_t CreateEvent(const char* function, cudaEvent_t* out, unsigned flags) {
  State& state = TheState();
  Call call(state, function);
  if (!call.ok()) {
    return call.error();
  }
  constexpr unsigned kKnown =
      cudaEventBlockingSync | cudaEventDisableTiming | cudaEventInterprocess;
  if (out == nullptr || (flags & ~kKnown) != 0) {
    return call.Return(cudaErrorInvalidValue);
  }
  const std::uintptr_t handle = std::exchange(state.next_handle, state.next_handle + 16);
  state.events[handle].device = call.thread().device;
  state.events[handle].timing = (flags & cudaEventDisableTiming) == 0;
  *out = PointerOf<cudaEvent_t>(handle);
  return call.Return(cudaSuccess);
}

Event* FindEvent(State& state, cudaEvent_t handle, const char* function) HF_REQUIRES(state.mutex) {
  const auto found = state.events.find(reinterpret_cast<std::uintptr_t>(handle));
  if (found != state.events.end()) {
    return &found->second;
  }
  AddViolation(state, std::string(function) + ": an event that was destroyed or never made");
  return nullptr;
}

cudaError_t StickyOf(State& state, int device) HF_REQUIRES(state.mutex) {
  return state.devices[static_cast<std::size_t>(device)].sticky;
}

// A body without copies: a kernel, a host function, a fault.
cudaError_t EnqueueBody(const char* function,
                        cudaStream_t handle,
                        const std::shared_ptr<Operation>& operation,
                        bool wanted) {
  State& state = TheState();
  Call call(state, function);
  if (!call.ok()) {
    return call.error();
  }
  Stream* stream = FindStream(state, handle, function);
  if (stream == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  bool captured = false;
  const cudaError_t error = CheckCapture(state, *stream, function, wanted, &captured);
  if (error == cudaSuccess && !captured) {
    Enqueue(state, *stream, operation);
    Settle(state, call.lock(), *stream);
  }
  return call.Return(error);
}

// An event that a capture recorded cannot be asked for; asking spoils the capture.
cudaError_t CapturedEvent(State& state, const char* function) HF_REQUIRES(state.mutex) {
  AddViolation(state, std::string(function) + ": an event that was captured into a graph");
  for (Stream* stream : AllStreams(state)) {
    Invalidate(*stream);
  }
  return cudaErrorCapturedEvent;
}

cudaError_t RecordEvent(const char* function,
                        cudaEvent_t event_handle,
                        cudaStream_t stream_handle) {
  State& state = TheState();
  Call call(state, function);
  if (!call.ok()) {
    return call.error();
  }
  Event* event = FindEvent(state, event_handle, function);
  Stream* stream = FindStream(state, stream_handle, function);
  if (event == nullptr || stream == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  if (event->device != stream->device) {
    AddViolation(state, std::string(function) + ": event and stream of different devices");
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  bool captured = false;
  const cudaError_t error = CheckCapture(state, *stream, function, false, &captured);
  if (error != cudaSuccess) {
    return call.Return(error);
  }
  event->captured = captured;
  if (!captured) {
    event->recorded = std::make_shared<Operation>();
    Enqueue(state, *stream, event->recorded);
    Settle(state, call.lock(), *stream);
  }
  return call.Return(cudaSuccess);
}

// The stream becomes a part of the capture that recorded the event.
cudaError_t JoinCapture(State& state, Stream& stream, const char* function)
    HF_REQUIRES(state.mutex) {
  AddViolation(state, std::string(function) + ": a stream was drawn into a capture");
  if (stream.capture == cudaStreamCaptureStatusNone) {
    stream.capture = cudaStreamCaptureStatusActive;
    stream.joined_capture = true;
  }
  return cudaSuccess;
}

cudaError_t WaitForEvent(State& state, Stream& stream, const Event& event, const char* function)
    HF_REQUIRES(state.mutex) {
  if (event.captured) {
    return JoinCapture(state, stream, function);
  }
  if (stream.capture == cudaStreamCaptureStatusActive) {
    AddViolation(state, std::string(function) + ": a capture waits for an event outside of it");
    Invalidate(stream);
    return cudaErrorStreamCaptureIsolation;
  }
  bool captured = false;
  const cudaError_t error = CheckCapture(state, stream, function, false, &captured);
  if (error != cudaSuccess || !event.recorded) {
    return error;
  }
  auto wait = std::make_shared<Operation>();
  wait->after.push_back(event.recorded);
  Enqueue(state, stream, wait);
  return cudaSuccess;
}

}  // namespace

cudaError_t Launch(cudaStream_t stream, std::function<void()> kernel) {
  auto operation = std::make_shared<Operation>();
  operation->body = [kernel = std::move(kernel)](Random&) { kernel(); };
  return EnqueueBody("Launch", stream, operation, true);
}

cudaError_t FaultInStream(cudaStream_t stream, cudaError_t error) {
  auto operation = std::make_shared<Operation>();
  operation->fault = error;
  return EnqueueBody("FaultInStream", stream, operation, true);
}

}  // namespace holdfast::cuda_sim

using namespace holdfast::cuda_sim;  // NOLINT(google-build-using-namespace): CUDA's own names below

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return CreateStream("cudaStreamCreate", stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return CreateStream("cudaStreamCreateWithFlags", stream, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return CreateStream("cudaStreamCreateWithPriority", stream, flags, priority);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  State& state = TheState();
  Call call(state, "cudaDeviceGetStreamPriorityRange", kIgnoresSticky);
  if (!call.ok()) {
    return call.error();
  }
  if (least != nullptr) {
    *least = 0;
  }
  if (greatest != nullptr) {
    *greatest = kGreatestPriority;
  }
  return call.Return(cudaSuccess);
}

// What is queued is still carried out.
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  State& state = TheState();
  Call call(state, "cudaStreamDestroy", kGivesBack);
  if (!call.ok()) {
    return call.error();
  }
  const auto found = state.streams.find(reinterpret_cast<std::uintptr_t>(handle));
  if (found == state.streams.end()) {
    AddViolation(state, "cudaStreamDestroy: a stream that was destroyed or never made");
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  found->second->destroyed = true;
  found->second->changed.NotifyOne();
  state.retired.push_back(std::move(found->second));
  state.streams.erase(found);
  return call.Return(cudaSuccess);
}

cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
  State& state = TheState();
  Call call(state, "cudaStreamGetDevice");
  if (!call.ok()) {
    return call.error();
  }
  const Stream* stream = FindStream(state, handle, call.function());
  if (stream == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  *device = stream->device;
  return call.Return(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream_handle,
                                cudaEvent_t event_handle,
                                unsigned flags) {
  State& state = TheState();
  Call call(state, "cudaStreamWaitEvent");
  if (!call.ok()) {
    return call.error();
  }
  if ((flags & ~unsigned{cudaEventWaitExternal}) != 0) {
    return call.Return(cudaErrorInvalidValue);
  }
  const Event* event = FindEvent(state, event_handle, call.function());
  Stream* stream = FindStream(state, stream_handle, call.function());
  if (event == nullptr || stream == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  const cudaError_t error = WaitForEvent(state, *stream, *event, call.function());
  Settle(state, call.lock(), *stream);
  return call.Return(error);
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  State& state = TheState();
  Call call(state, "cudaStreamQuery", kUnsafeInCapture);
  if (!call.ok()) {
    return call.error();
  }
  const Stream* stream = FindStream(state, handle, call.function());
  if (stream == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  const cudaError_t sticky = StickyOf(state, stream->device);
  if (sticky != cudaSuccess) {
    return call.Return(sticky);
  }
  if (stream->last && !stream->last->done) {
    return call.Return(cudaErrorNotReady);
  }
  Await(state, call.lock(), stream->last);
  return call.Return(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  State& state = TheState();
  Call call(state, "cudaStreamSynchronize", kUnsafeInCapture);
  if (!call.ok()) {
    return call.error();
  }
  const Stream* stream = FindStream(state, handle, call.function());
  if (stream == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  const int device = stream->device;
  Await(state, call.lock(), stream->last);
  return call.Return(StickyOf(state, device));
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return CreateEvent("cudaEventCreate", event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return CreateEvent("cudaEventCreateWithFlags", event, flags);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  State& state = TheState();
  Call call(state, "cudaEventDestroy", kGivesBack);
  if (!call.ok()) {
    return call.error();
  }
  if (FindEvent(state, handle, call.function()) == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  state.events.erase(reinterpret_cast<std::uintptr_t>(handle));
  return call.Return(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return RecordEvent("cudaEventRecord", event, stream);
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return RecordEvent("cudaEventRecordWithFlags", event, stream);
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  State& state = TheState();
  Call call(state, "cudaEventQuery", kUnsafeInCapture);
  if (!call.ok()) {
    return call.error();
  }
  const Event* event = FindEvent(state, handle, call.function());
  if (event == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  if (event->captured) {
    return call.Return(CapturedEvent(state, call.function()));
  }
  const cudaError_t sticky = StickyOf(state, event->device);
  if (sticky != cudaSuccess) {
    return call.Return(sticky);
  }
  if (event->recorded && !event->recorded->done) {
    return call.Return(cudaErrorNotReady);
  }
  Await(state, call.lock(), event->recorded);
  return call.Return(cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  State& state = TheState();
  Call call(state, "cudaEventElapsedTime");
  if (!call.ok()) {
    return call.error();
  }
  const Event* first = FindEvent(state, from, call.function());
  const Event* second = FindEvent(state, to, call.function());
  if (first == nullptr || second == nullptr || !first->timing || !second->timing ||
      first->recorded == nullptr || second->recorded == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  if (!first->recorded->done || !second->recorded->done) {
    return call.Return(cudaErrorNotReady);
  }
  const std::chrono::duration<float, std::milli> between =
      second->recorded->done_at - first->recorded->done_at;
  *milliseconds = between.count();
  return call.Return(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  State& state = TheState();
  Call call(state, "cudaEventSynchronize", kUnsafeInCapture);
  if (!call.ok()) {
    return call.error();
  }
  const Event* event = FindEvent(state, handle, call.function());
  if (event == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  if (event->captured) {
    return call.Return(CapturedEvent(state, call.function()));
  }
  const int device = event->device;
  Await(state, call.lock(), event->recorded);
  return call.Return(StickyOf(state, device));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  auto operation = std::make_shared<Operation>();
  operation->body = [function, data](Random&) { function(data); };
  return EnqueueBody("cudaLaunchHostFunc", stream, operation, false);
}

}  // extern "C"
