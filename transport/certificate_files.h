// Private to transport/: files of keys and certificates, written whole and never over others.
//
// Threads:   any thread; blocks on the file system.
// Errors:    kAlreadyExists; else the failed call's.  Nothing of a failed call stays behind.
// Durability: after Ok name and contents survive a power cut.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"

namespace holdfast::transport {

// "private_key": mode 0600 from the first moment; else 0644.
[[nodiscard]] Status WriteNewFile(const std::string& folder,
                                  const std::string& name,
                                  std::string_view contents,
                                  bool private_key);

// Made with mode 0700 where it is missing; its parent must exist.
[[nodiscard]] Status MakeFolder(const std::string& folder);

// At most 1 MiB.  "private_key": kPermission if others than owner and group may read it.
[[nodiscard]] Result<std::string> ReadPemFile(const std::string& file, bool private_key);

}  // namespace holdfast::transport
