// The command line: flags and their help, and the call of one command.
//
// Threads:   one thread.
// Ownership: borrows the context's streams and seams for the call.
// Errors:    what CLI11 throws about a wrong command line ends here as kUsage.
#pragma once

#include "cli/context.h"
#include "cli/exit_code.h"

namespace holdfast::cli {

// The whole program but for its signal handlers and standard streams.  context.console.json and
// context.socket are set from the flags.
[[nodiscard]] ExitCode RunApp(int argc, const char* const* argv, Context context);

}  // namespace holdfast::cli
