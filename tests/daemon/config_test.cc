#include "daemon/config.h"

#include <fstream>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "daemon/config_keys.h"
#include "daemon/flags.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;

Config Complete() {
  Config config;
  config.state_dir = "/var/lib/holdfast";
  config.arena_dir = "/dev/shm/holdfast";
  config.socket = "/run/holdfast/holdfastd.sock";
  return config;
}

std::string ErrorOf(const Status& status) {
  return status.has_value() ? std::string() : status.error().message;
}

std::string ErrorOfToml(const std::string& toml) {
  Config config;
  return ErrorOf(ApplyToml(toml, "test.toml", &config));
}

TEST(ConfigTest, DefaultsPassTheirOwnCheck) {
  EXPECT_EQ(ErrorOf(ValidateConfig(Complete())), "");
}

TEST(ConfigTest, EveryKeyHasAReasonAndAUniqueName) {
  std::set<std::string_view> names;
  for (const KeySpec& key : ConfigKeys()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name;
    EXPECT_GT(key.why.size(), 20U) << key.name;
    EXPECT_NE(key.name.find('.'), std::string_view::npos) << key.name;
  }
}

// What --check-config prints can be read again and means the same.
TEST(ConfigTest, EveryValueSurvivesItsOwnNotation) {
  Config config = Complete();
  config.allowed_uids = {1000, 2000};
  config.client_roots = {"/checkpoints", "/scratch/a"};
  config.flush_direct_io = false;
  config.budget_bytes = 3 * kGiB;
  std::string toml;
  std::string section;
  for (const ConfigKey& key : DescribeConfig(config)) {
    const std::string now = key.name.substr(0, key.name.find('.'));
    if (now != section) {
      toml += "[" + now + "]\n";
      section = now;
    }
    toml += key.name.substr(now.size() + 1) + " = " + key.value + "\n";
  }
  // Sections interleave nowhere: "restore" follows "snapshots".
  Config again;
  ASSERT_EQ(ErrorOf(ApplyToml(toml, "again.toml", &again)), "") << toml;
  const auto before = DescribeConfig(config);
  const auto after = DescribeConfig(again);
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i].value, after[i].value) << before[i].name;
  }
}

TEST(ConfigTest, AnUnknownKeyNamesTheNearest) {
  const std::string error = ErrorOfToml("[arena]\n\nbudgets = \"1GiB\"\n");
  EXPECT_NE(error.find("arena.budget"), std::string::npos) << error;
  EXPECT_NE(error.find("line 3"), std::string::npos) << error;
}

TEST(ConfigTest, AKeyOutsideOfASectionIsRefused) {
  EXPECT_NE(ErrorOfToml("budget = \"1GiB\"\n").find("in no section"), std::string::npos);
}

TEST(ConfigTest, ValuesOutOfRangeNameTheRange) {
  const std::string error = ErrorOfToml("[snapshots]\nslots_per_rank = 1\n");
  EXPECT_NE(error.find("2 to 64"), std::string::npos) << error;
}

TEST(ConfigTest, WrongTypesAreRefused) {
  for (const char* toml : {"[arena]\nbudget = [1]\n",
                           "[arena]\nbudget = 1.5\n",
                           "[clients]\nallowed_uids = 5\n",
                           "[clients]\nallowed_uids = [[5]]\n",
                           "[clients]\nallowed_uids = [-1]\n",
                           "[clients]\nallowed_uids = [4294967295]\n",
                           "[clients]\nroots = [\"relative\"]\n",
                           "[clients]\nroots = [\"/a,b\"]\n",
                           "[flush]\ndirect_io = \"perhaps\"\n",
                           "[flush]\ntier_timeout = 30\n",
                           "[flush]\ntier_timeout = \"30 parsecs\"\n",
                           "[flush]\ntier_timeout = 1979-05-27T07:32:00Z\n",
                           "[restore]\ntries = -1\n",
                           "[daemon]\nlog_level = \"loud\"\n",
                           "[daemon.state_dir]\nx = 1\n"}) {
    EXPECT_NE(ErrorOfToml(toml), "") << toml;
  }
}

