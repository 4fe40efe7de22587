#include "layout/tensor_box.h"

#include <random>
#include <set>

#include <gtest/gtest.h>

namespace holdfast::layout {
namespace {

constexpr std::uint64_t kHuge = ~std::uint64_t{0};

proto::Part PartOf(const std::vector<TensorBox>& boxes) {
  proto::Part part;
  for (const TensorBox& box : boxes) {
    proto::Box* out = part.add_boxes();
    out->mutable_offset()->Add(box.offset.begin(), box.offset.end());
    out->mutable_length()->Add(box.length.begin(), box.length.end());
  }
  return part;
}

// Row-major numbers, in a tensor of "shape", of the elements of "box", by plain counting.
std::vector<std::uint64_t> Elements(const TensorBox& box, ShapeView shape) {
  std::vector<std::uint64_t> numbers;
  const std::uint64_t count = ElementsOf(box);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t rest = i;
    std::uint64_t number = 0;
    std::uint64_t stride = 1;
    for (std::size_t d = shape.size(); d-- > 0;) {
      number += (box.offset[d] + rest % box.length[d]) * stride;
      rest /= box.length[d];
      stride *= shape[d];
    }
    numbers.push_back(number);
  }
  return numbers;
}

TEST(TensorBoxTest, CountsMultiplyAndKnowScalarsAndEmptyTensors) {
  EXPECT_EQ(ElementCount(Shape{}).value(), 1u);
  EXPECT_EQ(ElementCount(Shape{2, 3, 4}).value(), 24u);
  EXPECT_EQ(ElementCount(Shape{2, 0, 4}).value(), 0u);
  EXPECT_EQ(ElementCount(Shape{kMaxElements}).value(), kMaxElements);
}

TEST(TensorBoxTest, CountsThatOverflowAreRefusedEvenBesideAZero) {
  for (const Shape& shape : {Shape{kHuge, kHuge},
                             Shape{kMaxElements, 2},
                             Shape{kMaxElements + 1},
                             Shape{0, kHuge, 2},
                             Shape{kHuge, 0},
                             Shape(17, 1)}) {
    EXPECT_EQ(ElementCount(shape).error().code, Errc::kInvalidArgument) << ShapeText(shape);
  }
  // 2^32 * 2^32 is 0 modulo 2^64.
  EXPECT_FALSE(ElementCount(Shape{1ull << 32, 1ull << 32}).has_value());
}

TEST(TensorBoxTest, BoxesThatLeaveTheShapeAreRefused) {
  const Shape shape = {4, 6};
  EXPECT_TRUE(ValidateBox({{0, 0}, {4, 6}}, shape).has_value());
  EXPECT_TRUE(ValidateBox({{4, 6}, {0, 0}}, shape).has_value());
  EXPECT_TRUE(ValidateBox({{}, {}}, Shape{}).has_value());
  for (const TensorBox& box : {TensorBox{{0, 1}, {4, 6}},
                               TensorBox{{5, 0}, {0, 0}},
                               TensorBox{{kHuge, 0}, {2, 1}},
                               TensorBox{{1, 0}, {kHuge, 1}},
                               TensorBox{{0}, {4}},
                               TensorBox{{0, 0}, {4}},
                               TensorBox{{0, 0, 0}, {4, 6, 1}}}) {
    EXPECT_EQ(ValidateBox(box, shape).error().code, Errc::kInvalidArgument);
  }
}

TEST(TensorBoxTest, IntersectionIsCommutativeAndEmptyWhereBoxesOnlyTouch) {
  const TensorBox a{{0, 2}, {3, 4}};
  const TensorBox b{{2, 0}, {5, 3}};
  EXPECT_EQ(Intersect(a, b).value(), (TensorBox{{2, 2}, {1, 1}}));
  EXPECT_EQ(Intersect(b, a), Intersect(a, b));
  EXPECT_FALSE(Intersect(a, TensorBox{{3, 2}, {1, 4}}).has_value());
  EXPECT_FALSE(Intersect(a, TensorBox{{1, 2}, {0, 4}}).has_value());
  EXPECT_TRUE(Intersect(TensorBox{}, TensorBox{}).has_value());  // scalars
}

// Every flat range of many small boxes: the pieces, in order, are exactly the range.
TEST(TensorBoxTest, FlatRangesSplitIntoFewBoxesThatAreTheRange) {
  for (const Shape& lengths : {Shape{5},
                               Shape{3, 4},
                               Shape{1, 4},
                               Shape{4, 1},
                               Shape{2, 3, 4},
                               Shape{3, 1, 2, 2},
                               Shape{1, 1, 1}}) {
    TensorBox box{Shape(lengths.size(), 2), lengths};
    Shape shape = lengths;
    for (std::uint64_t& dim : shape) {
      dim += 3;
    }
    const std::vector<std::uint64_t> all = Elements(box, shape);
    for (std::size_t first = 0; first <= all.size(); ++first) {
      for (std::size_t count = 0; first + count <= all.size(); ++count) {
        std::vector<std::uint64_t> got;
        const auto pieces = SplitFlatRange(box, first, count);
        EXPECT_LE(pieces.size(), 2 * lengths.size() - 1);
        for (const TensorBox& piece : pieces) {
          ASSERT_TRUE(ValidateBox(piece, shape).has_value());
          const auto numbers = Elements(piece, shape);
          EXPECT_FALSE(numbers.empty());
          got.insert(got.end(), numbers.begin(), numbers.end());
        }
        const auto from = all.begin() + static_cast<std::ptrdiff_t>(first);
        EXPECT_EQ(got, std::vector(from, from + static_cast<std::ptrdiff_t>(count)));
      }
    }
  }
}

TEST(TensorBoxTest, FlatRangesOfScalarsAndEmptyBoxesSplit) {
  EXPECT_EQ(SplitFlatRange(TensorBox{}, 0, 1).size(), 1u);
  EXPECT_TRUE(SplitFlatRange(TensorBox{}, 1, 0).empty());
  EXPECT_TRUE(SplitFlatRange(TensorBox{{0, 1}, {3, 0}}, 0, 0).empty());
}

TEST(TensorBoxTest, AWholePartNeedsAsManyElementsAsItsShape) {
  EXPECT_TRUE(ValidatePart({}, Shape{2, 3}, Shape{2, 3}).has_value());
  EXPECT_TRUE(ValidatePart({}, Shape{2, 3}, Shape{6}).has_value());
  EXPECT_TRUE(ValidatePart({}, Shape{}, Shape{}).has_value());
  EXPECT_FALSE(ValidatePart({}, Shape{2, 3}, Shape{5}).has_value());
  EXPECT_FALSE(ValidatePart({}, Shape{0}, Shape{}).has_value());
}

TEST(TensorBoxTest, SeveralBoxesConcatenate) {
  const proto::Part qkv = PartOf({{{0, 0}, {2, 4}}, {{8, 0}, {1, 4}}, {{12, 0}, {1, 4}}});
  EXPECT_TRUE(ValidatePart(qkv, Shape{16, 4}, Shape{4, 4}).has_value());
  EXPECT_FALSE(ValidatePart(qkv, Shape{16, 4}, Shape{4, 5}).has_value());
}

TEST(TensorBoxTest, BoxesThatShareAnElementAreRefused) {
  EXPECT_FALSE(ValidatePart(PartOf({{{0, 0}, {2, 2}}, {{1, 1}, {2, 2}}}), Shape{4, 4}, Shape{8})
                   .has_value());
  EXPECT_FALSE(ValidatePart(PartOf({{{2, 0}, {2, 4}}, {{0, 0}, {3, 1}}}), Shape{4, 4}, Shape{11})
                   .has_value());
  EXPECT_FALSE(ValidatePart(PartOf({{}, {}}), Shape{}, Shape{2}).has_value());
  // Side by side, and an empty box in the middle of another, share nothing.
  EXPECT_TRUE(ValidatePart(PartOf({{{0, 2}, {4, 2}}, {{0, 0}, {4, 2}}, {{1, 1}, {0, 1}}}),
                           Shape{4, 4},
                           Shape{16})
                  .has_value());
}

// Overlap search against counting, on random pairs and triples of boxes.
TEST(TensorBoxTest, OverlapIsFoundExactlyWhereAnElementIsShared) {
  std::mt19937_64 random(1);
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    const Shape shape = {1 + random() % 4, 1 + random() % 4, 1 + random() % 3};
    std::vector<TensorBox> boxes;
    std::uint64_t total = 0;
    std::set<std::uint64_t> distinct;
    for (std::uint64_t i = 0; i < 2 + random() % 2; ++i) {
      TensorBox box;
      for (std::uint64_t dim : shape) {
        box.length.push_back(random() % (dim + 1));
        box.offset.push_back(random() % (dim - box.length.back() + 1));
      }
      for (std::uint64_t number : Elements(box, shape)) {
        distinct.insert(number);
        ++total;
      }
      boxes.push_back(box);
    }
    const bool valid = ValidatePart(PartOf(boxes), shape, Shape{total}).has_value();
    EXPECT_EQ(valid, distinct.size() == total);
    refused += valid ? 0 : 1;
  }
  EXPECT_GT(refused, 100);
}

