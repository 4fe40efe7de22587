// holdfastd: reads flags and configuration, starts the daemon, and ends with a code that says why.

#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include <malloc.h>
#include <unistd.h>

#include "common/failpoint.h"
#include "common/log.h"
#include "common/version.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/flags.h"
#include "daemon/metrics.h"

namespace holdfast::daemon {
namespace {

constexpr int kExitOk = 0;
constexpr int kExitFailed = 1;
constexpr int kExitConfig = 2;
constexpr int kExitEnvironment = 3;

constexpr std::string_view kSystemConfig = "/etc/holdfast/holdfastd.toml";

int Complain(const Error& error, int code) {
  std::fprintf(stderr, "holdfastd: %s\n", error.message.c_str());
  return code;
}

Result<Config> LoadConfig(const Flags& flags) {
  Config config;
  const bool system = ::geteuid() == 0 && !flags.user;
  if (!flags.config_file.empty()) {
    HF_TRYV(ApplyConfigFile(flags.config_file, &config));
  } else if (system && ::access(std::string(kSystemConfig).c_str(), F_OK) == 0) {
    HF_TRYV(ApplyConfigFile(std::string(kSystemConfig), &config));
  }
  for (const auto& [key, text] : flags.values) {
    HF_TRYV(ApplyValue(key, text, &config));
  }
  config.discard_arena = flags.discard_arena;
  Places places = SystemPlaces();
  if (!system) {
    HF_TRY(places, UserPlaces());
  }
  HF_TRYV(ApplyDerivedDefaults(places, &config));
  HF_TRYV(ValidateConfig(config));
  return config;
}

void PrintConfigDoc() {
  std::printf("| key | default | unit | range | meaning |\n| --- | --- | --- | --- | --- |\n");
  for (const ConfigKey& key : DescribeConfig(Config())) {
    std::printf("| `%s` | `%s` | %s | %s | %s |\n",
                key.name.c_str(),
                key.value.c_str(),
                key.unit.c_str(),
                key.range.c_str(),
                key.why.c_str());
  }
}

void PrintConfig(const Config& config) {
  for (const ConfigKey& key : DescribeConfig(config)) {
    std::printf("%s = %s\n", key.name.c_str(), key.value.c_str());
  }
}

void LogConfig(const Config& config) {
  std::string line;
  for (const ConfigKey& key : DescribeConfig(config)) {
    line += (line.empty() ? "" : "; ") + key.name + " = " + key.value;
  }
  LogInfo("config.effective", line);
}

// True: a flag was answered and the program is over.
bool AnswerFlags(const Flags& flags) {
  if (flags.help) {
    std::fputs(std::string(UsageText()).c_str(), stdout);
  } else if (flags.version) {
    std::printf("holdfastd %s\n", std::string(kVersion).c_str());
  } else if (flags.print_metrics_doc) {
    std::fputs(Metrics::Documentation().c_str(), stdout);
  } else if (flags.print_config_doc) {
    PrintConfigDoc();
  } else {
    return false;
  }
  return true;
}

int RunDaemon(const Config& config) {
  StartLog("holdfastd", config.log_level);
  LogConfig(config);
  auto created = Daemon::Create(config, std::string(kVersion));
  if (!created.has_value()) {
    LogError("start.failed", created.error().ToString());
    return kExitEnvironment;
  }
  if (created.value()->Run() == Daemon::End::kHangs) {
    // Everything that must be on disk is; threads in a hung file system cannot be joined.
    std::fflush(stderr);
    ::_exit(kExitOk);
  }
  return kExitOk;
}

int Main(const std::vector<std::string_view>& arguments) {
  // NOLINTBEGIN(concurrency-mt-unsafe): before the first thread
  // Two heaps, not one for each thread: the daemon's own memory stays small beside a training.
  ::mallopt(M_ARENA_MAX, 2);
  // A client that is gone is an error of a call, never a signal.  A closed terminal is no reason to
  // lose the node's daemon.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  // NOLINTEND(concurrency-mt-unsafe)
  auto flags = ParseFlags(arguments);
  if (!flags.has_value()) {
    return Complain(flags.error(), kExitConfig);
  }
  if (AnswerFlags(flags.value())) {
    return kExitOk;
  }
  const Status armed = ArmFailpoints(EnvironmentVariable("HOLDFAST_FAILPOINTS"));
  if (!armed.has_value()) {
    return Complain(armed.error(), kExitConfig);
  }
  auto config = LoadConfig(flags.value());
  if (!config.has_value()) {
    return Complain(config.error(), kExitConfig);
  }
  if (flags.value().check_config) {
    PrintConfig(config.value());
    return kExitOk;
  }
  return RunDaemon(config.value());
}

}  // namespace
}  // namespace holdfast::daemon

int main(int argc, char** argv) {
  const std::vector<std::string_view> arguments(argv + 1, argv + argc);
  try {
    return holdfast::daemon::Main(arguments);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "holdfastd: %s\n", e.what());
  }
  return holdfast::daemon::kExitFailed;
}
