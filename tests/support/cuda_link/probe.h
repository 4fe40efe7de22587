// A kernel in a shared library, to see that the build's link to CUDA works.
//
// Threads: any.  Errors: CUDA's own numbers.
#pragma once

#include <cuda_runtime_api.h>

extern "C" {

// cudaGetDeviceCount.
int ProbeDeviceCount(int* count);

// Adds one to each of `count` words of device memory, on `stream`.
int ProbeAddOne(unsigned* words, unsigned count, cudaStream_t stream);

}  // extern "C"
