// Every script again, with a daemon that dies once: before and after the sync of every Ready of it.
//
// A new daemon starts at once and clients come back as the library does.  What a script expects of
// an undisturbed run is not asked; the invariants are, after every step (I1 to I4, I7 to I9, I11),
// and that a restart at the end does not hang (L).

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/daemon/core/core_script.h"
#include "tests/support/sanitized.h"

namespace holdfast::daemon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kKinds[] = {
    "prepare", "digest", "verify", "flush", "publish", "list", "open", "delete", "claim"};

constexpr std::uint64_t kEach = UnlessSanitized(1, 4);

std::vector<std::string> ScriptFiles() {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("tests/daemon/core/scripts", error)) {
    if (entry.path().extension() == ".txt") {
      files.push_back(entry.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// The commands of a script, without its expectations and recorded output.
std::vector<std::string> Commands(const std::string& file) {
  std::ifstream in(file);
  std::vector<std::string> commands;
  bool recorded = false;
  for (std::string line; std::getline(in, line);) {
    recorded = (recorded || line == "----") && !line.empty();
    const std::string verb = ScriptCommand::Parse(line).verb;
    if (!recorded && !verb.empty() && verb[0] != '#' && verb != "expect" && verb != "remember") {
      commands.push_back(line);
    }
  }
  return commands;
}

class Replay {
 public:
  explicit Replay(const std::vector<std::string>& commands) : commands_(commands) {}

  // Plays it all; "number" 0: nobody dies.  Returns how many Readys there were.
  std::uint64_t Run(std::uint64_t number, CrashPoint point) {
    script_.Run(commands_.front());
    Harness()->DieOnceAtReady(number, point);
    for (std::size_t i = 1; i < commands_.size(); ++i) {
      Do(commands_[i]);
    }
    const std::uint64_t readies = Harness()->readies();
    ExpectRestartEnds();
    return readies;
  }

  const std::vector<std::string>& violations() const { return violations_; }

 private:
  CoreHarness* Harness() { return script_.harness(); }

  void Do(const std::string& line) {
    const ScriptCommand command = ScriptCommand::Parse(line);
    if (command.verb == "land" && Sealed(command.words.at(1))) {
      return;  // here the slot was vouched for in time, and a client writes nothing after its seal
    }
    try {
      script_.Run(line);
    } catch (const std::out_of_range&) {
      // What the script damages was never made.
    }
    for (std::string& violation : Harness()->violations()) {
      violations_.push_back("\"" + line + "\": " + std::move(violation));
    }
    Harness()->violations().clear();
    script_.TakeLog();
    script_.TakeFailures();
  }

  bool Sealed(const std::string& slot) {
    const auto& slots = Harness()->Records().slots;
    return std::any_of(slots.begin(), slots.end(), [&](const proto::SlotRecord& record) {
      return record.state() == proto::SLOT_SEALED &&
             ToText(SlotRef{record.slot(), record.generation()}) == slot;
    });
  }

  // L: faults stop; whoever starts the job now is told something.
  void ExpectRestartEnds() {
    for (const char* kind : kKinds) {
      Do("unhold " + std::string(kind));
      while (Harness()->HeldCount(kind) > 0) {
        Do("finish_held " + std::string(kind));
      }
    }
    for (auto& [root, tier] : Harness()->tiers()) {
      tier.SetFailing(false);
    }
    Do(Harness()->up() ? "tick 61" : "restart");
    for (const auto& [name, client] : Harness()->clients()) {
      if (client.alive) {
        Do("die " + name);
      }
    }
    Do("workers_gone");
    Do("start restore=no");
    Do("restore all");
    for (int i = 0; i < 6; ++i) {
      Do("tick 61");
      Do("loaded all");
    }
    std::string hangs;
    for (const auto& [name, client] : Harness()->clients()) {
      if (client.job != "train" || !client.alive || client.fenced) {
        continue;
      }
      hangs += client.returned || client.restore_error.has_value() ? "" : " " + name;
    }
    if (!hangs.empty()) {
      violations_.push_back("L: restore() hangs:" + hangs);
    }
  }

  const std::vector<std::string>& commands_;
  CoreScript script_;
  std::vector<std::string> violations_;
};

class CoreScriptCrashTest : public ::testing::TestWithParam<std::string> {};

TEST_P(CoreScriptCrashTest, NothingIsLostIfTheDaemonDiesAtAnyReady) {
  const std::vector<std::string> commands = Commands(GetParam());
  ASSERT_FALSE(commands.empty());
  const std::uint64_t readies = Replay(commands).Run(0, CrashPoint::kNone);
  ASSERT_GT(readies, 1u);
  for (std::uint64_t number = 1; number <= readies; number += kEach) {
    for (const CrashPoint point : {CrashPoint::kBeforeSync, CrashPoint::kAfterSync}) {
      Replay replay(commands);
      replay.Run(number, point);
      for (const std::string& violation : replay.violations()) {
        ADD_FAILURE() << "dies " << (point == CrashPoint::kBeforeSync ? "before" : "after")
                      << " the sync of Ready " << number << " of " << readies << ", then "
                      << violation;
      }
      if (HasFailure()) {
        return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Scripts,
                         CoreScriptCrashTest,
                         ::testing::ValuesIn(ScriptFiles()),
                         [](const auto& file) { return fs::path(file.param).stem().string(); });

}  // namespace
}  // namespace holdfast::daemon