TEST(ConfigTest, DataPlanesAreOneOrAList) {
  const auto planes = [](const std::string& value) {
    Config config;
    EXPECT_EQ(ErrorOf(ApplyToml("[peer]\ndata_plane = " + value, "test.toml", &config)), "")
        << value;
    return config.peer_data_plane;
  };
  EXPECT_EQ(planes("\"tls\""), std::vector<std::string>{"tls"});
  EXPECT_EQ(planes("[\"tcp;ofi_rxm\", \"tls\"]"), (std::vector<std::string>{"tcp;ofi_rxm", "tls"}));
  const std::pair<const char*, const char*> wrong[] = {
      {"[]", "1 to 8"},
      {"7", "list of planes"},
      {"true", "list of planes"},
      {"\"TCP\"", "is no data plane"},
      {"[\"tls\", \"tls\"]", "stands twice"},
  };
  for (const auto& [value, why] : wrong) {
    Config config;
    const std::string error =
        ErrorOf(ApplyToml(std::string("[peer]\ndata_plane = ") + value, "test.toml", &config));
    EXPECT_NE(error.find(why), std::string::npos) << value << ": " << error;
  }
}

TEST(ConfigTest, BrokenTomlNamesTheLine) {
  const std::string error = ErrorOfToml("[arena]\nbudget = \n");
  EXPECT_NE(error.find("line 2"), std::string::npos) << error;
}

// toml++ asserts on these before it reports them: found by the fuzz search of config_fuzz.
TEST(ConfigTest, ASectionNameThatIsNoNameIsAnErrorNotTheEnd) {
  EXPECT_NE(ErrorOfToml("[%]\n").find("line 1"), std::string::npos);
  EXPECT_NE(ErrorOfToml("[\x02]\n").find("line 1"), std::string::npos);
}

// toml++ has undefined behaviour for these letters outside of strings: found by config_fuzz.
TEST(ConfigTest, LettersOfAllLanguagesAreReadInStringsAndRefusedElsewhere) {
  EXPECT_NE(ErrorOfToml("[arena]\ndir = \u02ce\n").find("line 2"), std::string::npos);
  EXPECT_NE(ErrorOfToml("[arena]\ndir = \"/\xff\"\n"), "");
  Config config;
  ASSERT_EQ(ErrorOf(ApplyToml(
                "# d\u00e9j\u00e0\n[arena]\ndir = \"/dev/d\u00e9j\u00e0\"\n", "x", &config)),
            "");
  EXPECT_EQ(config.arena_dir, "/dev/d\u00e9j\u00e0");
}

