#include "layout/image_header.h"

#include <gtest/gtest.h>

#include "layout/image.h"
#include "tests/layout/samples.h"

namespace holdfast::layout {
namespace {

// A file's head of the given JSON text, without padding.
std::string Head(std::string_view json) {
  std::string head(kHeaderLengthBytes, '\0');
  StoreLe64(head.data(), json.size());
  return head + std::string(json);
}

// Reads "json" as the header of a file with "data_bytes" behind it.
Result<std::vector<HeaderTensor>> Read(std::string_view json, ByteCount data_bytes) {
  const std::string head = Head(json);
  return ReadImageHeader(AsBytes(head), head.size() + data_bytes);
}

void ExpectCorrupt(std::string_view json, ByteCount data_bytes) {
  const auto read = Read(json, data_bytes);
  ASSERT_FALSE(read.has_value()) << json;
  EXPECT_EQ(read.error().code, Errc::kCorruption) << json;
  EXPECT_NE(read.error().message.find("image header: "), std::string::npos) << json;
}

TEST(ImageHeaderTest, WhatIsWrittenIsRead) {
  const proto::Layout layout = MixedLayout();
  for (proto::ImageKind kind : {proto::DYNAMIC, proto::STATIC}) {
    const std::string header = BuildImageHeader(layout, kind).value();
    EXPECT_EQ(header.size(), ImageHeaderBytes(layout, kind));
    const auto read = ReadImageHeader(AsBytes(header), ImageBytes(layout, kind)).value();
    std::size_t next = 0;
    for (const proto::TensorEntry& entry : layout.tensors()) {
      if (entry.image() != kind || !entry.alias_of().empty()) {
        continue;
      }
      ASSERT_LT(next, read.size());
      const HeaderTensor& tensor = read[next++];
      EXPECT_EQ(tensor.name, entry.name());
      EXPECT_EQ(tensor.offset_bytes, entry.offset_bytes());
      EXPECT_EQ(tensor.length_bytes, entry.length_bytes());
      if (entry.dtype() == proto::C128) {
        EXPECT_EQ(tensor.dtype, proto::U8);
        EXPECT_EQ(tensor.shape, Shape{entry.length_bytes()});
      } else {
        EXPECT_EQ(tensor.dtype, entry.dtype());
        EXPECT_EQ(tensor.shape, Shape(entry.local_shape().begin(), entry.local_shape().end()));
      }
    }
    EXPECT_EQ(next, read.size());
  }
}

TEST(ImageHeaderTest, EveryDataTypeMakesTheRoundTrip) {
  std::vector<TensorSpec> specs;
  for (int number = 1; number <= proto::DataType_MAX; ++number) {
    specs.push_back(
        WholeTensor("t" + std::to_string(number), static_cast<proto::DataType>(number), {3, 5}));
  }
  const proto::Layout layout = PlanImage(specs).value();
  const std::string header = BuildImageHeader(layout, proto::DYNAMIC).value();
  const auto read = ReadImageHeader(AsBytes(header), layout.dynamic_image_bytes());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read.value().size(), specs.size());
}

TEST(ImageHeaderTest, TheLengthCountsThePaddingAndTheJsonIsPlain) {
  const proto::Layout layout = PlanImage(std::vector{WholeTensor("w", proto::F32, {2, 3})}).value();
  const std::string header = BuildImageHeader(layout, proto::DYNAMIC).value();
  ASSERT_EQ(header.size(), 4096u);
  EXPECT_EQ(LoadLe64(header.data()), 4088u);
  const std::string json = R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
  EXPECT_EQ(header.substr(8, json.size()), json);
  EXPECT_EQ(header.find_first_not_of(' ', 8 + json.size()), std::string::npos);
}

// The JSON fills the page exactly, or needs one byte of the next.
TEST(ImageHeaderTest, PaddingIsExactAtTheEdgeOfAPage) {
  const std::string frame = R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                            R"("":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                            R"("":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},)"
                            R"("":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}})";
  const std::size_t room = 4096 - 8 - frame.size() - 3000;
  for (std::size_t extra : {0u, 1u}) {
    std::vector<TensorSpec> specs;
    for (char c : {'a', 'b', 'c'}) {
      specs.push_back(WholeTensor(std::string(1000, c), proto::U8, {1}));
    }
    specs.push_back(WholeTensor(std::string(room + extra, 'd'), proto::U8, {1}));
    const proto::Layout layout = PlanImage(specs).value();
    EXPECT_EQ(layout.dynamic_header_bytes(), extra == 0 ? 4096u : 8192u);
    const std::string header = BuildImageHeader(layout, proto::DYNAMIC).value();
    EXPECT_TRUE(ReadImageHeader(AsBytes(header), layout.dynamic_image_bytes()).has_value());
  }
}

