// Which libfabric this process has, and how it comes by it.
//
// libfabric is loaded when it is first needed, not linked (docs/adr/0007): the one of the host,
// which knows its cards, goes before the one that our wheel brings, and a daemon without libfabric
// still has the peers' connection.
//
// Threads:   any.
// Ownership: the library is loaded once and stays until the process ends.
// Errors:    kUnavailable: no such library, with the loader's words; kVersionMismatch: one that
//            lacks what we call.  Nothing is kept of a library that failed.
#pragma once

#include <string>
#include <vector>

#include "common/result.h"

namespace holdfast::transport {

// What the dynamic linker finds: LD_LIBRARY_PATH, then ld.so.conf, where vendors put theirs.
inline constexpr const char* kFabricLibrary = "libfabric.so.1";
// Where the wheel puts its own, seen from a program of it.
inline constexpr const char* kBundledFabricLibrary = "$ORIGIN/../_fabric/libfabric.so.1";

// "libfabric 1.17" and the file it came from, or "no libfabric: <why>": for --version and logs.
// Loads the first of "libraries" that can be, unless one is loaded already.
[[nodiscard]] std::string FabricVersion(const std::vector<std::string>& libraries = {
                                            kFabricLibrary, kBundledFabricLibrary});

}  // namespace holdfast::transport
