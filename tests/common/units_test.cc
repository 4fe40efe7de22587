#include "common/units.h"

#include <map>
#include <string>

#include <gtest/gtest.h>

namespace holdfast {
namespace {

TEST(UnitsTest, AlignUpKeepsWhatIsAligned) {
  EXPECT_EQ(AlignUp(0, 4096), 0U);
  EXPECT_EQ(AlignUp(1, 4096), 4096U);
  EXPECT_EQ(AlignUp(4096, 4096), 4096U);
  EXPECT_EQ(AlignUp(4097, 4096), 8192U);
}

TEST(UnitsTest, SizesAreReadInEveryNotation) {
  const std::map<std::string, ByteCount> sizes = {{"0", 0},
                                                  {"4096", 4096},
                                                  {"12B", 12},
                                                  {"64k", 64 * kKiB},
                                                  {"512MiB", 512 * kMiB},
                                                  {"512 mib", 512 * kMiB},
                                                  {"2Gb", 2 * kGiB},
                                                  {"1.5 GiB", kGiB + 512 * kMiB},
                                                  {"3TiB", 3072 * kGiB}};
  for (const auto& [text, bytes] : sizes) {
    const auto parsed = ParseBytes(text);
    ASSERT_TRUE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.value(), bytes) << text;
  }
}

TEST(UnitsTest, WhatIsNoSizeIsRefusedWithItsText) {
  for (const char* const bad :
       {"", " 1", "-1", "+1", ".5", "x", "MiB", "1 XiB", "1MiBs", "1e30", "9999999PiB", "nan"}) {
    const auto parsed = ParseBytes(bad);
    ASSERT_FALSE(parsed.has_value()) << bad;
    EXPECT_EQ(parsed.error().code, Errc::kInvalidArgument);
    EXPECT_NE(parsed.error().message.find(std::string("\"") + bad + "\""), std::string::npos);
  }
}

TEST(UnitsTest, TextHasThreeDigitsAndAUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.00 KiB");
  EXPECT_EQ(FormatBytes(15 * kMiB + 512 * kKiB), "15.5 MiB");
  EXPECT_EQ(FormatBytes(128 * kMiB), "128 MiB");
  EXPECT_EQ(FormatBytes(~ByteCount{0}), "16384 PiB");
}

}  // namespace
}  // namespace holdfast