TEST(ConfigTest, HugeAndDeepFilesAreRefused) {
  EXPECT_NE(ErrorOfToml(std::string(2 * kMiB, '#')), "");
  EXPECT_NE(ErrorOfToml("[a]\nb = " + std::string(5'000, '[')), "");
  EXPECT_NE(ErrorOfToml(std::string(100'000, 'k') + " = 1\n"), "");
}

TEST(ConfigTest, KeysMustFitEachOther) {
  Config same = Complete();
  same.arena_dir = same.state_dir;
  EXPECT_NE(ErrorOf(ValidateConfig(same)), "");
  Config retry = Complete();
  retry.flush_retry_min = retry.flush_retry_max + milliseconds(1);
  EXPECT_NE(ErrorOf(ValidateConfig(retry)), "");
  Config block = Complete();
  block.flush_block_bytes = kMiB + 4096;
  EXPECT_NE(ErrorOf(ValidateConfig(block)), "");
  Config unset = Complete();
  unset.socket.clear();
  EXPECT_NE(ErrorOf(ValidateConfig(unset)).find("clients.socket"), std::string::npos);
}

TEST(ConfigTest, MetricsAddressesAreChecked) {
  for (const char* good : {"127.0.0.1:9464", "[::1]:9464", ""}) {
    Config config = Complete();
    config.metrics_address = good;
    EXPECT_EQ(ErrorOf(ValidateConfig(config)), "") << good;
  }
  for (const char* bad : {"9464", ":9464", "host name:1", "127.0.0.1:99999", "127.0.0.1:"}) {
    Config config = Complete();
    config.metrics_address = bad;
    EXPECT_NE(ErrorOf(ValidateConfig(config)), "") << bad;
  }
}

TEST(ConfigTest, DurationsAreReadExactly) {
  EXPECT_EQ(ParseDuration("250ms").value(), milliseconds(250));
  EXPECT_EQ(ParseDuration("2d").value(), std::chrono::hours(48));
  for (const char* bad :
       {"", "5", "s", "-1s", "1.5s", "1 s", "99999999999999999999s", "5000000000000d"}) {
    EXPECT_FALSE(ParseDuration(bad).has_value()) << bad;
  }
  for (const auto value : {milliseconds(0), milliseconds(1), milliseconds(61'000)}) {
    EXPECT_EQ(ParseDuration(FormatDuration(value)).value(), value);
  }
}

TEST(ConfigTest, PathsGetOneSpelling) {
  EXPECT_EQ(NormalPath("//a///b/").value(), "/a/b");
  EXPECT_EQ(NormalPath("/").value(), "/");
  for (const char* bad : {"", "a", "/a/../b", "/a/./b", "/a\nb"}) {
    EXPECT_FALSE(NormalPath(bad).has_value()) << bad;
  }
  EXPECT_FALSE(NormalPath("/" + std::string(2'000, 'x')).has_value());
}

TEST(ConfigTest, WhoMovesTheStateMovesTheSocketToo) {
  Config config;
  config.state_dir = "/tmp/other";
  config.budget_bytes = kGiB;
  ASSERT_EQ(ErrorOf(ApplyDerivedDefaults(SystemPlaces(), &config)), "");
  EXPECT_EQ(config.socket, "/tmp/other/holdfastd.sock");
  EXPECT_EQ(config.arena_dir, SystemPlaces().arena_dir);
}

TEST(ConfigTest, TheBudgetIsDerivedFromWhatIsThere) {
  Config config;
  ASSERT_EQ(ErrorOf(ApplyDerivedDefaults(SystemPlaces(), &config)), "");
  EXPECT_GE(config.budget_bytes, 64 * kMiB);
  EXPECT_EQ(config.budget_bytes % (64 * kMiB), 0U);
  EXPECT_GE(config.cpu_threads, 1U);
}

// A daemon that starts again must not find its own slots above its budget.
TEST(ConfigTest, TheDerivedBudgetIsNeverBelowWhatTheArenaHolds) {
  EXPECT_EQ(BudgetFor(22 * kGiB, 20 * kGiB, 0), 10 * kGiB);
  EXPECT_EQ(BudgetFor(30 * kGiB, 4 * kGiB, 8 * kGiB), 8 * kGiB);
  EXPECT_EQ(BudgetFor(12 * kGiB, 12 * kGiB, 8 * kGiB), 10 * kGiB);
  EXPECT_GE(BudgetFor(0, 0, 8 * kGiB + 1), 8 * kGiB + 1);
  EXPECT_EQ(BudgetFor(10 * kMiB, kGiB, 0), 0U);
}

TEST(FlagsTest, BothFormsOfAValueAreRead) {
  const auto flags = ParseFlags({"--state-dir", "/a", "--budget=1GiB", "--user"});
  ASSERT_TRUE(flags.has_value());
  ASSERT_EQ(flags.value().values.size(), 2U);
  EXPECT_EQ(flags.value().values[0].second, "/a");
  EXPECT_EQ(flags.value().values[1].first, "arena.budget");
  EXPECT_TRUE(flags.value().user);
}

TEST(FlagsTest, UnknownAndUnfinishedFlagsAreRefused) {
  EXPECT_FALSE(ParseFlags({"--stat-dir", "/a"}).has_value());
  EXPECT_FALSE(ParseFlags({"--state-dir"}).has_value());
  EXPECT_FALSE(ParseFlags({"--state-dir="}).has_value());
  EXPECT_FALSE(ParseFlags({"serve"}).has_value());
  EXPECT_FALSE(ParseFlags({"--user=yes"}).has_value());
}

}  // namespace
}  // namespace holdfast::daemon
