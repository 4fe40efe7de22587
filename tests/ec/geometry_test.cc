// I9: what a peer or a catalog says of a group is bounded before anything is computed with it.
#include "ec/geometry.h"

#include <functional>
#include <utility>

#include <gtest/gtest.h>

#include "tests/ec/groups.h"

namespace holdfast::ec {
namespace {

TEST(GeometryTest, SegmentsAreTheLongestShardInKPartsOfWholeMiB) {
  const auto bytes = [](std::vector<ByteCount> shards, std::uint32_t k) {
    return SegmentBytes(shards, k);
  };
  EXPECT_EQ(bytes({}, 3), 0u);
  EXPECT_EQ(bytes({0, 0}, 1), 0u);
  EXPECT_EQ(bytes({1}, 8), kMiB);
  EXPECT_EQ(bytes({0, 8 * kMiB, 5}, 8), kMiB);
  EXPECT_EQ(bytes({8 * kMiB + 1}, 8), 2 * kMiB);
  EXPECT_EQ(bytes({3 * kMiB}, 2), 2 * kMiB);
  EXPECT_EQ(bytes({kMaxShardBytes}, 1), kMaxShardBytes);
}

TEST(GeometryTest, AGeometryOfItsShardsIsValid) {
  const Geometry geometry = GeometryOf({.data = 3, .parity = 2}, {5, 0, 9 * kMiB, 1, 7});
  EXPECT_EQ(geometry.segment_bytes, 3 * kMiB);
  EXPECT_TRUE(ValidateGeometry(geometry).has_value());
  EXPECT_TRUE(ValidateGeometry(GeometryOf({.data = 1, .parity = 1}, {0, 0})).has_value());
  EXPECT_TRUE(ValidateGeometry(GeometryOf({.data = kMaxMembers - 2, .parity = 2},
                                          std::vector(kMaxMembers, kMaxShardBytes)))
                  .has_value());
}

TEST(GeometryTest, EveryFieldIsChecked) {
  using Change = std::function<void(Geometry&)>;
  const std::pair<const char*, Change> changes[] = {
      {"version", [](Geometry& g) { g.version = 0; }},
      {"a member less", [](Geometry& g) { g.members.pop_back(); }},
      {"a member more", [](Geometry& g) { g.members.push_back(Uuid(9)); }},
      {"no members", [](Geometry& g) { g.members.clear(); }},
      {"a short uuid", [](Geometry& g) { g.members[1].pop_back(); }},
      {"an empty uuid", [](Geometry& g) { g.members[4].clear(); }},
      {"the same member twice", [](Geometry& g) { g.members[4] = g.members[0]; }},
      {"k 0", [](Geometry& g) { g.code.data = 0; }},
      {"m 0", [](Geometry& g) { g.code.parity = 0; }},
      {"another k", [](Geometry& g) { g.code.data = 4; }},
      {"k + m wraps to 5", [](Geometry& g) { g.code = {.data = ~0u - 1, .parity = 7}; }},
      {"m above the limit", [](Geometry& g) { g.code.parity = kMaxParity + 1; }},
      {"a length less", [](Geometry& g) { g.shard_bytes.pop_back(); }},
      {"a length more", [](Geometry& g) { g.shard_bytes.push_back(0); }},
      {"a huge shard", [](Geometry& g) { g.shard_bytes[0] = kMaxShardBytes + 1; }},
      {"a shard of all ones", [](Geometry& g) { g.shard_bytes[0] = ~ByteCount{0}; }},
      {"shards that need more", [](Geometry& g) { g.shard_bytes[0] = 10 * kMiB; }},
      {"L 0", [](Geometry& g) { g.segment_bytes = 0; }},
      {"L too small", [](Geometry& g) { g.segment_bytes -= kMiB; }},
      {"L too large", [](Geometry& g) { g.segment_bytes += kMiB; }},
      {"L between MiB", [](Geometry& g) { g.segment_bytes += 1; }},
  };
  for (const auto& [what, change] : changes) {
    Geometry geometry = GeometryOf({.data = 3, .parity = 2}, {5, 0, 9 * kMiB, 1, 7});
    change(geometry);
    const Status status = ValidateGeometry(geometry);
    ASSERT_FALSE(status.has_value()) << what;
    EXPECT_EQ(status.error().code, Errc::kInvalidArgument) << what;
  }
}

TEST(GeometryTest, AnUnknownMatrixIsAnotherVersion) {
  Geometry geometry = GeometryOf({.data = 3, .parity = 2}, {1, 1, 1, 1, 1});
  geometry.code.matrix_id = 2;
  EXPECT_EQ(ValidateGeometry(geometry).error().code, Errc::kVersionMismatch);
}

TEST(GeometryTest, WrongPartsMakeNone) {
  const CodeParams code{.data = 1, .parity = 1};
  EXPECT_FALSE(MakeGeometry(1, {Uuid(1)}, code, {1, 1}).has_value());
  EXPECT_FALSE(MakeGeometry(1, {Uuid(1), Uuid(2)}, code, {1}).has_value());
  EXPECT_FALSE(MakeGeometry(1, {Uuid(1), Uuid(2)}, {.data = 0, .parity = 2}, {1, 1}).has_value());
  EXPECT_FALSE(MakeGeometry(1, {Uuid(1), Uuid(2)}, code, {1, ~ByteCount{0}}).has_value());
  EXPECT_TRUE(MakeGeometry(1, {Uuid(1), Uuid(2)}, code, {1, 1}).has_value());
}

}  // namespace
}  // namespace holdfast::ec
