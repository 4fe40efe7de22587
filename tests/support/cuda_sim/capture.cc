// Captures into graphs: only what an accident with one looks like; no graph is made.
#include "tests/support/cuda_sim/call.h"

namespace holdfast::cuda_sim {
namespace {

bool Capturing(const Stream& stream) {
  return stream.capture == cudaStreamCaptureStatusActive;
}

// A capture that prohibits unsafe calls of this thread.
bool Prohibits(const Stream& stream, cudaStreamCaptureMode mode) {
  if (!Capturing(stream) || mode == cudaStreamCaptureModeRelaxed) {
    return false;
  }
  if (stream.capture_mode == cudaStreamCaptureModeRelaxed) {
    return false;
  }
  const bool own = stream.capture_thread == std::this_thread::get_id();
  return own || (mode == cudaStreamCaptureModeGlobal &&
                 stream.capture_mode == cudaStreamCaptureModeGlobal);
}

// The legacy stream waits for all blocking streams, which a capture cannot.
cudaError_t CheckLegacy(State& state, const Stream& stream, const char* function)
    HF_REQUIRES(state.mutex) {
  for (Stream* other : AllStreams(state)) {
    const bool blocking = (other->flags & cudaStreamNonBlocking) == 0;
    if (other->device == stream.device && blocking && Capturing(*other)) {
      AddViolation(state, std::string(function) + ": the legacy stream beside a capture");
      Invalidate(*other);
      return cudaErrorStreamCaptureImplicit;
    }
  }
  return cudaSuccess;
}

}  // namespace

void Invalidate(Stream& stream) {
  if (Capturing(stream)) {
    stream.capture = cudaStreamCaptureStatusInvalidated;
  }
}

cudaError_t CheckCapture(
    State& state, Stream& stream, const char* function, bool wanted, bool* captured) {
  *captured = false;
  if (stream.legacy) {
    return CheckLegacy(state, stream, function);
  }
  if (stream.capture == cudaStreamCaptureStatusInvalidated) {
    return cudaErrorStreamCaptureInvalidated;
  }
  if (!Capturing(stream)) {
    return cudaSuccess;
  }
  *captured = true;
  if (!wanted) {
    AddViolation(state, std::string(function) + " was captured into a graph");
  }
  return cudaSuccess;
}

cudaError_t CheckUnsafe(State& state, const char* function) {
  const cudaStreamCaptureMode mode = ThreadState::Of(state).capture_mode;
  cudaError_t error = cudaSuccess;
  for (Stream* stream : AllStreams(state)) {
    if (!Prohibits(*stream, mode)) {
      continue;
    }
    AddViolation(state, std::string(function) + " during a capture, which it ends");
    Invalidate(*stream);
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

void BeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  Stream* stream = FindStream(state, handle, "BeginCapture");
  if (stream == nullptr) {
    return;
  }
  stream->capture = cudaStreamCaptureStatusActive;
  stream->capture_mode = mode;
  stream->capture_thread = std::this_thread::get_id();
}

cudaError_t EndCapture(cudaStream_t handle) {
  State& state = TheState();
  const Quiet quiet;
  const MutexLock lock(state.mutex);
  Stream* stream = FindStream(state, handle, "EndCapture");
  if (stream == nullptr) {
    return cudaErrorInvalidResourceHandle;
  }
  cudaError_t error = cudaSuccess;
  if (stream->capture == cudaStreamCaptureStatusInvalidated) {
    error = cudaErrorStreamCaptureInvalidated;
  }
  stream->capture = cudaStreamCaptureStatusNone;
  for (Stream* other : AllStreams(state)) {
    if (!other->joined_capture) {
      continue;
    }
    other->joined_capture = false;
    other->capture = cudaStreamCaptureStatusNone;
    if (error == cudaSuccess) {
      error = cudaErrorStreamCaptureUnjoined;
    }
  }
  return error;
}

}  // namespace holdfast::cuda_sim

using namespace holdfast::cuda_sim;  // NOLINT(google-build-using-namespace): CUDA's own names below

extern "C" {

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  State& state = TheState();
  Call call(state, "cudaStreamIsCapturing");
  if (!call.ok()) {
    return call.error();
  }
  if (status == nullptr) {
    return call.Return(cudaErrorInvalidValue);
  }
  const Stream* stream = FindStream(state, handle, call.function());
  if (stream == nullptr) {
    return call.Return(cudaErrorInvalidResourceHandle);
  }
  if (stream->legacy) {
    for (const Stream* other : AllStreams(state)) {
      if ((other->flags & cudaStreamNonBlocking) == 0 && Capturing(*other)) {
        return call.Return(cudaErrorStreamCaptureImplicit);
      }
    }
  }
  *status = stream->capture;
  return call.Return(cudaSuccess);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  State& state = TheState();
  Call call(state, "cudaThreadExchangeStreamCaptureMode", kIgnoresSticky);
  if (!call.ok()) {
    return call.error();
  }
  std::swap(*mode, call.thread().capture_mode);
  return call.Return(cudaSuccess);
}

}  // extern "C"
