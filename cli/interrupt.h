// Ctrl-C (and SIGTERM) as a flag that long work looks at, so that it ends between two blocks, takes
// its temporary files away and leaves no half file under a final name.
//
// A second signal ends the process at once: also then only files with temporary names stay behind.
//
// Threads:   the flag from any thread; Install from one, once.
// Lifecycle: Install before long work; the handlers stay for the life of the process.
#pragma once

#include <atomic>

namespace holdfast::cli {

// Makes SIGINT and SIGTERM set the flag.
void InstallInterruptHandler();

// True after the first signal.  Never null, lives as long as the process.
[[nodiscard]] const std::atomic<bool>* InterruptFlag();

// For tests: sets or clears the flag.
void SetInterrupted(bool interrupted);

}  // namespace holdfast::cli
