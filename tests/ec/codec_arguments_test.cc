// Wrong arguments of the codec are an error that leaves every output as it was; nothing around an
// output is ever written.
#include <gtest/gtest.h>

#include "ec/codec.h"
#include "tests/ec/reference.h"

namespace holdfast::ec {
namespace {

class CodecArgumentsTest : public ::testing::Test {
 protected:
  // That "status" is kInvalidArgument and that no byte has changed.
  void ExpectRefused(const Status& status) const {
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, Errc::kInvalidArgument);
    EXPECT_EQ(memory_, before_);
  }

  [[nodiscard]] MutableByteView At(std::size_t offset, std::size_t size) {
    return MutableByteView(memory_).subspan(offset, size);
  }

  const Bytes before_ = RandomBytes(4096, 5);
  Bytes memory_ = before_;
  Codec codec_ = Codec::Make({.data = 3, .parity = 2}).value();
  std::vector<ByteView> segments_ = {At(0, 100), At(100, 100), At(200, 60)};
  std::vector<MutableByteView> rows_ = {At(300, 100), At(400, 100)};
};

TEST_F(CodecArgumentsTest, CountsThatDoNotFitTheCodeAreRefused) {
  ExpectRefused(codec_.Encode(std::span(segments_).first(2), rows_));
  ExpectRefused(codec_.Encode({}, rows_));
  ExpectRefused(codec_.Encode(segments_, std::span(rows_).first(1)));
  ExpectRefused(codec_.Encode(segments_, {}));
  ExpectRefused(codec_.EncodeRow(2, segments_, rows_[0]));
  ExpectRefused(codec_.EncodeRow(~0u, segments_, rows_[0]));
  ExpectRefused(codec_.EncodeRow(0, std::span(segments_).first(2), rows_[0]));
  ExpectRefused(codec_.Add(3, segments_[0], rows_));
  ExpectRefused(codec_.Add(~0u, segments_[0], rows_));
  ExpectRefused(codec_.Add(0, segments_[0], std::span(rows_).first(1)));
}

TEST_F(CodecArgumentsTest, RowsThatAreNotAsLongAsTheLongestSegmentAreRefused) {
  rows_[1] = At(400, 99);
  ExpectRefused(codec_.Encode(segments_, rows_));
  rows_[1] = At(400, 101);
  ExpectRefused(codec_.Encode(segments_, rows_));
  ExpectRefused(codec_.EncodeRow(1, segments_, At(400, 99)));
  ExpectRefused(codec_.Add(0, At(0, 102), rows_));
}

TEST_F(CodecArgumentsTest, OverlappingRangesAreRefused) {
  rows_[1] = At(399, 100);  // the other row
  ExpectRefused(codec_.Encode(segments_, rows_));
  rows_[1] = At(259, 100);  // the last byte of a segment
  ExpectRefused(codec_.Encode(segments_, rows_));
  rows_[1] = rows_[0];
  ExpectRefused(codec_.Encode(segments_, rows_));
  ExpectRefused(codec_.Add(0, rows_[0], std::vector{rows_[0], At(500, 100)}));
  ExpectRefused(codec_.EncodeRow(0, segments_, At(0, 100)));
}

TEST_F(CodecArgumentsTest, DecodersCheckTheirRangesToo) {
  const Decoder decoder =
      codec_.MakeDecoder(std::vector<std::uint32_t>{0, 1, 3}, std::vector<std::uint32_t>{2, 4})
          .value();
  const std::vector<ByteView> sources = {At(0, 100), At(100, 100), At(200, 100)};
  ExpectRefused(decoder.Decode(sources, std::span(rows_).first(1)));
  ExpectRefused(decoder.Decode(std::span(sources).first(2), rows_));
  ExpectRefused(decoder.Decode(sources, std::vector{At(300, 100), At(400, 101)}));
  ExpectRefused(decoder.Decode(sources, std::vector{At(299, 100), At(400, 100)}));
  ExpectRefused(decoder.Decode(sources, std::vector{At(300, 100), At(350, 100)}));
}

TEST_F(CodecArgumentsTest, NothingBesideTheOutputsIsWritten) {
  ASSERT_TRUE(codec_.Encode(segments_, rows_).has_value());
  std::copy(before_.begin() + 300, before_.begin() + 500, memory_.begin() + 300);
  EXPECT_EQ(memory_, before_);
}

TEST_F(CodecArgumentsTest, EmptyWindowsAreNothing) {
  const std::vector<ByteView> none(3);
  const std::vector<MutableByteView> outputs(2);
  EXPECT_TRUE(codec_.Encode(none, outputs).has_value());
  EXPECT_TRUE(codec_.Add(1, {}, rows_).has_value());
  EXPECT_EQ(memory_, before_);
}

TEST_F(CodecArgumentsTest, SourcesMayOverlapEachOther) {
  segments_ = {At(0, 100), At(0, 100), At(50, 100)};
  EXPECT_TRUE(codec_.Encode(segments_, rows_).has_value());
}

}  // namespace
}  // namespace holdfast::ec
