// The assertions of scripts, requests of operators, and the files of scripts.

#include <algorithm>
#include <sstream>
#include <utility>

#include "tests/daemon/core/core_script.h"

namespace holdfast::daemon {
namespace {

SnapshotKey IdOf(const std::string& text) {
  SnapshotKey id;
  char skipped = 0;
  std::istringstream(text) >> skipped >> id.incarnation >> skipped >> id.step;
  return id;
}

std::string RestOf(const ScriptCommand& command, std::size_t words) {
  std::istringstream in(command.text);
  std::string skipped;
  for (std::size_t i = 0; i < words + 1; ++i) {
    in >> skipped;
  }
  std::string rest;
  std::getline(in >> std::ws, rest);
  return rest;
}

std::string SlotStateText(proto::SlotState state) {
  switch (state) {
    case proto::SLOT_FREE:
      return "free";
    case proto::SLOT_HANDED_OUT:
      return "handed_out";
    case proto::SLOT_SEALED:
      return "sealed";
    case proto::SLOT_QUARANTINED:
      return "quarantined";
    default:
      return "unknown";
  }
}

std::string JobText(const std::string& what, const proto::JobStatus& job) {
  return what == "phase"     ? job.phase()
         : what == "attempt" ? std::to_string(job.restore_attempt())
         : what == "epoch"   ? std::to_string(job.incarnation())
         : what == "newest_complete"
             ? job.has_newest_complete() ? ShortText(KeyOf(job.newest_complete())) : "none"
         : job.has_restored() ? ShortText(KeyOf(job.restored()))
                              : "none";
}

}  // namespace

void CoreScript::Want(const Command& command, const std::string& wanted, const std::string& found) {
  if (wanted != found) {
    failures_.push_back(command.text + ": found " + found);
  }
}

void CoreScript::Expect(const Command& command) {
  if (command.words.empty() ||
      !(ExpectSnapshot(command) || ExpectClient(command) || ExpectNode(command))) {
    failures_.push_back("no such expectation: " + command.text);
  }
}

// expect outcome|held|durable (i,s) ...
bool CoreScript::ExpectSnapshot(const Command& command) {
  const std::string& what = command.words[0];
  if (what != "outcome" && what != "held" && what != "durable" && what != "damaged") {
    return false;
  }
  const FakeJob& job = harness_->JobOf(command.Option("job", "train") + "/r0");
  const SnapshotKey id = IdOf(command.words.at(1));
  if (what == "outcome") {
    std::string found = "none";
    for (const proto::OutcomeRecord& outcome : harness_->Records().outcomes) {
      if (outcome.id().job_uid() == job.uid && KeyOf(outcome.id()) == id) {
        found = outcome.outcome() == proto::COMPLETE ? "complete" : "abandoned";
      }
    }
    Want(command, command.words.at(2), found);
  } else if (what == "held") {
    std::string found;
    for (const proto::ShardRecord& shard : harness_->Records().shards) {
      if (shard.sidecar().id().job_uid() == job.uid && KeyOf(shard.sidecar().id()) == id) {
        found += (found.empty() ? "" : " ") + ("r" + std::to_string(shard.sidecar().rank())) +
                 (shard.poisoned() ? " (poisoned)" : "");
      }
    }
    std::string wanted;
    for (std::size_t i = 2; i < command.words.size(); ++i) {
      wanted += (i == 2 ? "" : " ") + command.words[i];
    }
    Want(command, wanted, found.empty() ? "by nobody" : found);
  } else if (what == "damaged") {
    bool is = false;
    for (const proto::DurableRecord& durable : harness_->Records().durables) {
      is = is || (durable.id().job_uid() == job.uid && KeyOf(durable.id()) == id &&
                  durable.root() == command.words.at(2) && durable.bad());
    }
    Want(command, command.words.at(3), is ? "yes" : "no");
  } else {
    const bool is = harness_->Tier(command.words.at(2)).Published(job.name, id);
    Want(command, command.words.at(3), is ? "yes" : "no");
  }
  return true;
}

bool CoreScript::ExpectClient(const Command& command) {
  const std::string& what = command.words[0];
  static const std::set<std::string> known = {"sealed",
                                              "granted",
                                              "told",
                                              "returned",
                                              "error",
                                              "restore_error",
                                              "fenced",
                                              "drained",
                                              "admitted",
                                              "freed"};
  if (!known.contains(what)) {
    return false;
  }
  for (const std::string& name : Names(command.words.at(1))) {
    const FakeClient& client = harness_->Client(name);
    const std::string wanted = RestOf(command, 2);
    if (what == "granted") {
      const std::string found = client.granted.has_value() ? ToText(*client.granted) : "none";
      if (wanted == "some" ? found == "none" : wanted != found) {
        failures_.push_back(command.text + ": found " + found);
      }
    } else if (what == "told" || what == "returned") {
      const bool has_word = what == "told" || client.returned;
      const std::string told = client.told.has_value() ? ShortText(*client.told)
                               : client.told_nothing   ? "nothing"
                                                       : "no";
      Want(command, wanted, has_word ? told : "no");
    } else if (what == "error" || what == "restore_error") {
      const std::string found =
          what == "error" ? client.last_error : client.restore_error.value_or("none");
      if (found.find(wanted) == std::string::npos) {
        failures_.push_back(command.text + ": found " + found);
      }
    } else if (what == "fenced") {
      Want(command, wanted, client.fenced ? "yes" : "no");
    } else if (what == "sealed") {
      Want(command, wanted, std::to_string(client.sealed));
    } else if (what == "admitted") {
      Want(command, wanted, std::to_string(client.slots_admitted));
    } else if (what == "freed") {
      Want(command, wanted, std::to_string(client.freed_bytes / kMiB));
    } else {
      const std::string found = !client.drained.has_value() ? "no"
                                : client.drained->durable()
                                    ? "durable " + ShortText(KeyOf(client.drained->id()))
                                    : "not durable " + ShortText(KeyOf(client.drained->id()));
      Want(command, wanted, found);
    }
  }
  return true;
}

void CoreScript::ExpectState(const Command& command) {
  std::string found = "unknown";
  const proto::ListReply list = harness_->core()->ListNow(command.Option("job", "train"));
  for (const proto::SnapshotInfo& snapshot : list.snapshots()) {
    found = KeyOf(snapshot.id()) == IdOf(command.words.at(1)) ? snapshot.state() : found;
  }
  Want(command, command.words.at(2), found);
}

bool CoreScript::ExpectNode(const Command& command) {
  const std::string& what = command.words[0];
  if (what == "slot") {
    std::string found = "gone";
    for (const proto::SlotRecord& slot : harness_->Records().slots) {
      if (ToText(SlotRef{slot.slot(), slot.generation()}) == command.words.at(1)) {
        found = SlotStateText(slot.state());
      }
    }
    Want(command, command.words.at(2), found);
  } else if (what == "unchanged") {
    Want(command, "the same state", remembered_ == FactsOfNode() ? "the same state" : "changes");
  } else if (what == "used") {
    Want(command,
         command.words.at(1),
         std::to_string(harness_->core()->StatusNow().arena().used_bytes() / kMiB));
  } else if (what == "waiting") {
    Want(command, command.words.at(2), std::to_string(harness_->HeldCount(command.words.at(1))));
  } else if (what == "phase" || what == "attempt" || what == "base" || what == "epoch" ||
             what == "newest_complete") {
    const proto::StatusReply status = harness_->core()->StatusNow();
    for (const proto::JobStatus& job : status.jobs()) {
      if (job.name() != command.Option("job", "train")) {
        continue;
      }
      Want(command, command.words.at(1), JobText(what, job));
    }
  } else if (what == "state") {
    ExpectState(command);
  } else if (what == "fallback") {
    std::string found = "none";
    for (const proto::IncarnationRecord& incarnation : harness_->Records().incarnations) {
      const bool present = incarnation.number() == harness_->JobOf("r0").epoch.number;
      const proto::RestoreDecision& decision = incarnation.decision();
      found = !present                   ? found
              : decision.fallback_open() ? "open"
              : decision.has_fallback()  ? ShortText(KeyOf(decision.fallback()))
                                         : found;
    }
    Want(command, command.words.at(1), found);
  } else if (what == "tier_healthy") {
    const proto::StatusReply status = harness_->core()->StatusNow();
    for (const proto::TierStatus& tier : status.jobs(0).tiers()) {
      Want(command, command.words.at(1), tier.healthy() ? "yes" : "no");
    }
  } else if (what == "unfinished") {
    std::string found;
    for (const SnapshotKey& id : harness_->Tier(command.words.at(1)).Unfinished("train")) {
      found += (found.empty() ? "" : " ") + ShortText(id);
    }
    Want(command, RestOf(command, 2), found.empty() ? "none" : found);
  } else {
    return false;
  }
  return true;
}

// Everything that a message could have changed, in memory and on disk.
std::string CoreScript::FactsOfNode() {
  std::string facts;
  for (const auto& [key, value] : harness_->catalog()) {
    facts += key + value;
  }
  facts += harness_->core()->StatusNow().SerializeAsString();
  facts += harness_->core()->ListNow("").SerializeAsString();
  return facts;
}

// drop JOB [force] | rm (i,s) [ROOT] | verify (i,s) RANK | status: an operator with uid=N.
bool CoreScript::RunAdmin(const Command& command) {
  const std::string& verb = command.verb;
  if (verb != "drop" && verb != "rm" && verb != "verify") {
    return false;
  }
  AdminRequest(command);
  return true;
}

void CoreScript::AdminRequest(const Command& command) {
  const FakeJob& job = harness_->JobOf("r0");
  const bool stranger = command.options.contains("uid");
  const std::string name = stranger ? "stranger/r0" : "admin/r0";
  harness_->Client(name).uid = static_cast<std::uint32_t>(command.Number("uid", 1000));
  proto::ClientMessage message;
  if (command.verb == "drop") {
    message.mutable_drop()->set_job_name(command.words.at(0));
    message.mutable_drop()->set_force(command.words.size() > 1 && command.words[1] == "force");
    message.mutable_drop()->set_forget(command.words.back() == "forget");
    if (!stranger) {
      harness_->history().given_up.insert(harness_->JobOf(command.words.at(0) + "/r0").uid);
    }
  } else if (command.verb == "rm") {
    *message.mutable_remove()->mutable_id() = ToProto(job.uid, IdOf(command.words.at(0)));
    message.mutable_remove()->set_root(command.words.size() > 1 ? command.words[1] : "");
  } else {
    *message.mutable_verify_shard()->mutable_id() = ToProto(job.uid, IdOf(command.words.at(0)));
    message.mutable_verify_shard()->set_rank(
        static_cast<std::uint32_t>(std::stoul(command.words.at(1))));
    message.mutable_verify_shard()->set_first_chunk(command.Number("first", 0));
    message.mutable_verify_shard()->set_chunks(command.Number("chunks", 0));
    const bool is_static = command.words.back() == "static";
    message.mutable_verify_shard()->set_image(is_static ? proto::STATIC : proto::DYNAMIC);
  }
  harness_->Request(name, std::move(message));
}

ScriptResult RunScriptText(const std::string& text) {
  ScriptResult result;
  CoreScript script;
  std::istringstream in(text);
  std::string line;
  int number = 0;
  bool recorded = false;
  std::string wanted;
  std::string found;
  const auto end_block = [&] {
    if (recorded) {
      result.rewritten += found;
      if (wanted != found) {
        result.failures.push_back("before line " + std::to_string(number) + ", recorded:\n" +
                                  wanted + "now:\n" + found);
      }
    }
    recorded = false;
    wanted.clear();
    found.clear();
  };
  while (std::getline(in, line)) {
    ++number;
    if (recorded && !line.empty()) {
      wanted += line + "\n";
      continue;
    }
    if (line.empty()) {
      end_block();
    }
    result.rewritten += line + "\n";
    if (line == "----") {
      recorded = true;
      found = script.TakeLog();
    } else if (!line.empty() && line[0] != '#') {
      script.Run(line);
      for (const std::string& failure : script.TakeFailures()) {
        result.failures.push_back("line " + std::to_string(number) + ": " + failure);
      }
    }
  }
  ++number;
  end_block();
  return result;
}

}  // namespace holdfast::daemon
