// I10: any m lost vectors of a stripe can be had from the others, because every square submatrix of
// the parity matrix can be inverted.
#include "ec/matrix.h"

#include <random>
#include <utility>

#include <gtest/gtest.h>

#include "tests/ec/reference.h"

namespace holdfast::ec {
namespace {

Matrix Parity(std::uint32_t k, std::uint32_t m) {
  return ParityMatrix({.data = k, .parity = m}).value();
}

// Gaussian elimination with the slow multiplication.
bool Invertible(std::vector<std::vector<std::uint8_t>> a) {
  const std::size_t n = a.size();
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t pivot = i;
    while (pivot < n && a[pivot][i] == 0) {
      ++pivot;
    }
    if (pivot == n) {
      return false;
    }
    std::swap(a[i], a[pivot]);
    const std::uint8_t inverse = SlowInverse(a[i][i]);
    for (std::size_t r = i + 1; r < n; ++r) {
      const std::uint8_t factor = SlowMultiply(a[r][i], inverse);
      for (std::size_t c = i; c < n; ++c) {
        a[r][c] ^= SlowMultiply(factor, a[i][c]);
      }
    }
  }
  return true;
}

bool SubmatrixInvertible(const Matrix& parity,
                         std::uint32_t k,
                         const std::vector<std::uint32_t>& rows,
                         const std::vector<std::uint32_t>& columns) {
  std::vector<std::vector<std::uint8_t>> square;
  for (const std::uint32_t row : rows) {
    auto& line = square.emplace_back();
    for (const std::uint32_t column : columns) {
      line.push_back(parity[std::size_t{row} * k + column]);
    }
  }
  return Invertible(square);
}

TEST(MatrixTest, EveryEntryIsTheScaledCauchyOneOfItsDefinition) {
  const Matrix parity = Parity(kMaxMembers - kMaxParity, kMaxParity);
  for (std::uint32_t i = 0; i < kMaxParity; ++i) {
    for (std::uint32_t j = 0; j < kMaxMembers - kMaxParity; ++j) {
      ASSERT_EQ(parity[i * (kMaxMembers - kMaxParity) + j], SlowEntry(i, j)) << i << " " << j;
    }
  }
}

TEST(MatrixTest, TheFirstRowIsXorAndOneSegmentIsMirrored) {
  for (std::uint32_t m = 1; m <= kMaxParity; ++m) {
    for (std::uint32_t k = 1; k + m <= kMaxMembers; ++k) {
      const Matrix parity = Parity(k, m);
      ASSERT_EQ(parity.size(), std::size_t{k} * m);
      for (std::uint32_t j = 0; j < k; ++j) {
        ASSERT_EQ(parity[j], 1);
      }
      for (std::uint32_t i = 0; i < m; ++i) {
        ASSERT_EQ(parity[std::size_t{i} * k], 1);
      }
    }
  }
}

// The matrix of a smaller code is the corner of a larger one's, so it is enough to try the largest
// of k + m <= 16 for each m.
TEST(MatrixTest, ASmallerCodeIsTheCornerOfALargerOne) {
  const std::uint32_t wide = kMaxMembers - kMaxParity;
  const Matrix whole = Parity(wide, kMaxParity);
  for (std::uint32_t m = 1; m <= kMaxParity; ++m) {
    for (std::uint32_t k = 1; k <= wide; ++k) {
      const Matrix parity = Parity(k, m);
      for (std::uint32_t i = 0; i < m; ++i) {
        for (std::uint32_t j = 0; j < k; ++j) {
          ASSERT_EQ(parity[i * k + j], whole[i * wide + j]);
        }
      }
    }
  }
}

TEST(MatrixTest, EverySquareSubmatrixIsInvertibleUpTo16Members) {
  std::uint64_t tried = 0;
  for (std::uint32_t m = 1; m <= 4; ++m) {
    const std::uint32_t k = 16 - m;
    const Matrix parity = Parity(k, m);
    for (std::uint32_t size = 1; size <= m; ++size) {
      ForEachChoice(m, size, [&](const std::vector<std::uint32_t>& rows) {
        ForEachChoice(k, size, [&](const std::vector<std::uint32_t>& columns) {
          ASSERT_TRUE(SubmatrixInvertible(parity, k, rows, columns));
          ++tried;
        });
      });
    }
  }
  EXPECT_EQ(tried,
            15u + (2 * 14 + 91) + (3 * 13 + 3 * 78 + 286) + (4 * 12 + 6 * 66 + 4 * 220 + 495));
}

TEST(MatrixTest, SampledSubmatricesAreInvertibleUpToTheLimit) {
  constexpr unsigned kSeed = 20240607;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  const std::uint32_t k = kMaxMembers - kMaxParity;
  const Matrix parity = Parity(k, kMaxParity);
  const auto choose = [&](std::uint32_t n, std::uint32_t count) {
    std::vector<std::uint32_t> all = Others(n, {});
    std::shuffle(all.begin(), all.end(), random);
    all.resize(count);
    return all;
  };
  for (int i = 0; i < 5000; ++i) {
    const std::uint32_t size = 1 + random() % kMaxParity;
    ASSERT_TRUE(SubmatrixInvertible(parity, k, choose(kMaxParity, size), choose(k, size)));
  }
}

TEST(MatrixTest, CodesOutsideTheLimitsAreRefused) {
  for (const auto& [k, m] : {std::pair{0u, 1u},
                             {1u, 0u},
                             {0u, 0u},
                             {1u, kMaxParity + 1},
                             {kMaxMembers, 1u},
                             {kMaxMembers - kMaxParity + 1, kMaxParity},
                             {~0u, 1u},
                             {1u, ~0u},
                             {~0u, ~0u}}) {
    EXPECT_EQ(ParityMatrix({.data = k, .parity = m}).error().code, Errc::kInvalidArgument);
  }
  for (const std::uint32_t id : {0u, 2u, ~0u}) {
    EXPECT_EQ(ParityMatrix({.data = 4, .parity = 2, .matrix_id = id}).error().code,
              Errc::kVersionMismatch);
  }
}

TEST(MatrixTest, SourcesAndWantedMustBeDifferentIndicesOfTheStripe) {
  using Indices = std::vector<std::uint32_t>;
  const CodeParams code{.data = 3, .parity = 2};
  const std::pair<Indices, Indices> bad[] = {
      {{0, 1}, {2}},           // too few sources: too much is lost
      {{0, 1, 2, 3}, {4}},     // too many
      {{}, {0}},               //
      {{0, 1, 2}, {}},         // nothing is wanted
      {{0, 1, 2}, {3, 4, 3}},  // more than m are wanted
      {{0, 1, 1}, {2}},        // a source twice
      {{0, 1, 2}, {3, 3}},     // wanted twice
      {{0, 1, 2}, {2}},        // wanted and there
      {{0, 1, 5}, {2}},        // no such index
      {{0, 1, 2}, {5}},        //
      {{0, 1, ~0u}, {2}},
  };
  for (const auto& [sources, wanted] : bad) {
    EXPECT_EQ(RecoveryMatrix(code, sources, wanted).error().code, Errc::kInvalidArgument);
  }
  EXPECT_TRUE(RecoveryMatrix(code, Indices{4, 0, 2}, Indices{3, 1}).has_value());
}

}  // namespace
}  // namespace holdfast::ec
