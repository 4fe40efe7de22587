#include "tests/daemon/core/core_script.h"

#include <sstream>
#include <utility>

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;

SlotRef ParseSlot(const std::string& text) {
  SlotRef ref;
  char dot = 0;
  std::istringstream(text) >> ref.slot >> dot >> ref.generation;
  return ref;
}

SnapshotKey ParseId(const std::string& text) {
  SnapshotKey id;
  char skipped = 0;
  std::istringstream(text) >> skipped >> id.incarnation >> skipped >> id.step;
  return id;
}

milliseconds Seconds(const std::string& text) {
  return milliseconds(static_cast<std::int64_t>(std::stod(text) * 1000));
}

}  // namespace

ScriptCommand ScriptCommand::Parse(const std::string& line) {
  ScriptCommand command;
  command.text = line;
  std::istringstream in(line);
  in >> command.verb;
  for (std::string word; in >> word;) {
    const auto equals = word.find('=');
    if (equals == std::string::npos) {
      command.words.push_back(word);
    } else {
      command.options[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }
  return command;
}

std::string ScriptCommand::Option(const std::string& key, const std::string& otherwise) const {
  const auto it = options.find(key);
  return it == options.end() ? otherwise : it->second;
}

std::uint64_t ScriptCommand::Number(const std::string& key, std::uint64_t otherwise) const {
  const auto it = options.find(key);
  return it == options.end() ? otherwise : std::stoull(it->second);
}

std::vector<std::string> CoreScript::TakeFailures() {
  if (harness_ != nullptr) {
    for (std::string& violation : harness_->violations()) {
      failures_.push_back(std::move(violation));
    }
    harness_->violations().clear();
  }
  return std::exchange(failures_, {});
}

std::string CoreScript::TakeLog() {
  return harness_ == nullptr ? "" : harness_->TakeLog();
}

std::vector<std::string> CoreScript::Names(const std::string& name) {
  const bool all = name == "all" || name.ends_with("/all");
  if (!all) {
    return {name};
  }
  const std::string prefix = name.substr(0, name.size() - 3);
  std::vector<std::string> names;
  for (Rank rank = 0; rank < harness_->JobOf(prefix + "r0").world_size; ++rank) {
    const std::string one = prefix + "r" + std::to_string(rank);
    if (harness_->Client(one).alive) {
      names.push_back(one);
    }
  }
  return names;
}

void CoreScript::Run(const std::string& line) {
  const Command command = Command::Parse(line);
  if (harness_ == nullptr && command.verb != "node") {
    failures_.push_back("the first command is node");
    return;
  }
  if (command.verb == "expect") {
    Expect(command);
    return;
  }
  if (!(RunNode(command) || RunWorld(command) || RunDaemon(command) || RunRank(command) ||
        RunRankRestore(command) || RunAdmin(command))) {
    failures_.push_back("no such command: " + line);
  }
}

bool CoreScript::RunNode(const Command& command) {
  if (command.verb == "node") {
    Node(command);
    return true;
  }
  if (command.verb == "job") {
    FakeJob& job = harness_->JobOf(command.words.at(0) + "/r0");
    job.world_size = static_cast<std::uint32_t>(command.Number("ranks", 1));
    return true;
  }
  if (command.verb == "tier") {
    FakeJob& job = harness_->JobOf(command.Option("job", "train") + "/r0");
    proto::TierPolicy tier;
    tier.set_root(command.words.at(0));
    tier.set_scope(command.Option("scope", "shared") == "shared" ? proto::SHARED : proto::NODE);
    tier.set_every_steps(command.Number("every", 0));
    tier.set_every_seconds(command.Number("seconds", 0));
    tier.set_keep_last(static_cast<std::uint32_t>(command.Number("keep", 3)));
    tier.set_keep_every_steps(command.Number("keep_every", 0));
    job.tiers.push_back(tier);
    return true;
  }
  return false;
}

// Slots are of 1 MiB unless a rank says otherwise, so a budget in MiB is one in slots.
void CoreScript::Node(const Command& command) {
  CoreOptions options;
  const std::uint64_t ranks = command.Number("ranks", 1);
  options.default_slots = static_cast<std::uint32_t>(command.Number("slots", 2));
  options.budget_bytes = command.Number("budget", ranks * options.default_slots) * kMiB;
  options.page_bytes = command.Number("page", 1) * kMiB;
  options.restore_tries = static_cast<std::uint32_t>(command.Number("tries", 3));
  options.flush_gives_way = static_cast<std::uint32_t>(command.Number("gives_way", 3));
  options.orphan_ttl = std::chrono::seconds(command.Number("orphan_ttl", 86400));
  harness_ = std::make_unique<CoreHarness>(options);
  harness_->JobOf("r0").world_size = static_cast<std::uint32_t>(ranks);
}

// start [JOB/]: a new incarnation; every rank a new process, opened, registered, restored, running.
void CoreScript::Start(const Command& command) {
  const std::string prefix = command.words.empty() ? "" : command.words[0] + "/";
  FakeJob& job = harness_->JobOf(prefix + "r0");
  for (Rank rank = 0; rank < job.world_size; ++rank) {
    const std::string name = prefix + "r" + std::to_string(rank);
    if (harness_->Client(name).alive) {
      harness_->Die(name, false);
    }
    harness_->Spawn(name);
  }
  const Epoch before = job.epoch;
  harness_->Open(prefix + "r0");
  if (job.epoch == before) {
    return;  // not answered: a launcher has nothing to hand to its ranks
  }
  for (Rank rank = 0; rank < job.world_size; ++rank) {
    FakeClient& client = harness_->Client(prefix + "r" + std::to_string(rank));
    client.layout.static_bytes = command.Number("static", client.layout.static_bytes / kMiB) * kMiB;
    client.base = command.Option("base", client.base);
    harness_->Register(client.name);
  }
  if (command.Option("restore", "yes") == "no") {
    return;
  }
  RestoreWish wish;
  if (command.options.contains("step")) {
    wish.named_step = static_cast<holdfast::daemon::Step>(command.Number("step", 0));
  }
  wish.include_discarded = command.Option("discarded", "no") == "yes";
  for (Rank rank = 0; rank < job.world_size; ++rank) {
    harness_->Restore(prefix + "r" + std::to_string(rank), wish);
  }
  for (Rank rank = 0; rank < job.world_size; ++rank) {
    harness_->Loaded(prefix + "r" + std::to_string(rank), false);
  }
}

// step N...: every living rank begins, then every one seals.
void CoreScript::Step(const Command& command) {
  const std::string who = command.Option("job", "") + (command.options.contains("job") ? "/" : "");
  for (const std::string& word : command.words) {
    for (const std::string& name : Names(who + "all")) {
      harness_->Begin(name, std::stoll(word));
    }
    for (const std::string& name : Names(who + "all")) {
      harness_->Seal(name, command.Option("digests", "client") == "daemon");
    }
  }
}

bool CoreScript::RunWorld(const Command& command) {
  const std::string& verb = command.verb;
  const auto word = [&](std::size_t i) { return command.words.at(i); };
  if (verb == "start") {
    Start(command);
  } else if (verb == "step") {
    Step(command);
  } else if (verb == "hold") {
    harness_->Hold(word(0));
  } else if (verb == "unhold") {
    harness_->Unhold(word(0));
  } else if (verb == "finish_held") {
    const std::string outcome = command.words.size() > 1 ? word(1) : "ok";
    const bool all = command.words.size() > 2 && word(2) == "all";
    if (!harness_->FinishHeld(word(0), outcome)) {
      failures_.push_back("nothing is held: " + command.text);
    }
    while (all && harness_->FinishHeld(word(0), outcome)) {
    }
  } else if (verb == "tier_fails") {
    harness_->Tier(word(0)).SetFailing(true);
  } else if (verb == "tier_works") {
    harness_->Tier(word(0)).SetFailing(false);
  } else if (verb == "unmount" || verb == "mount") {
    harness_->Tier(word(0)).SetMounted(verb == "mount");
  } else if (verb == "damage_manifest") {
    harness_->Tier(word(0)).Folder("train").damaged_manifests.insert(ParseId(word(1)));
  } else if (verb == "other_start") {
    proto::IncarnationFile file;
    file.set_number(std::stoull(word(1)));
    file.set_job_uid(harness_->JobOf("r0").uid);
    harness_->Tier(word(0)).Folder("train").incarnations[file.number()] = file;
  } else if (verb == "copy_job_file") {
    harness_->Tier(word(0)).Folder(word(1)).uid = harness_->Tier(word(0)).Folder("train").uid;
  } else if (verb == "may_be_lost") {
    harness_->history().given_up.insert(harness_->JobOf("r0").uid);
  } else if (verb == "workers_gone") {
    harness_->AllWorkersGone();
  } else if (verb == "lose_memory") {
    harness_->LoseMemory();
  } else if (verb == "lose_arena") {
    harness_->LoseArena();
  } else if (verb == "cut") {
    harness_->CutSlot(ParseSlot(word(0)));
  } else if (verb == "damage") {
    harness_->DamageSlot(ParseSlot(word(0)));
  } else if (verb == "mend_tier") {
    harness_->Tier(word(0)).Mend("train", ParseId(word(1)), 0);
  } else if (verb == "lose_static") {
    harness_->Tier(word(0)).LoseStatic("train", ParseId(word(1)), 0);
    harness_->history().given_up.insert(harness_->JobOf("r0").uid);
  } else if (verb == "damage_tier") {
    harness_->Tier(word(0)).Damage("train", ParseId(word(1)), 0);
    harness_->history().given_up.insert(harness_->JobOf("r0").uid);
  } else {
    return false;
  }
  return true;
}

bool CoreScript::RunDaemon(const Command& command) {
  const std::string& verb = command.verb;
  if (verb == "tick") {
    harness_->Tick(Seconds(command.words.empty() ? "1" : command.words[0]));
  } else if (verb == "crash") {
    harness_->Crash();
  } else if (verb == "crash_next") {
    const std::string& point = command.words.at(0);
    harness_->CrashAtNextReady(point == "before"  ? CrashPoint::kBeforeSync
                               : point == "after" ? CrashPoint::kAfterSync
                                                  : CrashPoint::kNone);
  } else if (verb == "restart") {
    harness_->Restart();
  } else if (verb == "remember") {
    remembered_ = FactsOfNode();
  } else {
    return false;
  }
  return true;
}

void CoreScript::RegisterRank(const std::string& name, const Command& command) {
  FakeClient& client = harness_->Client(name);
  client.layout.name = command.Option("layout", client.layout.name);
  client.layout.image_bytes = command.Number("image", client.layout.image_bytes / kMiB) * kMiB;
  client.layout.static_bytes = command.Number("static", client.layout.static_bytes / kMiB) * kMiB;
  client.base = command.Option("base", client.base);
  client.slots_wanted = static_cast<std::uint32_t>(command.Number("slots", client.slots_wanted));
  if (const std::string node = command.Option("numa", ""); !node.empty()) {
    client.numa_node = std::stoi(node);
  }
  harness_->Register(name, command.Option("held", "named") == "named");
}

bool CoreScript::RunRank(const Command& command) {
  const std::string& verb = command.verb;
  const bool done = !command.words.empty() && command.words.back() == "done";
  const std::map<std::string, std::function<void(const std::string&)>> verbs = {
      {"spawn", [&](const std::string& name) { harness_->Spawn(name); }},
      {"connect", [&](const std::string& name) { harness_->Connect(name); }},
      {"open",
       [&](const std::string& name) {
         harness_->Open(name, command.Option("takes_over", "no") == "yes");
       }},
      {"lose_registration", [&](const std::string& name) { harness_->LoseRegistration(name); }},
      {"other_token", [&](const std::string& name) { harness_->Client(name).other_token = true; }},
      {"refuse_next",
       [&](const std::string& name) { harness_->Client(name).next_is_refused = true; }},
      {"resume", [&](const std::string& name) { harness_->Resume(name); }},
      {"register", [&](const std::string& name) { RegisterRank(name, command); }},
      {"begin",
       [&](const std::string& name) { harness_->Begin(name, std::stoll(command.words.at(1))); }},
      {"torn", [&](const std::string& name) { harness_->Torn(name, done, "torn"); }},
      {"copies_done",
       [&](const std::string& name) {
         harness_->CopiesDone(name, command.words.back() == "late");
       }},
      {"seal",
       [&](const std::string& name) {
         const bool late = command.words.back() == "late";
         harness_->Seal(name, command.Option("digests", "client") == "daemon", late);
       }},
      {"drain",
       [&](const std::string& name) {
         harness_->Drain(name, Seconds(command.Option("timeout", "60")));
       }},
      {"finish", [&](const std::string& name) { harness_->Finish(name); }},
      {"leave", [&](const std::string& name) { harness_->Leave(name); }},
      {"disconnect", [&](const std::string& name) { harness_->Disconnect(name); }},
      {"die",
       [&](const std::string& name) {
         harness_->Die(name, command.Option("worker", "gone") == "lives");
       }},
      {"called_dead", [&](const std::string& name) { harness_->CalledDead(name); }},
      {"worker_gone", [&](const std::string& name) { harness_->WorkerGone(name); }},
      {"land",
       [&](const std::string& name) { harness_->Land(name, ParseSlot(command.words.at(1))); }},
  };
  const auto it = verbs.find(verb);
  if (it == verbs.end()) {
    return false;
  }
  for (const std::string& name : Names(command.words.at(0))) {
    it->second(name);
  }
  return true;
}

bool CoreScript::RunRankRestore(const Command& command) {
  if (command.verb == "restore") {
    RestoreWish wish;
    if (command.options.contains("step")) {
      wish.named_step = static_cast<holdfast::daemon::Step>(command.Number("step", 0));
    }
    wish.include_discarded = command.Option("discarded", "no") == "yes";
    for (const std::string& name : Names(command.words.at(0))) {
      harness_->Restore(name, wish);
    }
    return true;
  }
  if (command.verb == "loaded") {
    const bool failed = command.words.size() > 1 && command.words[1] == "failed";
    for (const std::string& name : Names(command.words.at(0))) {
      harness_->Loaded(name, failed);
    }
    return true;
  }
  if (command.verb == "refuse") {
    harness_->Refuse(command.words.at(0));
    return true;
  }
  return false;
}

}  // namespace holdfast::daemon
