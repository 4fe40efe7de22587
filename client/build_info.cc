#include "client/build_info.h"

#include "client/version.h"

namespace holdfast::client {

std::string CopyEngines() {
  const std::string cuda = HOLDFAST_CUDA_VERSION;  // of client/BUILD.bazel, like the other
  if (cuda.empty()) {
    return "host";
  }
  return "host, cuda " + cuda + (HOLDFAST_DEVICE_CODE ? "" : " without device code");
}

std::string DescribeBuild() {
  return std::string(kVersion) + "\ncopy engines: " + CopyEngines();
}

}  // namespace holdfast::client