TEST(ImageHeaderTest, ThereIsNoHeaderOfAnImageThatIsNotThere) {
  const proto::Layout layout = PlanImage({}).value();
  EXPECT_EQ(BuildImageHeader(layout, proto::STATIC).error().code, Errc::kNotFound);
}

TEST(ImageHeaderTest, LayoutsThatContradictTheirHeaderAreNotWritten) {
  proto::Layout layout = MixedLayout();
  layout.set_dynamic_header_bytes(1ull << 60);
  EXPECT_EQ(BuildImageHeader(layout, proto::DYNAMIC).error().code, Errc::kInvalidArgument);
  layout = MixedLayout();
  layout.set_dynamic_header_bytes(8192);
  EXPECT_EQ(BuildImageHeader(layout, proto::DYNAMIC).error().code, Errc::kInvalidArgument);
  layout = MixedLayout();
  layout.mutable_tensors(0)->set_offset_bytes(1);
  EXPECT_EQ(BuildImageHeader(layout, proto::DYNAMIC).error().code, Errc::kInvalidArgument);
}

TEST(ImageHeaderTest, FilesOfOtherWritersAreRead) {
  const auto read = Read(R"({ "__metadata__" : {"format":"pt"},
      "b":{"shape":[2],"data_offsets":[4,8],"dtype":"BF16"},
      "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]} }  )",
                         8)
                        .value();
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].name, "a");
  EXPECT_EQ(read[1].name, "b");
  EXPECT_EQ(read[1].shape, Shape{2});
  EXPECT_TRUE(Read("{}", 0).value().empty());
}

TEST(ImageHeaderTest, HolesOverlapsAndTrailingBytesAreRefused) {
  const std::string a = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)";
  ASSERT_TRUE(Read(a + R"("b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})", 6).has_value());
  ExpectCorrupt(a + R"("b":{"dtype":"U8","shape":[2],"data_offsets":[5,7]}})", 7);
  ExpectCorrupt(a + R"("b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})", 5);
  ExpectCorrupt(a + R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  ExpectCorrupt(a + R"("b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})", 7);
  ExpectCorrupt(a + R"("b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})", 5);
  ExpectCorrupt(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}})", 5);
  ExpectCorrupt("{}", 1);
}

TEST(ImageHeaderTest, LengthsThatAreNotDtypeTimesShapeAreRefused) {
  ExpectCorrupt(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4);
  ExpectCorrupt(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8);
  ExpectCorrupt(R"({"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}})", 4);
  ExpectCorrupt(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0);
  ExpectCorrupt(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,0]}})", 0);
}

