// `holdfast verify`: what a look at every byte found.
//
// Threads: any thread; pure.
#pragma once

#include <string>
#include <vector>

#include "cli/exit_code.h"
#include "cli/source.h"

namespace holdfast::cli {

struct VerifyReport {
  std::vector<ShardVerdict> shards;
  std::vector<Problem> problems;  // of manifests, folders and records
  std::vector<Problem> absent;  // what was named and is not there: nothing is bad, nothing is good
};

// kOk, kDataBad where anything is bad or gone that should be there, else kRefused or kFailed where
// something could not be looked at, else kNotFound where something is absent.
[[nodiscard]] ExitCode VerifyExit(const VerifyReport& report);

// A line for each snapshot and place, then one for each bad shard with chunks and tensors.
[[nodiscard]] std::string VerifyText(const VerifyReport& report);
[[nodiscard]] std::string VerifyJson(const VerifyReport& report);

}  // namespace holdfast::cli
