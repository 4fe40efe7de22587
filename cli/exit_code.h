// What the program's exit says to a script.  Documented in docs/operations.md; a number never
// changes its meaning.
//
// Threads: any thread; pure.
#pragma once

#include "common/error.h"

namespace holdfast::cli {

enum class ExitCode : int {
  kOk = 0,
  kFailed = 1,         // anything without a number of its own
  kUsage = 2,          // the command line (or a checked config file) is wrong
  kDataBad = 3,        // bytes do not match their digests, or a file cannot be what it claims
  kNoDaemon = 4,       // no daemon answers
  kRefused = 5,        // permission, live job, would overwrite, last durable snapshot
  kNotFound = 6,       // no such job, snapshot, rank or folder
  kIncomplete = 7,     // not every node of the cluster answered; what the others said is printed
  kInterrupted = 130,  // Ctrl-C, as shells count it
};

// The exit for an error that reached the user.  kUnavailable is kFailed here: only who failed to
// connect knows that it means kNoDaemon (a daemon that answers may also say "not now").
[[nodiscard]] ExitCode ExitCodeOf(Errc code);

}  // namespace holdfast::cli
