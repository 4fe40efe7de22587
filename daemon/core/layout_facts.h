// What the core knows of a layout.
//
// Threads: a value.
#pragma once

#include <cstdint>
#include <string>

namespace holdfast::daemon {

// A layout that a register request brought, or the catalog has, reduced to what the core decides
// by. The session layer has validated the layout and computed the hashes; the runtime keeps the
// layout itself under its hash.
struct LayoutFacts {
  std::string hash;
  std::uint64_t image_bytes = 0;   // of the dynamic image
  std::string static_hash;         // empty: there is no static image
  std::uint64_t static_bytes = 0;  // of it
};

}  // namespace holdfast::daemon
