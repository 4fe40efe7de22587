// The JSON documents of --json that belong to no single command.
//
// All documents: one object, keys in snake_case and never renamed, bytes as integers, uids as
// lower-case hexadecimal, ids as {"job", "incarnation", "step"}, what is absent as null
// (cli/README.md has the table).  A string that is not UTF-8 is written with U+FFFD: a document
// that no parser takes would be worse.
//
// Threads: any thread; pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/units.h"

namespace holdfast::cli {

// {"error": {"code": "not_found", "message": …, "exit_code": 6}}
[[nodiscard]] std::string ErrorJson(const Error& error, int exit_code);

// {"job": …, "freed_bytes": …}
[[nodiscard]] std::string FreedJson(const std::string& job, ByteCount freed_bytes);

struct CertificateJsonFacts {
  std::string certificate;  // file
  std::string key;          // file
  std::string subject;
  std::string node_uuid;  // 16 bytes; empty: the authority's
  std::vector<std::string> addresses;
  std::int64_t not_after_unix_ms = 0;
};

// {"certificate": …, "key": …, "subject": …, "node_uuid": …, "addresses": […], "not_after": …}
[[nodiscard]] std::string CertificateJson(const CertificateJsonFacts& facts);

// {"file": …, "ok": true}
[[nodiscard]] std::string ConfigJson(const std::string& file);

}  // namespace holdfast::cli