TEST(TensorBoxTest, FlatRangesStayInsideTheConcatenation) {
  proto::Part part;
  part.set_has_flat_range(true);
  part.set_flat_offset(4);
  part.set_flat_length(2);
  EXPECT_TRUE(ValidatePart(part, Shape{2, 3}, Shape{2}).has_value());
  part.set_flat_offset(5);
  EXPECT_FALSE(ValidatePart(part, Shape{2, 3}, Shape{2}).has_value());
  part.set_flat_offset(kHuge);  // offset + length is 1 modulo 2^64
  EXPECT_FALSE(ValidatePart(part, Shape{2, 3}, Shape{2}).has_value());
  part.set_flat_offset(0);
  part.set_flat_length(kHuge);
  EXPECT_FALSE(ValidatePart(part, Shape{2, 3}, Shape{2}).has_value());
}

TEST(TensorBoxTest, NumbersOfARangeWithoutARangeAreRefused) {
  proto::Part part;
  part.set_flat_length(6);
  EXPECT_FALSE(ValidatePart(part, Shape{2, 3}, Shape{6}).has_value());
}

TEST(TensorBoxTest, AnOpaquePartNamesNothingElse) {
  proto::Part part;
  part.set_opaque(true);
  EXPECT_TRUE(ValidatePart(part, Shape{2, 3}, Shape{1000}).has_value());
  EXPECT_FALSE(ValidatePart(part, Shape{2, 3}, Shape{kHuge, 2}).has_value());
  part.set_flat_offset(1);
  EXPECT_FALSE(ValidatePart(part, Shape{2, 3}, Shape{6}).has_value());
  part = PartOf({{{0, 0}, {2, 3}}});
  part.set_opaque(true);
  EXPECT_FALSE(ValidatePart(part, Shape{2, 3}, Shape{6}).has_value());
}

TEST(TensorBoxTest, MoreBoxesThanAPartMayHaveAreRefused) {
  std::vector<TensorBox> boxes(kMaxBoxesPerPart + 1, TensorBox{{0}, {0}});
  EXPECT_FALSE(ValidatePart(PartOf(boxes), Shape{1}, Shape{0}).has_value());
  boxes.pop_back();
  EXPECT_TRUE(ValidatePart(PartOf(boxes), Shape{1}, Shape{0}).has_value());
}

}  // namespace
}  // namespace holdfast::layout
