#include "daemon/flags.h"

#include <cstddef>

namespace holdfast::daemon {
namespace {

struct SwitchFlag {
  std::string_view name;
  bool Flags::*member;
};

constexpr SwitchFlag kSwitches[] = {
    {"--user", &Flags::user},
    {"--check-config", &Flags::check_config},
    {"--discard-arena", &Flags::discard_arena},
    {"--version", &Flags::version},
    {"--help", &Flags::help},
    {"--print-metrics-doc", &Flags::print_metrics_doc},
    {"--print-config-doc", &Flags::print_config_doc},
};

struct ValueFlag {
  std::string_view name;
  std::string_view key;  // of the configuration; empty: the configuration's own path
};

constexpr ValueFlag kValues[] = {
    {"--config", ""},
    {"--state-dir", "daemon.state_dir"},
    {"--arena", "arena.dir"},
    {"--socket", "clients.socket"},
    {"--budget", "arena.budget"},
    {"--metrics", "daemon.metrics"},
    {"--log-level", "daemon.log_level"},
};

Error Unknown(std::string_view flag) {
  return Error(Errc::kInvalidArgument,
               "unknown flag \"" + std::string(flag.substr(0, 64)) + "\"; see holdfastd --help");
}

}  // namespace

std::string_view UsageText() {
  return "usage: holdfastd [--config FILE] [--user] [--state-dir DIR] [--arena DIR] [--socket "
         "PATH]\n"
         "                 [--budget BYTES] [--metrics ADDRESS:PORT|off] [--log-level LEVEL]\n"
         "                 [--check-config] [--discard-arena] [--version]\n"
         "\n"
         "Keeps the training state of this node's jobs in memory and flushes it to disk.\n"
         "  --config FILE    configuration; as root without --user: /etc/holdfast/holdfastd.toml\n"
         "                   where it exists\n"
         "  --user           defaults of this user: state in ${XDG_STATE_HOME:-~/.local/state}/\n"
         "                   holdfast with the socket in it, arena in /dev/shm/holdfast-UID,\n"
         "                   half of the free memory as budget\n"
         "  --check-config   reads and checks the configuration, prints it, and ends\n"
         "  --discard-arena  for one start: the slots of an arena that the catalog in the state "
         "folder\n"
         "                   has never seen are not needed, and are removed\n"
         "  --print-config-doc, --print-metrics-doc   tables for the documentation\n"
         "\n"
         "Flags stand above the file. Exit codes: 0 ended on request, 1 failed, 2 configuration "
         "or\n"
         "flags are wrong, 3 something in the environment (folders, memory, another daemon).\n";
}

Result<Flags> ParseFlags(const std::vector<std::string_view>& arguments) {
  Flags flags;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    const std::size_t equals = argument.find('=');
    const std::string_view name = argument.substr(0, equals);
    const SwitchFlag* found_switch = nullptr;
    for (const SwitchFlag& flag : kSwitches) {
      found_switch = flag.name == argument ? &flag : found_switch;
    }
    if (found_switch != nullptr) {
      flags.*(found_switch->member) = true;
      continue;
    }
    const ValueFlag* found = nullptr;
    for (const ValueFlag& flag : kValues) {
      found = flag.name == name ? &flag : found;
    }
    if (found == nullptr) {
      return Unknown(argument);
    }
    std::string_view value;
    if (equals != std::string_view::npos) {
      value = argument.substr(equals + 1);
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    }
    if (value.empty()) {
      return Error(Errc::kInvalidArgument, std::string(name) + " needs a value");
    }
    if (found->key.empty()) {
      flags.config_file = value;
    } else {
      flags.values.emplace_back(found->key, value);
    }
  }
  return flags;
}

}  // namespace holdfast::daemon
