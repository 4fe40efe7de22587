// libholdfast.so on the simulated runtime, for programs that have no GPU: their state, in memory of
// the host, counts as a device's.
#include <cstdint>
#include <string>

#include "tests/support/cuda_sim/cuda_sim.h"

namespace {

const bool kReady = [] {
  holdfast::cuda_sim::Options options;
  options.devices = 2;
  options.host_is_device = true;
  holdfast::cuda_sim::Reset(options);
  return true;
}();

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): names of a C library
extern "C" {

__attribute__((visibility("default"))) void hf_sim_hold_copies(int held) {
  holdfast::cuda_sim::HoldCopiesToHost(held != 0);
}

// See DieWithCopiesLanding.
__attribute__((visibility("default"))) void hf_sim_die(std::uint32_t delay_ms) {
  holdfast::cuda_sim::DieWithCopiesLanding(std::chrono::milliseconds(delay_ms));
}

// See FailCall.
__attribute__((visibility("default"))) void hf_sim_fail(const char* function, int nth, int error) {
  holdfast::cuda_sim::FailCall(function, nth, static_cast<cudaError_t>(error));
}

// How often a function of the runtime was called.
__attribute__((visibility("default"))) int hf_sim_calls(const char* function) {
  return holdfast::cuda_sim::CallCount(function);
}

// What was done wrong, a line each; lives until the next call.
__attribute__((visibility("default"))) const char* hf_sim_violations() {
  static std::string text;
  text.clear();
  for (const std::string& violation : holdfast::cuda_sim::Violations()) {
    text += violation + "\n";
  }
  return text.c_str();
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
