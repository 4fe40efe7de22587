#include "layout/dtype.h"

#include <map>
#include <string>

#include <gtest/gtest.h>

namespace holdfast::layout {
namespace {

// Written down by hand from torch's element_size() and safetensors' list, not from the table.
TEST(DtypeTest, EveryTypeHasTheSizeThatTorchGivesIt) {
  const std::map<std::string, ByteCount> sizes = {
      {"BOOL", 1},    {"U8", 1},  {"I8", 1},    {"I16", 2},         {"U16", 2},
      {"I32", 4},     {"U32", 4}, {"I64", 8},   {"U64", 8},         {"F16", 2},
      {"BF16", 2},    {"F32", 4}, {"F64", 8},   {"F8_E4M3", 1},     {"F8_E5M2", 1},
      {"F8_E8M0", 1}, {"C64", 8}, {"C128", 16}, {"F8_E4M3FNUZ", 1}, {"F8_E5M2FNUZ", 1},
      {"F4_X2", 1},
  };
  EXPECT_EQ(sizes.size(), static_cast<std::size_t>(proto::DataType_MAX));
  for (const auto& [name, bytes] : sizes) {
    const auto dtype = ParseDataType(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_EQ(ElementBytes(dtype.value()).value(), bytes) << name;
    EXPECT_EQ(DataTypeName(dtype.value()).value(), name);
    EXPECT_EQ(proto::DataType_Name(dtype.value()), name);
  }
}

TEST(DtypeTest, TypesThatSafetensorsLacksAreBytesInTheHeader) {
  for (proto::DataType dtype :
       {proto::C128, proto::F8_E4M3FNUZ, proto::F8_E5M2FNUZ, proto::F4_X2}) {
    EXPECT_FALSE(SafetensorsKnows(dtype));
    EXPECT_EQ(HeaderDataTypeName(dtype).value(), "U8");
    EXPECT_FALSE(ParseHeaderDataType(DataTypeName(dtype).value()).has_value());
  }
}

TEST(DtypeTest, TypesThatSafetensorsHasKeepTheirNames) {
  for (int number = 1; number <= proto::C64; ++number) {
    const auto dtype = static_cast<proto::DataType>(number);
    EXPECT_TRUE(SafetensorsKnows(dtype));
    EXPECT_EQ(HeaderDataTypeName(dtype).value(), DataTypeName(dtype).value());
    EXPECT_EQ(ParseHeaderDataType(DataTypeName(dtype).value()).value(), dtype);
  }
}

TEST(DtypeTest, NumbersOutsideOfTheEnumerationAreErrors) {
  for (int number : {-1, 0, proto::DataType_MAX + 1, 1 << 30}) {
    const auto dtype = static_cast<proto::DataType>(number);
    EXPECT_EQ(ElementBytes(dtype).error().code, Errc::kInvalidArgument);
    EXPECT_EQ(DataTypeName(dtype).error().code, Errc::kInvalidArgument);
    EXPECT_EQ(HeaderDataTypeName(dtype).error().code, Errc::kInvalidArgument);
    EXPECT_FALSE(SafetensorsKnows(dtype));
  }
}

TEST(DtypeTest, NamesAreExact) {
  for (const char* name : {"", "f32", "F32 ", "float32", "DATA_TYPE_UNSPECIFIED"}) {
    EXPECT_EQ(ParseDataType(name).error().code, Errc::kInvalidArgument) << name;
  }
}

}  // namespace
}  // namespace holdfast::layout
