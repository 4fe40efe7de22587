// The error value that crosses every interface of Holdfast.
//
// A code says what the caller can do next, never which library failed: conversions from errno,
// RocksDB, Asio or CUDA live beside the dependency.  The message says what was wrong, where, and
// what to do; context (a path, a job name) is added once, where the object's name is known.
//
// Threads:   a value type; any thread.
// Ownership: owns its message.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace holdfast {

enum class Errc : std::uint8_t {
  kInvalidArgument = 1,  // the caller's input is wrong; repeating it cannot help
  kNotFound,             // nothing of that name exists
  kAlreadyExists,        // the name is taken by something else
  kCorruption,           // bytes do not match their digest or grammar: use another source
  kIoError,              // the system refused; sys_errno says why
  kNoSpace,              // budget, disk or memory is exhausted: free some, then repeat
  kUnavailable,          // not now (daemon away, busy, starting): retry later
  kTimeout,              // the deadline passed; the outcome is unknown
  kCancelled,            // the caller or a shutdown asked for it
  kFenced,               // a newer incarnation exists: stop, do not retry
  kAbandoned,            // this snapshot id is given up for good: go on with the next step
  kVersionMismatch,      // the other side speaks another protocol or format version
  kPermission,           // this uid, job secret or path may not do that
  kInternal,             // a bug in Holdfast
};

// Stable lower-case name ("not_found"), used in logs, JSON and metrics.
std::string_view ErrcName(Errc code);

// Of a number that another process says; kInternal for one that this build does not know.
[[nodiscard]] Errc ErrcOf(std::uint32_t code);

// Where an error was made.  clang-14 has no SourceLine.
struct SourceLine {
  const char* file;
  int line;

  static constexpr SourceLine Current(const char* f = __builtin_FILE(), int l = __builtin_LINE()) {
    return {f, l};
  }
};

struct [[nodiscard]] Error {
  Errc code;
  std::string message;
  int sys_errno = 0;  // 0 where no system call failed
  SourceLine where = SourceLine::Current();

  Error(Errc c, std::string m, int e = 0, SourceLine w = SourceLine::Current())
      : code(c), message(std::move(m)), sys_errno(e), where(w) {}

  // "<context>: <message>"; keeps code, errno and origin.
  Error WithContext(std::string_view context) &&;

  // "not_found: /x: No such file or directory (errno 2)": one line for logs and users.
  std::string ToString() const;
};

// kIoError, or the finer code that the errno stands for (ENOENT, EEXIST, ENOSPC, EACCES, ...).
// "what" names the call and the object: "open /dev/shm/holdfast/slots/3".
Error ErrnoError(int errno_value, std::string_view what, SourceLine where = SourceLine::Current());

}  // namespace holdfast
