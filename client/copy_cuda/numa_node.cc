#include "client/copy_cuda/numa_node.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>

#include "client/copy_cuda/runtime.h"
#include "client/copy_engine.h"

namespace holdfast::client {

std::int32_t NumaNodeOf(std::int32_t device, const std::string& sysfs) {
  const bool had_error = cudaPeekAtLastError() != cudaSuccess;  // the training's
  std::array<char, 32> text{};
  if (cudaDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), device) != cudaSuccess) {
    if (!had_error) {
      static_cast<void>(cudaGetLastError());
    }
    return kAnyNumaNode;
  }
  std::string bus_id = text.data();
  // The runtime writes it in capitals, sysfs does not.
  std::transform(bus_id.begin(), bus_id.end(), bus_id.begin(), [](unsigned char letter) {
    return static_cast<char>(std::tolower(letter));
  });
  std::ifstream file(sysfs + "/bus/pci/devices/" + bus_id + "/numa_node");
  std::int32_t node = kAnyNumaNode;
  return file >> node && node >= 0 ? node : kAnyNumaNode;
}

}  // namespace holdfast::client
