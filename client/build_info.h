// What this build is, as `holdfast --version` says it.
//
// Threads: any thread; pure functions.
#pragma once

#include <string>

namespace holdfast::client {

// The copy engines that this build's libholdfast has: "host", "host, cuda 13.0".
[[nodiscard]] std::string CopyEngines();

// The version, then a line "name: value" for each part in which builds or machines differ.
[[nodiscard]] std::string DescribeBuild();

}  // namespace holdfast::client
