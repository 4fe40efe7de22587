#include "bench/commands.h"

#include <charconv>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <utility>

namespace holdfast::bench {

void Commands::Add(const std::string& name, Measure measure) {
  commands_[name] = std::move(measure);
}

Result<Numbers> Commands::Run(const std::string& line) const {
  std::istringstream words(line);
  std::string name;
  words >> name;
  Arguments arguments;
  for (std::string word; words >> word;) {
    arguments.push_back(word);
  }
  const auto found = commands_.find(name);
  if (found == commands_.end()) {
    return Error(Errc::kInvalidArgument, "unknown command \"" + name + "\"");
  }
  return found->second(arguments);
}

int Commands::Serve() const {
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const Result<Numbers> result = Run(line);
    if (result) {
      std::fputs("ok", stdout);
      for (const double number : result.value()) {
        std::printf(" %.9g", number);
      }
    } else {
      std::printf("error %s", result.error().ToString().c_str());
    }
    std::putchar('\n');
    std::fflush(stdout);
  }
  return 0;
}

Result<std::uint64_t> NumberAt(const Arguments& arguments,
                               std::size_t index,
                               std::uint64_t least,
                               std::uint64_t most) {
  std::uint64_t value = 0;
  if (index < arguments.size()) {
    const std::string& text = arguments[index];
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && value >= least &&
        value <= most) {
      return value;
    }
  }
  return Error(Errc::kInvalidArgument,
               "argument " + std::to_string(index + 1) + " must be a number from " +
                   std::to_string(least) + " to " + std::to_string(most));
}

Arguments ArgumentsOf(int count, char** values) {
  return Arguments(values + 1, values + count);
}

int Refuse(const Error& error) {
  std::printf("error %s\n", error.ToString().c_str());
  return 1;
}

}  // namespace holdfast::bench