TEST(ImageHeaderTest, TextOutsideOfTheGrammarIsRefused) {
  const char* texts[] = {
      "",
      " {}",
      "\xef\xbb\xbf{}",
      "[]",
      "null",
      "{} {}",
      "{",
      R"({"a":null})",
      R"({"a":1})",
      R"({"a":"x"})",
      R"({"a":[]})",
      R"({"a":{}})",
      R"({"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[0]}})",
      R"({"a":{"dtype":"U8","data_offsets":[0,0]}})",
      R"({"a":{"shape":[0],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}})",
      R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}})",
      R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"more":1}})",
      R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U9","shape":[0],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"C128","shape":[0],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":8,"shape":[0],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[0.0],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[0,1e400],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[0,18446744073709551616],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[[0]],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":{},"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":0,"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[0,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,0]}})",
      R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
      R"({"__metadata__":{"a":1}})",
      R"({"__metadata__":{"a":{}}})",
      R"({"__metadata__":[]})",
      R"({"__metadata__":{},"__metadata__":{}})",
      "{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
      R"({"\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
  };
  ASSERT_TRUE(Read(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0).has_value());
  for (const char* text : texts) {
    ExpectCorrupt(text, 0);
  }
}

TEST(ImageHeaderTest, DeepNestingEndsAtItsFirstLevel) {
  ExpectCorrupt("{\"a\":" + std::string(1'000'000, '['), 0);
  ExpectCorrupt("{\"a\":{\"shape\":" + std::string(1'000'000, '['), 0);
}

TEST(ImageHeaderTest, HostileLengthsAreRefusedBeforeAnythingIsAllocated) {
  const std::string head = Head("{}");
  for (std::uint64_t length : {std::uint64_t{3},
                               kMaxHeaderJsonBytes,
                               kMaxHeaderJsonBytes + 1,
                               ~std::uint64_t{0},
                               ~std::uint64_t{0} - 7}) {
    std::string hostile = head;
    StoreLe64(hostile.data(), length);
    EXPECT_EQ(HeaderBytesFromPrefix(AsBytes(hostile), hostile.size()).error().code,
              Errc::kCorruption);
    EXPECT_FALSE(ReadImageHeader(AsBytes(hostile), hostile.size()).has_value());
  }
  std::string large = head;
  StoreLe64(large.data(), kMaxHeaderJsonBytes + 1);
  EXPECT_FALSE(HeaderBytesFromPrefix(AsBytes(large), 1ull << 40).has_value());
  StoreLe64(large.data(), kMaxHeaderJsonBytes);
  EXPECT_EQ(HeaderBytesFromPrefix(AsBytes(large), 1ull << 40).value(), kMaxHeaderJsonBytes + 8);
  EXPECT_FALSE(ReadImageHeader(AsBytes(large), 1ull << 40).has_value()) << "only the head is there";
}

TEST(ImageHeaderTest, EveryTruncationIsAnError) {
  const proto::Layout layout = MixedLayout();
  const std::string header = BuildImageHeader(layout, proto::DYNAMIC).value();
  for (std::size_t length = 0; length < header.size(); ++length) {
    const std::string cut = header.substr(0, length);
    EXPECT_FALSE(ReadImageHeader(AsBytes(cut), layout.dynamic_image_bytes()).has_value());
    EXPECT_FALSE(ReadImageHeader(AsBytes(cut), length).has_value());
  }
}

// A header has no digest of its own (the chunk digests cover it): a flip may change a name, but
// what is read always tiles the file.
TEST(ImageHeaderTest, EveryBitFlipIsAnErrorOrStillTilesTheFile) {
  const proto::Layout layout = MixedLayout();
  const std::string header = BuildImageHeader(layout, proto::DYNAMIC).value();
  const std::size_t text_end = header.find_last_not_of(' ') + 3;
  int refused = 0;
  for (std::size_t bit = 0; bit < text_end * 8; ++bit) {
    std::string flipped = header;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const auto read = ReadImageHeader(AsBytes(flipped), layout.dynamic_image_bytes());
    if (!read) {
      ++refused;
      continue;
    }
    ByteCount at = header.size();
    for (const HeaderTensor& tensor : read.value()) {
      EXPECT_EQ(tensor.offset_bytes, at);
      at += tensor.length_bytes;
    }
    EXPECT_EQ(at, layout.dynamic_image_bytes());
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace holdfast::layout
