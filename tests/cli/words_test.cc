// Text, tables, names of snapshots, exits and sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/config_load.h"
#include "cli/exit_code.h"
#include "cli/snapshot_spec.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/touched_tensors.h"

namespace holdfast::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(TextTest, WhatCouldHaveBeenNamedIsTold) {
  EXPECT_EQ(InsteadText({}), "");
  EXPECT_EQ(InsteadText({"a"}), "; there is a");
  EXPECT_EQ(InsteadText({"a", "b"}), "; there are a, b");
  EXPECT_EQ(InsteadText(std::vector<std::string>(9, "x")),
            "; there are x, x, x, x, x, x, x, x, ...");
}

TEST(TextTest, ControlCharactersOfOthersNeverReachTheTerminal) {
  EXPECT_EQ(SafeText("a\x1b[2Kb"), "a\\x1b[2Kb");
  EXPECT_EQ(SafeText("line\nnext\r"), "line\\x0anext\\x0d");
  EXPECT_EQ(SafeText("\xc2\x9b"
                     "31m"),
            "\\xc2\\x9b31m");  // C1 control sequence introducer
  EXPECT_EQ(SafeText("\xe2\x80\xae"
                     "dab"),
            "\\xe2\\x80\\xaedab");                // right-to-left override
  EXPECT_EQ(SafeText("\xff\xc3"), "\\xff\\xc3");  // no UTF-8, cut UTF-8
  EXPECT_EQ(SafeText("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
}

TEST(TextTest, ShortTextIsCutBetweenCharacters) {
  EXPECT_EQ(ShortText("abcdef", 6), "abcdef");
  EXPECT_EQ(ShortText("abcdefg", 6), "abc...");
  EXPECT_EQ(ShortText("\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc", 4), "\xc3\xbc...");
}

TEST(TextTest, DurationsShowTwoUnits) {
  EXPECT_EQ(FormatDuration(std::chrono::seconds(42)), "42s");
  EXPECT_EQ(FormatDuration(std::chrono::seconds(187)), "3m 07s");
  EXPECT_EQ(FormatDuration(std::chrono::seconds(5 * 3600 + 12 * 60)), "5h 12m");
  EXPECT_EQ(FormatDuration(std::chrono::seconds(51 * 3600)), "2d 03h");
  EXPECT_EQ(FormatDuration(std::chrono::seconds(-1)), "0s");
}

TEST(TextTest, TheBarIsFullOnlyWhenNothingIsLeft) {
  EXPECT_EQ(Bar(0, 100, 10), "[..........]");
  EXPECT_EQ(Bar(50, 100, 10), "[#####.....]");
  EXPECT_EQ(Bar(99, 100, 10), "[#########.]");
  EXPECT_EQ(Bar(100, 100, 10), "[##########]");
  EXPECT_EQ(Bar(500, 100, 10), "[##########]");
  EXPECT_EQ(Bar(0, 0, 4), "[....]");
}

TEST(TextTest, RanksAreShownAsRanges) {
  EXPECT_EQ(RankRanges({3, 1, 2, 7, 9, 8, 2}), "1-3, 7-9");
  EXPECT_EQ(RankRanges({5}), "5");
  EXPECT_EQ(RankRanges({}), "");
}

TEST(TextTest, TimesThatCannotBeAreUnknown) {
  EXPECT_EQ(TimeText(1'700'000'000'000), "2023-11-14 22:13:20 UTC");
  EXPECT_EQ(TimeText(0), "unknown");
  EXPECT_EQ(TimeText(~std::uint64_t{0}), "unknown");
}

TEST(TableTest, ColumnsAlignAndEmptyOnesAreLeftOut) {
  Table table({"NAME", "EMPTY", "N"}, {Align::kLeft, Align::kLeft, Align::kRight});
  table.AddRow({"a", "", "1"});
  table.AddRow({"long\x1bname", "", "100"});
  EXPECT_EQ(table.Render("  "),
            "  NAME            N\n"
            "  a               1\n"
            "  long\\x1bname  100\n");
}

TEST(SnapshotSpecTest, OnlyTheDocumentedFormsAreRead) {
  EXPECT_EQ(ParseSnapshotSpec("1200").value().step, 1200);
  EXPECT_EQ(ParseSnapshotSpec("1200@7").value().incarnation, 7U);
  EXPECT_TRUE(ParseSnapshotSpec("newest").value().newest);
  for (const char* bad : {"",
                          "@",
                          "1@",
                          "@1",
                          "-1",
                          "1@-1",
                          "1@0",
                          "1 ",
                          "1x",
                          "0x1",
                          "+1",
                          "99999999999999999999",
                          "1@99999999999999999999999",
                          "latest",
                          "1@2@3"}) {
    const auto spec = ParseSnapshotSpec(bad);
    ASSERT_FALSE(spec) << bad;
    EXPECT_EQ(spec.error().code, Errc::kInvalidArgument) << bad;
  }
}

proto::ListReply Listed(const std::vector<std::tuple<int, int, std::string>>& snapshots) {
  proto::ListReply reply;
  for (const auto& [incarnation, step, state] : snapshots) {
    proto::SnapshotInfo* snapshot = reply.add_snapshots();
    snapshot->set_job_name("j");
    snapshot->mutable_id()->set_incarnation(static_cast<std::uint64_t>(incarnation));
    snapshot->mutable_id()->set_step(step);
    snapshot->set_state(state);
  }
  return reply;
}

TEST(SnapshotSpecTest, AStepOfTwoHistoriesIsNeverGuessed) {
  const auto listing = Listed({{7, 10, "complete"}, {6, 10, "durable"}});
  const auto found = FindSnapshot(listing, "j", ParseSnapshotSpec("10").value());
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(found.error().message, HasSubstr("10@7, 10@6"));
  EXPECT_EQ(
      FindSnapshot(listing, "j", ParseSnapshotSpec("10@6").value()).value().id().incarnation(), 6U);
}

TEST(SnapshotSpecTest, AnAbandonedIdDoesNotMakeAStepAmbiguous) {
  const auto listing = Listed({{7, 10, "abandoned"}, {6, 10, "complete"}});
  EXPECT_EQ(FindSnapshot(listing, "j", ParseSnapshotSpec("10").value()).value().id().incarnation(),
            6U);
}

TEST(SnapshotSpecTest, NewestSkipsWhatNoRestoreWouldChoose) {
  auto listing =
      Listed({{7, 30, "filling"}, {7, 20, "sealed"}, {7, 15, "complete"}, {7, 10, "complete"}});
  listing.mutable_snapshots(2)->set_discarded(true);
  EXPECT_EQ(FindSnapshot(listing, "j", ParseSnapshotSpec("newest").value()).value().id().step(),
            10);
  EXPECT_EQ(FindSnapshot(listing, "x", ParseSnapshotSpec("newest").value()).error().code,
            Errc::kNotFound);
}

TEST(ExitCodeTest, ExitsAreThoseOfTheManual) {
  EXPECT_EQ(static_cast<int>(ExitCodeOf(Errc::kInternal)), 1);
  EXPECT_EQ(static_cast<int>(ExitCodeOf(Errc::kInvalidArgument)), 2);
  EXPECT_EQ(static_cast<int>(ExitCodeOf(Errc::kCorruption)), 3);
  EXPECT_EQ(static_cast<int>(ExitCodeOf(Errc::kPermission)), 5);
  EXPECT_EQ(static_cast<int>(ExitCodeOf(Errc::kAlreadyExists)), 5);
  EXPECT_EQ(static_cast<int>(ExitCodeOf(Errc::kNotFound)), 6);
  EXPECT_EQ(static_cast<int>(ExitCodeOf(static_cast<Errc>(200))), 1);  // from a newer daemon
}

TEST(SocketTest, ANamedSocketIsTheOnlyOneTried) {
  const Environment environment{.holdfast_socket = "/env", .xdg_state_home = "/x", .home = "/h"};
  EXPECT_THAT(SocketCandidates("/flag", environment), ElementsAre("/flag"));
  EXPECT_THAT(SocketCandidates("", environment), ElementsAre("/env"));
}

TEST(SocketTest, TheUsersDaemonComesBeforeTheSystems) {
  EXPECT_THAT(SocketCandidates("", {"", "/x", "/h"}),
              ElementsAre("/x/holdfast/holdfastd.sock", "/run/holdfast/holdfastd.sock"));
  EXPECT_THAT(
      SocketCandidates("", {"", "relative", "/h"}),
      ElementsAre("/h/.local/state/holdfast/holdfastd.sock", "/run/holdfast/holdfastd.sock"));
  EXPECT_THAT(SocketCandidates("", {}), ElementsAre("/run/holdfast/holdfastd.sock"));
}

TEST(TouchedTensorsTest, ChunksNameTheTensorsThatHaveAByteInThem) {
  proto::Layout layout;
  layout.set_dynamic_header_bytes(4096);
  const auto add = [&](const char* name, std::uint64_t offset, std::uint64_t length) {
    proto::TensorEntry* tensor = layout.add_tensors();
    tensor->set_name(name);
    tensor->set_offset_bytes(offset);
    tensor->set_length_bytes(length);
  };
  add("a", 4096, kMiB - 4096);
  add("b", kMiB, 2 * kMiB);
  add("empty", 3 * kMiB, 0);
  add("c", 3 * kMiB, 1);
  EXPECT_THAT(TouchedTensors(layout, proto::DYNAMIC, {0}), ElementsAre(kImageHeaderName, "a"));
  EXPECT_THAT(TouchedTensors(layout, proto::DYNAMIC, {1}), ElementsAre("b"));
  EXPECT_THAT(TouchedTensors(layout, proto::DYNAMIC, {2, 3}), ElementsAre("b", "c"));
  EXPECT_THAT(TouchedTensors(layout, proto::STATIC, {1}), ElementsAre());
  EXPECT_THAT(TouchedTensors(layout, proto::DYNAMIC, {}), ElementsAre());
}

}  // namespace
}  // namespace holdfast::cli
