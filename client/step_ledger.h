// What became of each step: the memory behind hf_wait_sealed.
//
// Threads:   none of its own; guarded by its owner's lock.
// Ownership: values; bounded: steps whose end is known are forgotten from the oldest on, a step
// that
//            is still open never is (there are at most as many as slots).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace holdfast::client {

enum class StepState {
  kCopying,
  kSealing,  // copied; the daemon has not said yet that it is on record
  kSealed,
  kGivenUp,  // skipped, torn, failed, refused or abandoned; never comes back
};

class StepLedger {
 public:
  static constexpr std::size_t kKept = 256;

  struct Entry {
    StepState state = StepState::kCopying;
    std::string reason;  // of kGivenUp
  };

  // A state that is final stays, but for kSealed, which may still be given up (abandoned later).
  void Set(std::int64_t step, StepState state, std::string reason = "");

  [[nodiscard]] std::optional<Entry> Find(std::int64_t step) const;

  // Whether a step up to "step" is neither sealed nor given up.
  [[nodiscard]] bool OpenUpTo(std::int64_t step) const;

 private:
  std::map<std::int64_t, Entry> entries_;
};

}  // namespace holdfast::client
