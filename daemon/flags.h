// The command line of holdfastd.
//
// Parsed by hand: ten flags need no library, and the daemon starts on machines that hold nothing.
//
// Threads:   pure; any thread.
// Errors:    kInvalidArgument names the flag and what is accepted.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"

namespace holdfast::daemon {

struct Flags {
  std::string config_file;  // empty: none given
  bool user = false;        // defaults for this user, no system configuration
  bool check_config = false;
  bool discard_arena = false;
  bool version = false;
  bool help = false;
  bool print_metrics_doc = false;
  bool print_config_doc = false;
  // Keys of the configuration that flags set, in the notation of the file.
  std::vector<std::pair<std::string, std::string>> values;
};

// "--flag VALUE" and "--flag=VALUE".  Nothing but flags is accepted.
[[nodiscard]] Result<Flags> ParseFlags(const std::vector<std::string_view>& arguments);

[[nodiscard]] std::string_view UsageText();

}  // namespace holdfast::daemon
