// Where a command prints, and how it asks.
//
// Results go to "out", everything else to "err", so that `holdfast ls --json | jq` sees JSON and
// nothing but JSON.  Tests give string streams.
//
// Threads:   one thread.
// Ownership: borrows the streams.
#pragma once

#include <istream>
#include <ostream>
#include <string_view>

#include "cli/exit_code.h"
#include "common/error.h"

namespace holdfast::cli {

struct Console {
  std::ostream& out;
  std::ostream& err;
  std::istream& in;
  bool in_is_terminal = false;
  bool err_is_terminal = false;
  bool json = false;

  // Says what went wrong: "holdfast: <message>" on err and, with --json, {"error": …} on out, so
  // that a script always gets one document.  Returns the exit for the code, or "exit" if given.
  [[nodiscard]] ExitCode Fail(const Error& error) const;
  [[nodiscard]] ExitCode Fail(const Error& error, ExitCode exit) const;

  // A remark that is no result.
  void Note(std::string_view text) const;

  // Asks on a terminal; "y" or "yes" is true, all else (also the end of the input) is false.
  // Without a terminal nobody can answer: false, and the question is not printed.
  [[nodiscard]] bool Confirm(std::string_view question) const;
};

}  // namespace holdfast::cli
