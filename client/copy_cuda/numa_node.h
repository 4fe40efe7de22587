// The NUMA node next to a GPU, as the kernel knows it.
//
// Threads:   any; does not change the current device.
// Errors:    none: where it is not known (one node, a virtual machine, no sysfs) it is -1.
#pragma once

#include <cstdint>
#include <string>

namespace holdfast::client {

// "sysfs": where that is mounted.
[[nodiscard]] std::int32_t NumaNodeOf(std::int32_t device, const std::string& sysfs = "/sys");

}  // namespace holdfast::client
