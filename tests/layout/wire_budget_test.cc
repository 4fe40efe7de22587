#include "layout/wire_budget.h"

#include <gtest/gtest.h>

#include "proto/manifest.pb.h"
#include "tests/layout/samples.h"

namespace holdfast::layout {
namespace {

Status Check(const std::string& bytes, std::uint64_t max_elements) {
  return CheckWireBudget(*proto::Sidecar::descriptor(), AsBytes(bytes), max_elements);
}

TEST(WireBudgetTest, CountsWhatAValidSidecarHas) {
  // 9 tensors, 1 box, 2 images, 2 items of state.
  const std::string bytes = SampleSidecar().SerializeAsString();
  EXPECT_TRUE(Check(bytes, 14).has_value());
  EXPECT_EQ(Check(bytes, 13).error().code, Errc::kCorruption);
}

TEST(WireBudgetTest, TwoByteElementsAreCountedAtEveryDepth) {
  proto::Sidecar sidecar;
  for (int i = 0; i < 100; ++i) {
    sidecar.mutable_layout()->add_tensors();
    sidecar.mutable_group()->add_member_node_uuids("");
    sidecar.mutable_layout()->mutable_tensors(0)->mutable_part()->add_boxes();
  }
  EXPECT_TRUE(Check(sidecar.SerializeAsString(), 300).has_value());
  EXPECT_FALSE(Check(sidecar.SerializeAsString(), 299).has_value());
}

TEST(WireBudgetTest, PackedNumbersAreNotElements) {
  proto::Sidecar sidecar;
  for (int i = 0; i < 100; ++i) {
    sidecar.add_images()->add_chunk_crc32c(1);
    sidecar.mutable_images(0)->add_chunk_crc32c(2);
  }
  EXPECT_TRUE(Check(sidecar.SerializeAsString(), 100).has_value());
}

// The parser keeps them, each in an object of its own.
TEST(WireBudgetTest, UnknownFieldsAreElements) {
  const std::string unknown_number = std::string("\xa2\x1f\x00", 3);  // field 500, empty text
  const std::string unknown_wire_type = std::string("\x0a\x00", 2);   // format_version as text
  const std::string unknown_varint = std::string("\xa0\x1f\x00", 3);
  for (const std::string& field : {unknown_number, unknown_wire_type, unknown_varint}) {
    std::string bytes;
    for (int i = 0; i < 100; ++i) {
      bytes += field;
    }
    proto::Sidecar sidecar;
    ASSERT_TRUE(sidecar.ParseFromString(bytes));
    EXPECT_TRUE(Check(bytes, 100).has_value());
    EXPECT_FALSE(Check(bytes, 99).has_value());
  }
}

TEST(WireBudgetTest, BytesThatAreNoMessageAreRefused) {
  const std::string valid = SampleSidecar().SerializeAsString();
  for (const std::string& bytes : {std::string("\x00", 1),
                                   std::string("\x0b"),
                                   std::string("\x12\xff\xff\xff\xff\x0f"),
                                   std::string("\x12\x05\x0a"),
                                   std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
                                   std::string("\x0c"),
                                   valid.substr(0, valid.size() - 1)}) {
    EXPECT_EQ(Check(bytes, 1000).error().code, Errc::kCorruption);
  }
}

}  // namespace
}  // namespace holdfast::layout
