// A trainer of two tensors through the C ABI: enough to see whether what was sealed comes back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "holdfast/client.h"

namespace holdfast::tests {

class TestTrainer {
 public:
  // "elements": of each tensor.
  explicit TestTrainer(std::size_t elements = 300'000);

  // Connects, takes an incarnation of "job" (world 1), and registers.  Empty: well; else the error.
  // "keep_last": durable snapshots that the root keeps.
  std::string Join(const std::string& socket,
                   const std::string& job,
                   const std::string& root = "",
                   std::uint32_t keep_last = 10);

  // Fills the tensors with what belongs to "step".
  void Train(std::int64_t step);

  // Begins a snapshot of the tensors as they are: true if it was, false if it is skipped.
  bool Begin(std::int64_t step);

  // Snapshot, fence, wait: true if it is sealed.
  bool SnapshotAndWait(std::int64_t step, std::uint32_t timeout_ms = 20'000);

  // Trains from "step" on until one is sealed and all is durable; that step, nothing on an error.
  std::optional<std::int64_t> TrainUntilDurable(std::int64_t step);

  // Restores until committed; the step, -1 if there is nothing, nothing on an error (error()).
  std::optional<std::int64_t> Restore(std::uint32_t timeout_ms = 30'000);

  // Whether the tensors hold what belongs to "step".
  [[nodiscard]] bool Holds(std::int64_t step) const;

  [[nodiscard]] const std::string& error() const { return error_; }

  [[nodiscard]] const std::string& source() const { return source_; }

  Client& client() { return client_; }

 private:
  bool Ok(const Outcome& outcome);

  Client client_;
  std::vector<float> weights_;
  std::vector<float> moments_;
  std::vector<float> base_;  // frozen
  std::string error_;
  std::string source_;
};

}  // namespace holdfast::tests
