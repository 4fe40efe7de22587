#include "layout/region.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "layout/dtype.h"
#include "layout/image.h"
#include "tests/layout/samples.h"

namespace holdfast::layout {
namespace {

void AddBox(proto::Part* part, const TensorBox& box) {
  proto::Box* out = part->add_boxes();
  out->mutable_offset()->Add(box.offset.begin(), box.offset.end());
  out->mutable_length()->Add(box.length.begin(), box.length.end());
}

proto::TensorEntry Planned(TensorSpec spec) {
  return PlanImage(std::vector{std::move(spec)}).value().tensors(0);
}

std::vector<ByteRun> Runs(const proto::TensorEntry& entry, const TensorBox& wanted) {
  return CollectRuns(RegionRuns::OfGlobal(entry, wanted).value(), 100'000).value();
}

// Row-major number of the element at "at" in "shape".
std::uint64_t Number(const Shape& at, const Shape& shape) {
  std::uint64_t number = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    number = number * shape[d] + at[d];
  }
  return number;
}

// Calls "visit" with every position of "box", row-major, positions in the global tensor.
template <class Visit>
void ForEachPosition(const TensorBox& box, Visit visit) {
  const std::uint64_t count = ElementsOf(box);
  for (std::uint64_t i = 0; i < count; ++i) {
    Shape at(box.length.size());
    std::uint64_t rest = i;
    for (std::size_t d = at.size(); d-- > 0;) {
      at[d] = box.offset[d] + rest % box.length[d];
      rest /= box.length[d];
    }
    visit(at);
  }
}

// The reference: which global element each element of the image is, by counting one by one.
std::vector<std::uint64_t> HeldElements(const TensorSpec& spec) {
  std::vector<std::uint64_t> elements;
  std::vector<TensorBox> boxes;
  for (const proto::Box& box : spec.part.boxes()) {
    boxes.push_back(FromProto(box));
  }
  if (boxes.empty()) {
    boxes.push_back(WholeBox(spec.global_shape));
  }
  for (const TensorBox& box : boxes) {
    ForEachPosition(box,
                    [&](const Shape& at) { elements.push_back(Number(at, spec.global_shape)); });
  }
  if (spec.part.has_flat_range()) {
    const auto first = elements.begin() + static_cast<std::ptrdiff_t>(spec.part.flat_offset());
    elements = {first, first + static_cast<std::ptrdiff_t>(spec.part.flat_length())};
  }
  return elements;
}

// Byte by byte: (image offset, destination offset) of all that entry and region share.
std::map<ByteCount, ByteCount> Reference(const TensorSpec& spec,
                                         const proto::TensorEntry& entry,
                                         const TensorBox& wanted) {
  std::map<std::uint64_t, std::uint64_t> destination_of;
  std::uint64_t next = 0;
  ForEachPosition(wanted,
                  [&](const Shape& at) { destination_of[Number(at, spec.global_shape)] = next++; });
  const ByteCount size = ElementBytes(spec.dtype).value();
  std::map<ByteCount, ByteCount> bytes;
  const std::vector<std::uint64_t> held = HeldElements(spec);
  for (std::size_t i = 0; i < held.size(); ++i) {
    const auto found = destination_of.find(held[i]);
    for (ByteCount b = 0; found != destination_of.end() && b < size; ++b) {
      bytes[entry.offset_bytes() + i * size + b] = found->second * size + b;
    }
  }
  return bytes;
}

// Runs in order, maximal, and the same bytes as the reference.
void ExpectSame(const std::map<ByteCount, ByteCount>& reference, const RegionRuns& region) {
  std::map<ByteCount, ByteCount> got;
  RegionRuns runs = region;
  ByteRun run;
  ByteRun last;
  while (runs.Next(&run)) {
    ASSERT_GT(run.length, 0u);
    ASSERT_GE(run.image_offset, last.image_offset + last.length);
    const bool joins = last.length != 0 && run.image_offset == last.image_offset + last.length &&
                       run.destination_offset == last.destination_offset + last.length;
    ASSERT_FALSE(joins) << "two runs that should be one";
    ASSERT_LE(run.destination_offset + run.length, region.DestinationBytes());
    for (ByteCount b = 0; b < run.length; ++b) {
      got[run.image_offset + b] = run.destination_offset + b;
    }
    last = run;
  }
  EXPECT_FALSE(runs.Next(&run)) << "the end stays the end";
  EXPECT_EQ(got, reference);
  EXPECT_EQ(region.CoveredBytes(), reference.size());
}

TensorBox RandomBox(std::mt19937_64* random, const Shape& shape) {
  TensorBox box;
  for (std::uint64_t dim : shape) {
    box.length.push_back((*random)() % 4 == 0 ? dim : (*random)() % (dim + 1));
    box.offset.push_back((*random)() % (dim - box.length.back() + 1));
  }
  return box;
}

// A random valid tensor: whole, one box, several disjoint boxes, each perhaps with a flat range.
TensorSpec RandomSpec(std::mt19937_64* random) {
  const proto::DataType dtypes[] = {proto::U8, proto::BF16, proto::F32, proto::C128};
  Shape shape((*random)() % 5);
  for (std::uint64_t& dim : shape) {
    dim = (*random)() % 12 == 0 ? 0 : 1 + (*random)() % 5;
  }
  TensorSpec spec = WholeTensor("t", dtypes[(*random)() % 4], shape);
  std::vector<TensorBox> boxes;
  const std::uint64_t wanted_boxes = (*random)() % 4;
  for (int tries = 0; tries < 20 && boxes.size() < wanted_boxes; ++tries) {
    TensorBox box = RandomBox(random, shape);
    if (std::none_of(boxes.begin(), boxes.end(), [&](const TensorBox& other) {
          return Intersect(box, other).has_value();
        })) {
      AddBox(&spec.part, box);
      boxes.push_back(std::move(box));
    }
  }
  std::uint64_t held = HeldElements(spec).size();
  if ((*random)() % 2 == 0) {
    spec.part.set_has_flat_range(true);
    spec.part.set_flat_offset((*random)() % (held + 1));
    held = (*random)() % (held - spec.part.flat_offset() + 1);
    spec.part.set_flat_length(held);
  }
  spec.local_shape = {held};
  return spec;
}

TEST(RegionTest, EveryRegionOfRandomPartsIsWhatCountingSays) {
  std::mt19937_64 random(20240607);
  std::size_t bytes = 0;
  for (int round = 0; round < 20'000 && !HasFatalFailure(); ++round) {
    const TensorSpec spec = RandomSpec(&random);
    const proto::TensorEntry entry = Planned(spec);
    for (int i = 0; i < 3; ++i) {
      const TensorBox wanted =
          i == 0 ? WholeBox(spec.global_shape) : RandomBox(&random, spec.global_shape);
      const auto region = RegionRuns::OfGlobal(entry, wanted);
      ASSERT_TRUE(region.has_value()) << region.error().message;
      const auto reference = Reference(spec, entry, wanted);
      bytes += reference.size();
      ExpectSame(reference, region.value());
    }
  }
  EXPECT_GT(bytes, 500'000u) << "the test must not be about empty regions";
}

TEST(RegionTest, HeldBoxesAreTheEntrysBytesInOrder) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2000; ++round) {
    const TensorSpec spec = RandomSpec(&random);
    const proto::TensorEntry entry = Planned(spec);
    std::vector<std::uint64_t> elements;
    ByteCount at = entry.offset_bytes();
    const std::vector<HeldBox> boxes = HeldBoxes(entry).value();
    for (const HeldBox& held : boxes) {
      EXPECT_EQ(held.image_offset, at);
      EXPECT_GT(held.length, 0u);
      at += held.length;
      ForEachPosition(held.box, [&](const Shape& position) {
        elements.push_back(Number(position, spec.global_shape));
      });
    }
    EXPECT_EQ(at, entry.offset_bytes() + entry.length_bytes());
    EXPECT_EQ(elements, HeldElements(spec));
  }
}

// What restore into another layout will do: any tensor cut one way fills the same tensor cut
// another way, byte for byte.
TEST(RegionTest, OnePartitionFillsAnother) {
  std::mt19937_64 random(99);
  for (int round = 0; round < 300; ++round) {
    const Shape shape = {1 + random() % 7, 1 + random() % 6, 1 + random() % 4};
    const std::uint64_t count = ElementCount(shape).value();
    // Sources: rows cut into two boxes, columns flat-sharded; together everything, once.
    const std::uint64_t cut = random() % (shape[0] + 1);
    std::vector<TensorSpec> sources(2, WholeTensor("t", proto::U16, shape));
    AddBox(&sources[0].part, {{0, 0, 0}, {cut, shape[1], shape[2]}});
    sources[0].local_shape = {cut, shape[1], shape[2]};
    AddBox(&sources[1].part, {{cut, 0, 0}, {shape[0] - cut, shape[1], shape[2]}});
    sources[1].local_shape = {shape[0] - cut, shape[1], shape[2]};
    // Target: a flat range of a column block.
    const std::uint64_t columns = 1 + random() % shape[1];
    TensorSpec target = WholeTensor("t", proto::U16, shape);
    AddBox(&target.part, {{0, shape[1] - columns, 0}, {shape[0], columns, shape[2]}});
    const std::uint64_t held = shape[0] * columns * shape[2];
    target.part.set_has_flat_range(true);
    target.part.set_flat_offset(random() % held);
    target.part.set_flat_length(held - target.part.flat_offset());
    target.local_shape = {target.part.flat_length()};
    const proto::TensorEntry to = Planned(target);

    std::vector<int> filled(to.length_bytes(), -1);
    const std::vector<HeldBox> to_boxes = HeldBoxes(to).value();
    for (const TensorSpec& source : sources) {
      const proto::TensorEntry from = Planned(source);
      const std::vector<std::uint64_t> values = HeldElements(source);
      for (const HeldBox& box : to_boxes) {
        for (const ByteRun& run : Runs(from, box.box)) {
          for (ByteCount b = 0; b < run.length; ++b) {
            const ByteCount source_byte = run.image_offset + b - from.offset_bytes();
            const ByteCount at = box.image_offset - to.offset_bytes() + run.destination_offset + b;
            ASSERT_LT(at, filled.size());
            EXPECT_EQ(filled[at], -1);
            filled[at] = static_cast<int>(values[source_byte / 2] * 2 + source_byte % 2);
          }
        }
      }
    }
    const std::vector<std::uint64_t> expected = HeldElements(target);
    ASSERT_LE(expected.size(), count);
    for (std::size_t b = 0; b < filled.size(); ++b) {
      ASSERT_EQ(filled[b], static_cast<int>(expected[b / 2] * 2 + b % 2));
    }
  }
}

TEST(RegionTest, AWholeTensorIsOneRunHoweverItIsCut) {
  TensorSpec spec = WholeTensor("t", proto::F32, {6, 4});
  AddBox(&spec.part, {{0, 0}, {2, 4}});
  AddBox(&spec.part, {{2, 0}, {4, 4}});
  const proto::TensorEntry entry = Planned(spec);
  EXPECT_EQ(Runs(entry, WholeBox(spec.global_shape)),
            (std::vector<ByteRun>{{entry.offset_bytes(), 0, 96}}));
  spec.part.set_has_flat_range(true);
  spec.part.set_flat_offset(3);
  spec.part.set_flat_length(15);
  spec.local_shape = {15};
  const proto::TensorEntry flat = Planned(spec);
  EXPECT_EQ(Runs(flat, WholeBox(spec.global_shape)),
            (std::vector<ByteRun>{{flat.offset_bytes(), 12, 60}}));
}

TEST(RegionTest, AColumnIsOneRunForEachRow) {
  const proto::TensorEntry entry = Planned(WholeTensor("t", proto::BF16, {3, 8}));
  const ByteCount at = entry.offset_bytes();
  EXPECT_EQ(Runs(entry, {{0, 2}, {3, 4}}),
            (std::vector<ByteRun>{{at + 4, 0, 8}, {at + 20, 8, 8}, {at + 36, 16, 8}}));
}

TEST(RegionTest, ScalarsAndEmptyTensorsHaveRegions) {
  const proto::TensorEntry scalar = Planned(WholeTensor("t", proto::I64, {}));
  EXPECT_EQ(Runs(scalar, {}), (std::vector<ByteRun>{{scalar.offset_bytes(), 0, 8}}));
  const proto::TensorEntry empty = Planned(WholeTensor("t", proto::I64, {3, 0}));
  EXPECT_TRUE(Runs(empty, {{0, 0}, {3, 0}}).empty());
}

TEST(RegionTest, TerabytesAreArithmeticOnly) {
  // 2^40 elements; a rank holds the last of 8 column blocks; one row of it is asked for.
  TensorSpec spec = WholeTensor("t", proto::F32, {1ull << 20, 1ull << 20});
  AddBox(&spec.part, {{0, 7ull << 17}, {1ull << 20, 1ull << 17}});
  spec.local_shape = {1ull << 20, 1ull << 17};
  const proto::TensorEntry entry = Planned(spec);
  EXPECT_EQ(Runs(entry, {{(1ull << 20) - 1, 0}, {1, 1ull << 20}}),
            (std::vector<ByteRun>{
                {entry.offset_bytes() + (((1ull << 20) - 1) << 19), 7ull << 19, 1ull << 19}}));
  const auto column = RegionRuns::OfGlobal(entry, {{0, 7ull << 17}, {1ull << 20, 1}}).value();
  EXPECT_EQ(column.CoveredBytes(), 4ull << 20);
  EXPECT_EQ(CollectRuns(column, 1000).error().code, Errc::kNoSpace);
  EXPECT_EQ(CollectRuns(column, 1ull << 20).value().size(), 1ull << 20);
}

TEST(RegionTest, LocalRegionsCountInTheLocalShape) {
  TensorSpec spec = WholeTensor("t", proto::U8, {8, 8});
  AddBox(&spec.part, {{4, 4}, {4, 4}});
  spec.local_shape = {4, 4};
  const proto::TensorEntry entry = Planned(spec);
  const auto region = RegionRuns::OfLocal(entry, {{1, 2}, {2, 2}}).value();
  EXPECT_EQ(
      CollectRuns(region, 10).value(),
      (std::vector<ByteRun>{{entry.offset_bytes() + 6, 0, 2}, {entry.offset_bytes() + 10, 2, 2}}));
  EXPECT_FALSE(RegionRuns::OfLocal(entry, {{4, 4}, {4, 4}}).has_value());
}

TEST(RegionTest, OpaquePartsAreReadableOnlyAsTheyLie) {
  TensorSpec spec = WholeTensor("t", proto::U8, {8, 8});
  spec.part.set_opaque(true);
  spec.local_shape = {5};
  const proto::TensorEntry entry = Planned(spec);
  EXPECT_EQ(RegionRuns::OfGlobal(entry, {{0, 0}, {8, 8}}).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(HeldBoxes(entry).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(RegionRuns::OfLocal(entry, {{1}, {3}}).value().CoveredBytes(), 3u);
}

TEST(RegionTest, HostileEntriesAndBoxesAreRefused) {
  const TensorSpec spec = WholeTensor("t", proto::F32, {4, 4});
  const TensorBox whole = WholeBox(spec.global_shape);
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  for (const TensorBox& box : {TensorBox{{0}, {4}},
                               TensorBox{{0, 0}, {4, 5}},
                               TensorBox{{kHuge, 0}, {2, 4}},
                               TensorBox{{0, 0}, {4}}}) {
    EXPECT_EQ(RegionRuns::OfGlobal(Planned(spec), box).error().code, Errc::kInvalidArgument);
  }
  proto::TensorEntry entry = Planned(spec);
  entry.set_length_bytes(60);
  EXPECT_FALSE(RegionRuns::OfGlobal(entry, whole).has_value());
  entry = Planned(spec);
  entry.set_offset_bytes(kHuge - 8);
  EXPECT_FALSE(RegionRuns::OfGlobal(entry, whole).has_value());
  entry = Planned(spec);
  entry.set_local_shape(0, 5);
  EXPECT_FALSE(RegionRuns::OfGlobal(entry, whole).has_value());
  entry = Planned(spec);
  entry.set_dtype(static_cast<proto::DataType>(77));
  EXPECT_FALSE(RegionRuns::OfLocal(entry, whole).has_value());
}

}  // namespace
}  // namespace holdfast::layout
