#include "layout/layout_hash.h"

#include <functional>
#include <set>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "layout/siphash.h"
#include "tests/layout/samples.h"

namespace holdfast::layout {
namespace {

std::string CountingBytes(std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    bytes += static_cast<char>(i);
  }
  return bytes;
}

// Key 00 01 .. 0f, messages 00 01 ..: the vectors of the reference implementation.
TEST(SipHashTest, MatchesThePublishedVectors) {
  const std::pair<std::size_t, const char*> vectors[] = {
      {0, "a3817f04ba25a8e66df67214c7550293"},
      {1, "da87c1d86b99af44347659119b22fc45"},
      {7, "a1f1ebbed8dbc153c0b84aa61ff08239"},
      {8, "3b62a9ba6258f5610f83e264f31497b4"},
      {9, "264499060ad9baabc47f8b02bb6d71ed"},
      {15, "5493e99933b0a8117e08ec0f97cfc3d9"},
      {16, "6ee2a4ca67b054bbfd3315bf85230577"},
      {63, "5150d1772f50834a503e069a973fbd7c"},
  };
  for (const auto& [length, expected] : vectors) {
    SipHash128 hash(0x0706050403020100, 0x0f0e0d0c0b0a0908);
    const std::string message = CountingBytes(length);
    hash.Update(AsBytes(message));
    EXPECT_EQ(ToHex(AsBytes(hash.Finish())), expected) << length;
  }
}

TEST(SipHashTest, PiecesDoNotMatter) {
  const std::string message = CountingBytes(100);
  SipHash128 whole(1, 2);
  whole.Update(AsBytes(message));
  const std::string expected = whole.Finish();
  for (std::size_t piece = 1; piece < 30; ++piece) {
    SipHash128 hash(1, 2);
    for (std::size_t at = 0; at < message.size(); at += piece) {
      hash.Update(AsBytes(std::string_view(message).substr(at, piece)));
      hash.Update({});
    }
    EXPECT_EQ(hash.Finish(), expected) << piece;
  }
}

// The hash names layouts in catalogs and on disk: it must never drift.  The numbers come from a
// second implementation: the bytes by docs/format/sidecar.md, written by hand, into `openssl mac
// SIPHASH`.
TEST(LayoutHashTest, IsWhatTheFormatDocumentSays) {
  EXPECT_EQ(ToHex(AsBytes(LayoutHash(proto::Layout()))), "c89fda6dab2e6c717b2087f8d122c03d");
  EXPECT_EQ(ToHex(AsBytes(LayoutHash(MixedLayout()))), "c2f60f5cf88cbb100856bae443f7b08d");
}

TEST(LayoutHashTest, EveryFieldCounts) {
  const std::vector<std::function<void(proto::Layout*)>> changes = {
      [](auto*) {},
      [](auto* l) { l->set_format_version(2); },
      [](auto* l) { l->set_dynamic_image_bytes(1); },
      [](auto* l) { l->set_dynamic_header_bytes(1); },
      [](auto* l) { l->set_static_image_bytes(1); },
      [](auto* l) { l->set_static_header_bytes(1); },
      [](auto* l) { l->mutable_tensors()->RemoveLast(); },
      [](auto* l) { l->mutable_tensors()->SwapElements(0, 1); },
      [](auto* l) { l->mutable_tensors(3)->set_name("m"); },
      [](auto* l) { l->mutable_tensors(3)->set_dtype(proto::I32); },
      [](auto* l) { l->mutable_tensors(3)->set_global_shape(0, 9); },
      [](auto* l) { l->mutable_tensors(3)->add_global_shape(1); },
      [](auto* l) { l->mutable_tensors(3)->set_local_shape(0, 9); },
      [](auto* l) { l->mutable_tensors(3)->add_local_shape(1); },
      [](auto* l) { l->mutable_tensors(3)->set_tensor_class(proto::STAGED); },
      [](auto* l) { l->mutable_tensors(3)->set_replica_id(5); },
      [](auto* l) { l->mutable_tensors(3)->set_alias_of("x"); },
      [](auto* l) { l->mutable_tensors(3)->set_image(proto::STATIC); },
      [](auto* l) { l->mutable_tensors(3)->set_offset_bytes(1); },
      [](auto* l) { l->mutable_tensors(3)->set_length_bytes(1); },
      [](auto* l) { l->mutable_tensors(3)->mutable_part()->clear_boxes(); },
      [](auto* l) { l->mutable_tensors(3)->mutable_part()->mutable_boxes(0)->set_offset(0, 0); },
      [](auto* l) { l->mutable_tensors(3)->mutable_part()->mutable_boxes(0)->set_length(0, 0); },
      [](auto* l) { l->mutable_tensors(3)->mutable_part()->set_has_flat_range(true); },
      [](auto* l) { l->mutable_tensors(3)->mutable_part()->set_flat_offset(1); },
      [](auto* l) { l->mutable_tensors(3)->mutable_part()->set_flat_length(1); },
      [](auto* l) { l->mutable_tensors(3)->mutable_part()->set_opaque(true); },
  };
  std::set<std::string> hashes;
  for (const auto& change : changes) {
    proto::Layout layout = MixedLayout();
    change(&layout);
    const std::string hash = LayoutHash(layout);
    EXPECT_EQ(hash.size(), kLayoutHashBytes);
    hashes.insert(hash);
  }
  EXPECT_EQ(hashes.size(), changes.size());
}

TEST(LayoutHashTest, NeighbouringFieldsDoNotRunIntoEachOther) {
  std::set<std::string> hashes;
  for (int variant = 0; variant < 3; ++variant) {
    proto::Layout layout;
    proto::TensorEntry* entry = layout.add_tensors();
    for (int i = 0; i < 2; ++i) {
      (i < variant ? entry->mutable_global_shape() : entry->mutable_local_shape())->Add(1);
    }
    hashes.insert(LayoutHash(layout));
  }
  EXPECT_EQ(hashes.size(), 3u);
}

TEST(LayoutHashTest, AnAbsentPartIsAnEmptyPart) {
  proto::Layout absent;
  absent.add_tensors();
  proto::Layout empty;
  empty.add_tensors()->mutable_part();
  EXPECT_EQ(LayoutHash(absent), LayoutHash(empty));
}

}  // namespace
}  // namespace holdfast::layout
