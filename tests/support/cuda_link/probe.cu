#include "tests/support/cuda_link/probe.h"

__global__ void AddOne(unsigned* words, unsigned count) {
  const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < count)
    words[at] += 1;
}

extern "C" int ProbeDeviceCount(int* count) {
  return cudaGetDeviceCount(count);
}

extern "C" int ProbeAddOne(unsigned* words, unsigned count, cudaStream_t stream) {
  AddOne<<<(count + 255) / 256, 256, 0, stream>>>(words, count);
  return cudaGetLastError();
}
