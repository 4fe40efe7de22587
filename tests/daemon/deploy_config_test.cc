// The annotated configuration that is shipped says what the daemon does.

#include <string>

#include <gtest/gtest.h>

#include "daemon/config.h"
#include "tests/support/whole_file.h"

namespace holdfast::daemon {
namespace {

std::string ReadShipped() {
  return WholeFile("deploy/holdfastd.toml");
}

// "#budget = ..." becomes "budget = ...": every key set to what the file calls its default.
std::string Uncommented(const std::string& text) {
  std::string result;
  bool line_start = true;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool key = line_start && text[i] == '#' && i + 1 < text.size() && text[i + 1] != ' ';
    if (!key) {
      result += text[i];
    }
    line_start = text[i] == '\n';
  }
  return result;
}

TEST(DeployConfigTest, TheShippedFileIsAccepted) {
  Config config;
  const Status status = ApplyToml(ReadShipped(), "holdfastd.toml", &config);
  EXPECT_TRUE(status.has_value()) << status.error().message;
}

TEST(DeployConfigTest, ItNamesEveryKeyWithItsDefault) {
  const std::string text = ReadShipped();
  Config shipped;
  const Status status = ApplyToml(Uncommented(text), "holdfastd.toml", &shipped);
  ASSERT_TRUE(status.has_value()) << status.error().message;
  Config defaults;
  // Places depend on who runs the daemon; the file shows those of the system.
  defaults.state_dir = SystemPlaces().state_dir;
  defaults.arena_dir = SystemPlaces().arena_dir;
  defaults.socket = SystemPlaces().socket;
  const auto said = DescribeConfig(shipped);
  const auto meant = DescribeConfig(defaults);
  for (std::size_t i = 0; i < meant.size(); ++i) {
    EXPECT_EQ(said[i].value, meant[i].value) << meant[i].name;
    const std::string key = "\n#" + meant[i].name.substr(meant[i].name.find('.') + 1) + " = ";
    EXPECT_NE(text.find(key), std::string::npos) << meant[i].name;
  }
}

}  // namespace
}  // namespace holdfast::daemon
