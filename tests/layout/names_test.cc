#include "layout/names.h"

#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "tests/layout/samples.h"

namespace holdfast::layout {
namespace {

proto::SnapshotId Id(std::uint64_t incarnation, std::int64_t step) {
  proto::SnapshotId id = SampleId();
  id.set_incarnation(incarnation);
  id.set_step(step);
  return id;
}

TEST(NamesTest, FolderNamesAreStableAndReadBack) {
  EXPECT_EQ(SnapshotFolderName(Id(7, 1200)), "step-00001200.i0007");
  EXPECT_EQ(SnapshotFolderName(Id(1, 0)), "step-00000000.i0001");
  EXPECT_EQ(SnapshotFolderName(Id(12345, 123456789)), "step-123456789.i12345");
  for (const proto::SnapshotId& id :
       {Id(7, 1200),
        Id(1, 0),
        Id(12345, 123456789),
        Id(~std::uint64_t{0}, std::numeric_limits<std::int64_t>::max())}) {
    const auto parsed = ParseSnapshotFolderName(SnapshotFolderName(id), id.job_uid());
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(parsed.value().SerializeAsString(), id.SerializeAsString());
  }
}

TEST(NamesTest, OtherFolderNamesAreRefused) {
  for (const char* name : {"",
                           "step-",
                           "step-1200.i7",
                           "step-00001200.i7",
                           "step-000001200.i0007",
                           "step-00001200.i00007",
                           "step-00001200.i0000",
                           "step-00001200",
                           "step-00001200.i",
                           "step-00001200.i0007/",
                           "step-00001200.i0007 ",
                           " step-00001200.i0007",
                           "Step-00001200.i0007",
                           "step--0001200.i0007",
                           "step-+0001200.i0007",
                           "step-9223372036854775808.i0001",
                           "step-18446744073709551616.i0001",
                           "step-00000000.i18446744073709551616",
                           ".trash-step-00001200.i0007",
                           "LATEST",
                           "..",
                           "step-00001200.i0007.tmp"}) {
    EXPECT_EQ(ParseSnapshotFolderName(name, Uid('j')).error().code, Errc::kInvalidArgument) << name;
  }
  EXPECT_FALSE(
      ParseSnapshotFolderName(std::string_view("step-00001200.i0007\0", 20), Uid('j')).has_value());
  EXPECT_FALSE(ParseSnapshotFolderName("step-00001200.i0007", "short").has_value());
}

TEST(NamesTest, FilesOfSmallWorldsLieFlatAndOfLargeOnesInSubfolders) {
  EXPECT_EQ(RankFileName(0, 1), "rank-00000.safetensors");
  EXPECT_EQ(RankFileName(255, 256), "rank-00255.safetensors");
  EXPECT_EQ(RankFileName(0, 257), "r0000/rank-00000.safetensors");
  EXPECT_EQ(RankFileName(255, 257), "r0000/rank-00255.safetensors");
  EXPECT_EQ(RankFileName(300, 512), "r0256/rank-00300.safetensors");
  EXPECT_EQ(RankFileName(16383, 16384), "r16128/rank-16383.safetensors");
  EXPECT_EQ(RankFileName(123456, 200000), "r123392/rank-123456.safetensors");
  EXPECT_EQ(RankFileName(300, 512, proto::STATIC), "r0256/rank-00300.static.safetensors");
  EXPECT_EQ(SidecarFileName(3, 8), "rank-00003.meta");
  EXPECT_EQ(SidecarFileName(300, 512), "r0256/rank-00300.meta");
}

TEST(NamesTest, NoTwoRanksShareAFile) {
  for (std::uint32_t world : {256u, 1000u}) {
    std::set<std::string> names;
    for (std::uint32_t rank = 0; rank < world; ++rank) {
      names.insert(RankFileName(rank, world));
      names.insert(RankFileName(rank, world, proto::STATIC));
      names.insert(SidecarFileName(rank, world));
    }
    EXPECT_EQ(names.size(), 3 * world);
  }
}

TEST(NamesTest, JobNamesAreSafeComponentsOfAPath) {
  for (const std::string& name : {std::string("a"),
                                  std::string("..."),
                                  std::string(".hidden"),
                                  std::string("llama-7b_Run.3"),
                                  std::string(128, 'x')}) {
    EXPECT_TRUE(ValidateJobName(name).has_value()) << name;
  }
  for (const std::string& name : {std::string(),
                                  std::string("."),
                                  std::string(".."),
                                  std::string("a/b"),
                                  std::string("a b"),
                                  std::string("a\0b", 3),
                                  std::string("\xc3\xa9"),
                                  std::string("a\n"),
                                  std::string(129, 'x')}) {
    EXPECT_EQ(ValidateJobName(name).error().code, Errc::kInvalidArgument) << name;
  }
}

// I8: an id that is not complete could stand for snapshots of two histories.
TEST(NamesTest, IncompleteIdsAreRefused) {
  EXPECT_TRUE(ValidateSnapshotId(SampleId()).has_value());
  EXPECT_FALSE(ValidateSnapshotId({}).has_value());
  EXPECT_FALSE(ValidateSnapshotId(Id(0, 5)).has_value());
  EXPECT_FALSE(ValidateSnapshotId(Id(1, -1)).has_value());
  proto::SnapshotId id = SampleId();
  id.set_job_uid(std::string(15, 'j'));
  EXPECT_FALSE(ValidateSnapshotId(id).has_value());
}

TEST(NamesTest, RanksAreBelowABoundedWorldSize) {
  EXPECT_TRUE(ValidateRank(0, 1).has_value());
  EXPECT_TRUE(ValidateRank(kMaxWorldSize - 1, kMaxWorldSize).has_value());
  EXPECT_FALSE(ValidateRank(0, 0).has_value());
  EXPECT_FALSE(ValidateRank(1, 1).has_value());
  EXPECT_FALSE(ValidateRank(0, kMaxWorldSize + 1).has_value());
}

}  // namespace
}  // namespace holdfast::layout
