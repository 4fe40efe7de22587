// The program `holdfast`: streams, signals, and RunApp.
#include <csignal>
#include <exception>
#include <iostream>

#include <unistd.h>

#include "cli/app.h"
#include "cli/interrupt.h"
#include "storage_tiers/posix_file_system.h"

int main(int argc, char** argv) {
  using namespace holdfast;
  cli::InstallInterruptHandler();
  // `holdfast ls | head` ends quietly, by a failed write.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    storage_tiers::PosixFileSystem fs;
    cli::Context context{.console = {.out = std::cout,
                                     .err = std::cerr,
                                     .in = std::cin,
                                     .in_is_terminal = isatty(STDIN_FILENO) == 1,
                                     .err_is_terminal = isatty(STDERR_FILENO) == 1},
                         .environment = cli::LoadEnvironment(),
                         .socket = {},
                         .fs = fs,
                         .connect = cli::ConnectToDaemon};
    const cli::ExitCode exit = cli::RunApp(argc, argv, context);
    std::cout.flush();
    // A result that did not reach its reader is no success.
    return std::cout.good() ? static_cast<int>(exit) : static_cast<int>(cli::ExitCode::kFailed);
  } catch (const std::exception& error) {
    std::cerr << "holdfast: " << error.what() << "\n";
    return static_cast<int>(cli::ExitCode::kFailed);
  }
}
