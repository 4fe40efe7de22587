#include "tests/support/cuda_link/probe.h"

extern "C" int ProbeDeviceCount(int* count) {
  return cudaGetDeviceCount(count);
}

extern "C" int ProbeAddOne(unsigned*, unsigned, cudaStream_t) {
  return cudaErrorNotSupported;
}
