// Runs one readable script against the core (the form of etcd's datadriven tests).
//
//   # Why this script exists: the rule, the invariant, what goes wrong without.
//
//   node ranks=2 slots=2
//   start
//   ----
//   <recorded output>
//
// A block is commands, "----", and what happened.  HOLDFAST_REWRITE=1 records the output anew; the
// "expect" commands are never rewritten, so a wrong recording still fails.  The commands are listed
// in scripts/README.md.
//
// Threads: one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/daemon/core/core_harness.h"

namespace holdfast::daemon {

// One line of a script: a verb, words, and key=value options.
struct ScriptCommand {
  std::string text;
  std::string verb;
  std::vector<std::string> words;
  std::map<std::string, std::string> options;

  static ScriptCommand Parse(const std::string& line);
  std::string Option(const std::string& key, const std::string& otherwise) const;
  std::uint64_t Number(const std::string& key, std::uint64_t otherwise) const;
};

class CoreScript {
 public:
  // Executes one command; what happened is in the harness's log, what is wrong in failures().
  void Run(const std::string& line);

  std::vector<std::string> TakeFailures();
  std::string TakeLog();

  // Null before "node".
  CoreHarness* harness() { return harness_.get(); }

 private:
  using Command = ScriptCommand;

  bool RunNode(const Command& command);
  bool RunWorld(const Command& command);
  bool RunDaemon(const Command& command);
  bool RunRank(const Command& command);
  void RegisterRank(const std::string& name, const Command& command);
  bool RunRankRestore(const Command& command);
  bool RunAdmin(const Command& command);
  void Node(const Command& command);
  void Start(const Command& command);
  void Step(const Command& command);
  void AdminRequest(const Command& command);

  // core_script_expect.cc
  void Expect(const Command& command);
  bool ExpectSnapshot(const Command& command);
  bool ExpectClient(const Command& command);
  bool ExpectNode(const Command& command);
  void ExpectState(const Command& command);
  void Want(const Command& command, const std::string& wanted, const std::string& found);

  // "all": every rank of the job whose process lives; else the one that is named.
  std::vector<std::string> Names(const std::string& name);
  std::string FactsOfNode();

  std::unique_ptr<CoreHarness> harness_;
  std::string remembered_;
  std::vector<std::string> failures_;
};

// A file of scripts/: true if all blocks have the recorded output and every expectation holds.
struct ScriptResult {
  std::vector<std::string> failures;
  std::string rewritten;  // the file with the output of this run
};

ScriptResult RunScriptText(const std::string& text);

}  // namespace holdfast::daemon
