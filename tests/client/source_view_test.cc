#include "client/source_view.h"

#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace holdfast::client {
namespace {

using Shape = std::vector<std::uint64_t>;
using Strides = std::vector<std::int64_t>;

std::vector<std::uint16_t> Numbers(std::size_t count) {
  std::vector<std::uint16_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

std::vector<std::uint16_t> Gathered(const SourceView& view) {
  std::vector<std::uint16_t> out(view.Size() / 2);
  view.Gather(0, std::as_writable_bytes(std::span(out)));
  return out;
}

TEST(SourceViewTest, ContiguousStridesAreOneRun) {
  const auto numbers = Numbers(24);
  const auto view = SourceView::Strided(numbers.data(), Shape{2, 3, 4}, Strides{12, 4, 1}, 2);
  ASSERT_TRUE(view.has_value());
  EXPECT_EQ(view.value().RunBytes(), 48U);
  EXPECT_EQ(Gathered(view.value()), numbers);
}

TEST(SourceViewTest, TransposedViewIsReadInItsOwnOrder) {
  const auto numbers = Numbers(6);  // [[0,1,2],[3,4,5]]
  const auto view = SourceView::Strided(numbers.data(), Shape{3, 2}, Strides{1, 3}, 2);
  ASSERT_TRUE(view.has_value());
  EXPECT_EQ(Gathered(view.value()), (std::vector<std::uint16_t>{0, 3, 1, 4, 2, 5}));
}

TEST(SourceViewTest, SlicedRowsAreRunsOfARow) {
  const auto numbers = Numbers(20);
  const auto view = SourceView::Strided(numbers.data(), Shape{4, 3}, Strides{5, 1}, 2);
  ASSERT_TRUE(view.has_value());
  EXPECT_EQ(view.value().RunBytes(), 6U);
  EXPECT_EQ(Gathered(view.value()),
            (std::vector<std::uint16_t>{0, 1, 2, 5, 6, 7, 10, 11, 12, 15, 16, 17}));
}

TEST(SourceViewTest, ExpandedViewRepeatsItsElement) {
  const auto numbers = Numbers(3);
  const auto view = SourceView::Strided(numbers.data(), Shape{2, 3, 2}, Strides{0, 1, 0}, 2);
  ASSERT_TRUE(view.has_value());
  EXPECT_EQ(Gathered(view.value()),
            (std::vector<std::uint16_t>{0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2}));
}

TEST(SourceViewTest, EveryByteRangeOfAStridedViewIsThatOfTheWhole) {
  const auto numbers = Numbers(400);
  const auto view =
      SourceView::Strided(numbers.data(), Shape{5, 4, 6}, Strides{60, 2, 8}, 2).value();
  std::vector<std::byte> whole(view.Size());
  view.Gather(0, whole);
  for (std::size_t from = 0; from < whole.size(); from += 3) {
    for (std::size_t size = 0; from + size <= whole.size(); size += 7) {
      std::vector<std::byte> piece(size);
      view.Gather(from, piece);
      ASSERT_EQ(size == 0 ? 0 : std::memcmp(piece.data(), whole.data() + from, size), 0)
          << from << " " << size;
    }
  }
}

TEST(SourceViewTest, EmptyTensorHasNoBytes) {
  const auto view = SourceView::Strided(nullptr, Shape{3, 0, 2}, Strides{0, 2, 1}, 8);
  ASSERT_TRUE(view.has_value());
  EXPECT_EQ(view.value().Size(), 0U);
  view.value().Gather(0, {});
}

TEST(SourceViewTest, StridesThatLeaveTheAddressSpaceAreRefused) {
  const std::uint64_t huge = std::uint64_t{1} << 62;
  int base = 0;
  EXPECT_TRUE(SourceView::Strided(&base, Shape{2, 2}, Strides{-1, 1}, 4).has_error());
  EXPECT_TRUE(SourceView::Strided(&base, Shape{3}, Strides{static_cast<std::int64_t>(huge)}, 4)
                  .has_error());
  EXPECT_TRUE(SourceView::Strided(&base, Shape{huge, huge}, Strides{1, 1}, 4).has_error());
  EXPECT_TRUE(SourceView::Strided(&base, Shape{2}, Strides{1, 1}, 4).has_error());
}

}  // namespace
}  // namespace holdfast::client
