#include "cli/console.h"

#include <string>

#include "cli/json_text.h"
#include "cli/text.h"

namespace holdfast::cli {

ExitCode Console::Fail(const Error& error) const {
  return Fail(error, ExitCodeOf(error.code));
}

ExitCode Console::Fail(const Error& error, ExitCode exit) const {
  if (json) {
    out << ErrorJson(error, static_cast<int>(exit));
  }
  std::string line = "holdfast: " + SafeText(error.message);
  if (error.sys_errno != 0 && error.message.find("errno") == std::string::npos) {
    line += " (errno " + std::to_string(error.sys_errno) + ")";
  }
  err << line << std::endl;
  return exit;
}

void Console::Note(std::string_view text) const {
  err << "holdfast: " << SafeText(text) << std::endl;
}

bool Console::Confirm(std::string_view question) const {
  if (!in_is_terminal) {
    return false;
  }
  err << SafeText(question) << " [y/N] " << std::flush;
  std::string answer;
  std::getline(in, answer);
  return answer == "y" || answer == "Y" || answer == "yes" || answer == "Yes";
}

}  // namespace holdfast::cli
