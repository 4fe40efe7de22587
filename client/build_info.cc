#include "client/build_info.h"

#include "client/version.h"

namespace holdfast::client {

std::string CopyEngines() {
  // Of client/BUILD.bazel.
  return CopyEnginesOf(HOLDFAST_CUDA_VERSION, HOLDFAST_DEVICE_CODE != 0);
}

std::string CopyEnginesOf(const std::string& cuda_version, bool device_code) {
  if (cuda_version.empty()) {
    return "host (CPU only)";
  }
  return "host, cuda " + cuda_version + (device_code ? "" : " without device code");
}

std::string DescribeBuild() {
  return std::string(kVersion) + "\ncopy engines: " + CopyEngines();
}

}  // namespace holdfast::client
