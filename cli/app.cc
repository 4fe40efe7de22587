#include "cli/app.h"

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "client/build_info.h"
#include "transport/fabric_version.h"

namespace holdfast::cli {
namespace {

constexpr const char* kSpecHelp = "STEP, STEP@INCARNATION, or newest";

constexpr const char* kFooter =
    "Exit: 0 ok, 1 failed, 2 usage, 3 data found bad, 4 no daemon answers, 5 refused,\n"
    "6 not found, 7 not every node answered, 130 interrupted.  --json and --socket are understood "
    "by every command.";

// All options of all commands, for as long as CLI11 refers to them.
struct Options {
  StatusOptions status;
  LsOptions ls;
  ShowCommandOptions show;
  VerifyOptions verify;
  ExportOptions exporting;
  RestoreOptions restore;
  RmOptions rm;
  DropOptions drop;
  std::string config_file;
  CertsOptions certs;
};

using Command = std::function<ExitCode(const Context&)>;

void AddState(CLI::App* command, std::string* state_dir, std::string* arena) {
  command->add_option("--state-dir", *state_dir, "look into a dead daemon's state folder");
  command->add_option("--arena", *arena, "and into its arena, where it is not the default");
}

void AddPlaces(CLI::App* command, Places* places) {
  // One value a flag: without the limit it would swallow the arguments behind it.
  command->add_option("--root", places->roots, "look into a persistent folder, without a daemon")
      ->expected(1)
      ->take_all();
  AddState(command, &places->state_dir, &places->arena);
}

// Of a command that can ask every node: then no other place is looked at.
CLI::Option* AddCluster(CLI::App* command,
                        const char* flag,
                        const char* help,
                        ClusterOptions* cluster) {
  CLI::Option* on = command->add_flag(flag, cluster->on, help);
  for (const char* place : {"--root", "--state-dir"}) {
    on->excludes(place);
  }
  command->add_option("--timeout", cluster->timeout_seconds, "seconds for each node")
      ->needs(on)
      ->check(CLI::Range(0.001, 600.0));
  return on;
}

CLI::App* Add(
    CLI::App* app, const char* name, const char* description, Command* chosen, const Command& run) {
  CLI::App* command = app->add_subcommand(name, description);
  command->callback([chosen, run] { *chosen = run; });
  return command;
}

void AddReading(CLI::App* app, Options* options, Command* chosen) {
  StatusOptions* status = &options->status;
  CLI::App* command =
      Add(app, "status", "the daemon, its memory, jobs and tiers", chosen, [=](const Context& c) {
        return status->cluster.on ? RunClusterStatus(c, status->cluster)
                                  : RunStatus(c, status->places);
      });
  AddPlaces(command, &status->places);
  AddCluster(command, "--cluster", "of every node, from any node", &status->cluster);

  LsOptions* ls = &options->ls;
  command = Add(app, "ls", "snapshots, newest first", chosen, [ls](const Context& c) {
    return ls->cluster.on ? RunClusterLs(c, *ls) : RunLs(c, *ls);
  });
  command->add_option("JOB,--job", ls->job, "one job; else all");
  AddPlaces(command, &ls->places);
  AddCluster(command, "--cluster", "of every node: who holds what", &ls->cluster);
}

void AddLooking(CLI::App* app, Options* options, Command* chosen) {
  ShowCommandOptions* show = &options->show;
  CLI::App* command =
      Add(app, "show", "one snapshot, as a sidecar of it says", chosen, [=](const Context& c) {
        return show->cluster.on ? RunClusterShow(c, *show) : RunShow(c, *show);
      });
  command->add_option("JOB,--job", show->job, "")->required();
  command->add_option("SNAPSHOT", show->snapshot, kSpecHelp)->required();
  command->add_option("--rank", show->rank, "else the lowest that can be read here");
  command->add_flag("--tensors", show->tensors, "list all tensors");
  command->add_flag("--state", show->state, "print the non-tensor state that is JSON");
  AddPlaces(command, &show->places);
  CLI::Option* cluster =
      AddCluster(command, "--cluster", "stripes and rows: who holds what", &show->cluster);
  for (const char* option : {"--rank", "--tensors", "--state"}) {
    cluster->excludes(option);
  }

  VerifyOptions* verify = &options->verify;
  command = Add(app, "verify", "read every byte and check it", chosen, [=](const Context& c) {
    return verify->cluster.on ? RunVerifyPeers(c, *verify) : RunVerify(c, *verify);
  });
  command->add_option("JOB,--job", verify->job, "one job; else all");
  command->add_option("SNAPSHOT", verify->snapshot, std::string(kSpecHelp) + "; else all");
  command->add_option("--rank", verify->rank, "one rank; else all");
  command->add_flag("--memory", verify->memory_only, "not the roots that the daemon flushes to");
  AddPlaces(command, &verify->places);
  CLI::Option* peers = AddCluster(command,
                                  "--peers",
                                  "every node reads again what it holds, shards and parity",
                                  &verify->cluster);
  for (const char* option : {"SNAPSHOT", "--rank", "--memory"}) {
    peers->excludes(option);
  }
}

void AddCopying(CLI::App* app, Options* options, Command* chosen) {
  ExportOptions* exporting = &options->exporting;
  CLI::App* command =
      Add(app, "export", "write plain safetensors files, verified", chosen, [=](const Context& c) {
        return RunExport(c, *exporting);
      });
  command->add_option("JOB,--job", exporting->job, "")->required();
  command->add_option("SNAPSHOT", exporting->snapshot, kSpecHelp)->required();
  command->add_option("--to", exporting->to, "folder; nothing in it is overwritten")->required();
  command->add_option("--rank", exporting->rank, "one rank; else all of the world");
  command->add_flag("--partial", exporting->partial, "what is here, also if ranks are missing");
  AddPlaces(command, &exporting->places);

  RestoreOptions* restore = &options->restore;
  command = Add(app,
                "restore",
                "copy a snapshot to a persistent root, verified, for the job's next start",
                chosen,
                [=](const Context& c) { return RunRestore(c, *restore); });
  command->add_option("JOB,--job", restore->job, "")->required();
  command->add_option("SNAPSHOT", restore->snapshot, kSpecHelp)->required();
  command->add_option("--from-root", restore->from_root, "where it is durable");
  AddState(command, &restore->state_dir, &restore->arena);
  command->add_option("--to-root", restore->to_root, "where it shall be")->required();
}

void AddRemoving(CLI::App* app, Options* options, Command* chosen) {
  RmOptions* rm = &options->rm;
  CLI::App* command = Add(app, "rm", "remove one snapshot for good", chosen, [=](const Context& c) {
    return RunRm(c, *rm);
  });
  command->add_option("JOB,--job", rm->job, "")->required();
  command->add_option("SNAPSHOT", rm->snapshot, kSpecHelp)->required();
  command->add_option("--root", rm->root, "from a persistent folder");
  command->add_flag("--memory", rm->memory, "from this node's memory");
  command->add_flag("--yes", rm->yes, "do not ask");
  command->add_flag("--force", rm->force, "also the last durable one, of a job at rest");

  DropOptions* drop = &options->drop;
  command = Add(app, "drop", "free a job's memory on this node", chosen, [=](const Context& c) {
    return RunDrop(c, *drop);
  });
  command->add_option("JOB,--job", drop->job, "")->required();
  command->add_flag("--force", drop->force, "also of a live job");
  command->add_flag("--forget",
                    drop->forget,
                    "also forget the job: its folder was removed on purpose, or is another's");
}

void AddConfig(CLI::App* app, Options* options, Command* chosen) {
  CLI::App* config = app->add_subcommand("config", "the daemon's configuration");
  config->require_subcommand(1);
  config->fallthrough();
  CLI::App* check =
      Add(config, "check", "read a file as holdfastd would", chosen, [options](const Context& c) {
        return RunConfigCheck(c, options->config_file);
      });
  check->add_option("FILE", options->config_file, "")->required();
  check->fallthrough();
}

Error UsageError(const CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  std::string command = "holdfast";
  std::string text = error.what();
  if (!chosen.empty()) {
    command += " " + chosen.front()->get_name();
  } else if (const auto rest = app.remaining(); !rest.empty()) {
    text = "there is no command \"" + rest.front() + "\"";
  }
  return Error(Errc::kInvalidArgument, text + "; see " + command + " --help");
}

void AddCerts(CLI::App* app, Options* options, Command* chosen) {
  CertsOptions* certs = &options->certs;
  CLI::App* group = app->add_subcommand("certs", "certificates for TLS between daemons");
  group->require_subcommand(1);
  group->fallthrough();
  CLI::App* init = Add(group, "init", "make a cluster's authority", chosen, [=](const Context& c) {
    return RunCertsInit(c, *certs);
  });
  CLI::App* issue =
      Add(group, "issue", "make one node's certificate", chosen, [=](const Context& c) {
        return RunCertsIssue(c, *certs);
      });
  issue->add_option("--node", certs->node, "the node's uuid, as `holdfast status` shows it")
      ->required();
  issue
      ->add_option("--address", certs->addresses, "IP address or name of the node, for other tools")
      ->expected(1)
      ->take_all();
  for (CLI::App* command : {init, issue}) {
    command->fallthrough();
    command->add_option("DIR", certs->folder, "where the files are; none is ever replaced")
        ->required();
    command->add_option("--days", certs->days, "validity; 3650 for an authority, 825 for a node")
        ->check(CLI::Range(1, 36'500));
  }
}

}  // namespace

ExitCode RunApp(int argc, const char* const* argv, Context context) {
  CLI::App app("See, verify, export and restore the training state that Holdfast keeps.",
               "holdfast");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();
  // Only when asked: it loads libfabric.
  app.set_version_flag("--version", [] {
    return "holdfast " + client::DescribeBuild() + "\nfabric: " + transport::FabricVersion();
  });
  app.add_flag("--json", context.console.json, "print one JSON document");
  app.add_option("--socket", context.socket, "the daemon's socket, before $HOLDFAST_SOCKET");
  Options options;
  Command chosen;
  AddReading(&app, &options, &chosen);
  AddLooking(&app, &options, &chosen);
  AddCopying(&app, &options, &chosen);
  AddRemoving(&app, &options, &chosen);
  AddConfig(&app, &options, &chosen);
  AddCerts(&app, &options, &chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      (void)app.exit(error, context.console.out, context.console.err);  // --help, --version
      return ExitCode::kOk;
    }
    // It may stand behind the mistake.
    context.console.json = std::find(argv, argv + argc, std::string_view("--json")) != argv + argc;
    return context.console.Fail(UsageError(app, error));
  }
  return chosen(context);
}

}  // namespace holdfast::cli
