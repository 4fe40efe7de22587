// One training on the simulated runtime, whose orders (streams, copy thread, workers, host ahead of
// the device or not) and shape (devices, tensors, windows, checks) follow from a seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace holdfast::client {

// Eight steps as a training does them, each with a snapshot if the engine takes one.  All that is
// wrong with them, one line each: a snapshot that failed or was called torn though nobody broke a
// rule, bytes or digests that are not the state at their step (I7), misuse of the runtime, anything
// left behind (I12).  Resets the simulated runtime first.
[[nodiscard]] std::vector<std::string> ExploreSeed(std::uint64_t seed);

}  // namespace holdfast::client
