// A program that measures one thing each time it is told to.
//
// What is compared must be measured in turns (ours, ceiling, ours, ceiling, ...), or a neighbour
// that wakes up half-way decides the result.  Half of the ceilings are other programs (fio, torch),
// so the turns are taken by one driver, bench/run.py, and each program is a server of it: it sets
// up once, then answers one line for each line it reads.
//
//   "snapshot 2"   ->  "ok 0.0931 2147483648"      what the numbers mean is the command's matter
//   "snapshot 0"   ->  "error threads must be 1 or more"
//
// Threads:   one.
// Ownership: keeps the functions.
// Errors:    a command that fails says why on its line; the program goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/result.h"

namespace holdfast::bench {

using Numbers = std::vector<double>;
using Arguments = std::vector<std::string>;

class Commands {
 public:
  using Measure = std::function<Result<Numbers>(const Arguments&)>;

  void Add(const std::string& name, Measure measure);

  // Says "ready", then serves standard input to its end; the exit code.
  [[nodiscard]] int Serve() const;

 private:
  [[nodiscard]] Result<Numbers> Run(const std::string& line) const;

  std::map<std::string, Measure> commands_;
};

// Argument "index" as a whole number from "least" to "most"; kInvalidArgument names it otherwise.
[[nodiscard]] Result<std::uint64_t> NumberAt(const Arguments& arguments,
                                             std::size_t index,
                                             std::uint64_t least,
                                             std::uint64_t most);

// The program's own arguments, without its name.
[[nodiscard]] Arguments ArgumentsOf(int count, char** values);

// For main: prints why the program cannot run; the exit code.
[[nodiscard]] int Refuse(const Error& error);

class Stopwatch {
 public:
  [[nodiscard]] double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace holdfast::bench
