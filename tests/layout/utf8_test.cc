#include "layout/utf8.h"

#include <string>

#include <gtest/gtest.h>

namespace holdfast::layout {
namespace {

TEST(Utf8Test, WellFormedTextOfEveryLengthIsAccepted) {
  EXPECT_TRUE(IsUtf8(""));
  EXPECT_TRUE(IsUtf8("layers.0.weight"));
  EXPECT_TRUE(
      IsUtf8("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
  EXPECT_TRUE(IsUtf8("\xed\x9f\xbf\xee\x80\x80"));  // both neighbours of the surrogates
}

TEST(Utf8Test, OverlongSurrogateAndTooLargeFormsAreRefused) {
  for (const char* text : {"\xc0\x80",
                           "\xc1\xbf",
                           "\xe0\x9f\xbf",
                           "\xf0\x8f\xbf\xbf",
                           "\xed\xa0\x80",
                           "\xed\xbf\xbf",
                           "\xf4\x90\x80\x80",
                           "\xf8\x88\x80\x80\x80",
                           "\xff",
                           "\x80",
                           "a\xbf"}) {
    EXPECT_FALSE(IsUtf8(text)) << Quoted(text);
  }
}

TEST(Utf8Test, CutSequencesAreRefused) {
  const std::string four = "\xf0\x9f\x98\x80";
  for (std::size_t length = 1; length < four.size(); ++length) {
    EXPECT_FALSE(IsUtf8(four.substr(0, length))) << length;
    EXPECT_FALSE(IsUtf8(four.substr(0, length) + "a")) << length;
  }
}

TEST(Utf8Test, QuotedTextIsOneShortAsciiLine) {
  EXPECT_EQ(Quoted("a\"b\\c\n\x1b\xc3\xa9"), "\"a\\\"b\\\\c\\x0a\\x1b\\xc3\\xa9\"");
  const std::string shown = Quoted(std::string(5000, 'x'));
  EXPECT_LT(shown.size(), 200u);
  EXPECT_NE(shown.find("5000 bytes"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::layout
