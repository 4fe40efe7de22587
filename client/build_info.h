// What this build is, as `holdfast --version` says it.
//
// Threads: any thread; pure functions.
#pragma once

#include <string>

namespace holdfast::client {

// The copy engines that this build's libholdfast has: "host, cuda 13.0", "host (CPU only)".
[[nodiscard]] std::string CopyEngines();

// Those of a build with that CUDA runtime; empty: without any.
[[nodiscard]] std::string CopyEnginesOf(const std::string& cuda_version, bool device_code);

// The version, then a line "name: value" for each part in which builds or machines differ.
[[nodiscard]] std::string DescribeBuild();

}  // namespace holdfast::client
