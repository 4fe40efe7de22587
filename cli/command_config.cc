#include <utility>

#include "cli/commands.h"
#include "cli/json_text.h"
#include "cli/text.h"
#include "daemon/config.h"

namespace holdfast::cli {
namespace {

// As holdfastd --check-config: values only, since the file may be for another machine.  What this
// machine would derive (budget, threads) is filled in so that the check sees a whole configuration.
Status CheckFile(const std::string& file) {
  daemon::Config config;
  HF_TRYV(daemon::ApplyConfigFile(file, &config));
  HF_TRYV(daemon::ApplyDerivedDefaults(daemon::SystemPlaces(), &config));
  return daemon::ValidateConfig(config);
}

}  // namespace

ExitCode RunConfigCheck(const Context& context, const std::string& file) {
  const Console& console = context.console;
  if (const Status checked = CheckFile(file); !checked) {
    return console.Fail(checked.error());
  }
  console.out << (console.json ? ConfigJson(file) : SafeText(file) + ": ok\n");
  return ExitCode::kOk;
}

}  // namespace holdfast::cli
