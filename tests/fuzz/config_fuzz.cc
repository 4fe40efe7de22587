// Any bytes as a configuration file: an error or a configuration that describes itself.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "daemon/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace holdfast::daemon;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Config config;
  if (ApplyToml(text, "fuzz.toml", &config).has_value()) {
    // What was accepted is in range: each key was checked when it was set.
    for (const ConfigKey& key : DescribeConfig(config)) {
      if (key.value.empty()) {
        std::abort();
      }
    }
    (void)ValidateConfig(config);
  }
  (void)ParseDuration(text);
  const auto path = NormalPath(text);
  if (path.has_value() && NormalPath(path.value()).value() != path.value()) {
    std::abort();
  }
  return 0;
}
