#include "layout/sidecar.h"

#include <functional>

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "layout/image.h"
#include "tests/layout/samples.h"

namespace holdfast::layout {
namespace {

using google::protobuf::util::MessageDifferencer;

// Frames any payload as a valid file would be, so that only the payload can be at fault.
std::string Framed(const std::string& payload) {
  std::string file = "HFSIDE1\n";
  file.resize(20);
  StoreLe32(file.data() + 8, 1);
  StoreLe64(file.data() + 12, payload.size());
  file += payload;
  const std::uint32_t crc = Crc32c(0, AsBytes(file));
  file.resize(file.size() + 4);
  StoreLe32(file.data() + file.size() - 4, crc);
  return file;
}

TEST(SidecarTest, AFileReadsBackAsItWas) {
  const proto::Sidecar sidecar = SampleSidecar();
  const std::string file = EncodeSidecarFile(sidecar).value();
  const auto read = DecodeSidecarFile(AsBytes(file));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_TRUE(MessageDifferencer::Equals(read.value(), sidecar));
  EXPECT_EQ(EncodeSidecarFile(read.value()).value(), file);
}

TEST(SidecarTest, TheFrameIsWhatTheFormatDocumentSays) {
  const std::string file = EncodeSidecarFile(SampleSidecar()).value();
  EXPECT_EQ(file.substr(0, 8), "HFSIDE1\n");
  EXPECT_EQ(LoadLe32(file.data() + 8), 1u);
  EXPECT_EQ(LoadLe64(file.data() + 12), file.size() - 24);
  EXPECT_EQ(file, Framed(SampleSidecar().SerializeAsString()));
}

// I5: a damaged sidecar must never vouch for an image.
TEST(SidecarTest, EveryTruncationAndExtensionIsAnError) {
  const std::string file = EncodeSidecarFile(SampleSidecar()).value();
  for (std::size_t length = 0; length < file.size(); ++length) {
    const std::string cut = file.substr(0, length);
    EXPECT_EQ(DecodeSidecarFile(AsBytes(cut)).error().code, Errc::kCorruption) << length;
  }
  for (const std::string& tail : {std::string(1, '\0'), std::string(4, '\0'), file}) {
    EXPECT_EQ(DecodeSidecarFile(AsBytes(file + tail)).error().code, Errc::kCorruption);
  }
}

// I5
TEST(SidecarTest, EveryFlippedBitIsAnError) {
  const std::string file = EncodeSidecarFile(SampleSidecar()).value();
  for (std::size_t bit = 0; bit < file.size() * 8; ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const auto read = DecodeSidecarFile(AsBytes(flipped));
    ASSERT_FALSE(read.has_value()) << "bit " << bit;
    const bool in_version = bit / 8 >= 8 && bit / 8 < 12;
    EXPECT_TRUE(read.error().code == Errc::kCorruption ||
                (in_version && read.error().code == Errc::kVersionMismatch))
        << "bit " << bit;
  }
}

// The CRC only finds accidents: a frame that is right around a payload that is not.
TEST(SidecarTest, FlippedAndCutPayloadsInAValidFrameNeverCrash) {
  const std::string payload = SampleSidecar().SerializeAsString();
  for (std::size_t bit = 0; bit < payload.size() * 8; ++bit) {
    std::string flipped = payload;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const auto read = DecodeSidecarFile(AsBytes(Framed(flipped)));
    if (read) {
      EXPECT_TRUE(ValidateSidecar(read.value()).has_value());
      EXPECT_TRUE(EncodeSidecarFile(read.value()).has_value());
    }
  }
  for (std::size_t length = 0; length < payload.size(); ++length) {
    (void)DecodeSidecarFile(AsBytes(Framed(payload.substr(0, length))));
  }
}

TEST(SidecarTest, FilesOfNewerSoftwareAreAVersionMismatch) {
  std::string file = EncodeSidecarFile(SampleSidecar()).value();
  StoreLe32(file.data() + 8, 2);
  EXPECT_EQ(DecodeSidecarFile(AsBytes(file)).error().code, Errc::kVersionMismatch);
  proto::Sidecar sidecar = SampleSidecar();
  sidecar.set_format_version(2);
  EXPECT_EQ(DecodeSidecarFile(AsBytes(Framed(sidecar.SerializeAsString()))).error().code,
            Errc::kVersionMismatch);
  sidecar = SampleSidecar();
  sidecar.mutable_layout()->set_format_version(2);
  EXPECT_EQ(DecodeSidecarFile(AsBytes(Framed(sidecar.SerializeAsString()))).error().code,
            Errc::kVersionMismatch);
}

TEST(SidecarTest, FieldsOfNewerSoftwareAreIgnored) {
  // Field 500 of the sidecar, a varint.
  const std::string more = std::string("\xa0\x1f\x05", 3);
  EXPECT_TRUE(
      DecodeSidecarFile(AsBytes(Framed(SampleSidecar().SerializeAsString() + more))).has_value());
}

TEST(SidecarTest, MillionsOfEmptyElementsAreRefusedBeforeTheyTakeMemory) {
  std::string tensors;
  for (int i = 0; i < 3'000'001; ++i) {
    tensors.append("\x12\x00", 2);
  }
  std::string payload = "\x3a";  // layout
  for (std::size_t rest = tensors.size(); rest != 0; rest >>= 7) {
    payload += static_cast<char>((rest & 0x7f) | (rest >> 7 != 0 ? 0x80 : 0));
  }
  const auto read = DecodeSidecarFile(AsBytes(Framed(payload + tensors)));
  ASSERT_FALSE(read.has_value());
  EXPECT_NE(read.error().message.find("more elements"), std::string::npos);
}

struct Damage {
  const char* what;
  std::function<void(proto::Sidecar*)> damage;
};

void ExpectAllRefused(const std::vector<Damage>& damages) {
  for (const Damage& d : damages) {
    proto::Sidecar sidecar = SampleSidecar();
    d.damage(&sidecar);
    const Status status = ValidateSidecar(sidecar);
    ASSERT_FALSE(status.has_value()) << d.what;
    EXPECT_EQ(status.error().code, Errc::kInvalidArgument) << d.what;
    EXPECT_EQ(EncodeSidecarFile(sidecar).error().code, Errc::kInvalidArgument) << d.what;
    EXPECT_EQ(DecodeSidecarFile(AsBytes(Framed(sidecar.SerializeAsString()))).error().code,
              Errc::kCorruption)
        << d.what;
  }
}

// I8: nothing that does not say exactly whose it is.
TEST(SidecarTest, IncompleteIdentityIsRefused) {
  ExpectAllRefused({
      {"no version", [](auto* s) { s->clear_format_version(); }},
      {"no id", [](auto* s) { s->clear_id(); }},
      {"short job_uid", [](auto* s) { s->mutable_id()->set_job_uid("abc"); }},
      {"no incarnation", [](auto* s) { s->mutable_id()->set_incarnation(0); }},
      {"negative step", [](auto* s) { s->mutable_id()->set_step(-1); }},
      {"job name", [](auto* s) { s->set_job_name("../x"); }},
      {"rank", [](auto* s) { s->set_rank(2); }},
      {"world", [](auto* s) { s->set_world_size(0); }},
      {"huge world", [](auto* s) { s->set_world_size(~0u); }},
      {"node", [](auto* s) { s->set_node_uuid("n"); }},
      {"parent", [](auto* s) { s->mutable_parent()->clear_job_uid(); }},
  });
}

TEST(SidecarTest, LayoutAndDigestsThatDoNotFitAreRefused) {
  ExpectAllRefused({
      {"short hash", [](auto* s) { s->set_layout_hash("x"); }},
      {"other hash", [](auto* s) { s->set_layout_hash(Uid('x')); }},
      {"other layout", [](auto* s) { s->mutable_layout()->mutable_tensors(0)->set_replica_id(9); }},
      {"unsound layout with its own hash",
       [](auto* s) {
         s->mutable_layout()->mutable_tensors(1)->set_offset_bytes(0);
         s->set_layout_hash(LayoutHash(s->layout()));
       }},
      {"no image", [](auto* s) { s->clear_images(); }},
      {"static image missing", [](auto* s) { s->mutable_images()->RemoveLast(); }},
      {"two dynamic", [](auto* s) { *s->mutable_images(1) = s->images(0); }},
      {"wrong order", [](auto* s) { s->mutable_images()->SwapElements(0, 1); }},
      {"three", [](auto* s) { *s->add_images() = s->images(1); }},
      {"kind", [](auto* s) { s->mutable_images(1)->set_kind(static_cast<proto::ImageKind>(5)); }},
      {"length", [](auto* s) { s->mutable_images(0)->set_length_bytes(4096); }},
      {"no length", [](auto* s) { s->mutable_images(0)->set_length_bytes(0); }},
      {"huge length", [](auto* s) { s->mutable_images(0)->set_length_bytes(~std::uint64_t{0}); }},
      {"chunk size", [](auto* s) { s->mutable_images(0)->set_chunk_bytes(4096); }},
      {"chunk size 0", [](auto* s) { s->mutable_images(0)->set_chunk_bytes(0); }},
      {"digest missing", [](auto* s) { s->mutable_images(0)->clear_chunk_crc32c(); }},
      {"digest more", [](auto* s) { s->mutable_images(0)->add_chunk_crc32c(1); }},
      {"owner of another job",
       [](auto* s) { s->mutable_images(1)->mutable_owner()->set_job_uid(Uid('k')); }},
      {"newer owner", [](auto* s) { s->mutable_images(1)->mutable_owner()->set_incarnation(8); }},
      {"empty owner", [](auto* s) { s->mutable_images(1)->mutable_owner()->Clear(); }},
      {"dynamic image of another snapshot",
       [](auto* s) { *s->mutable_images(0)->mutable_owner() = s->images(1).owner(); }},
  });
}

TEST(SidecarTest, UnboundedOrUnreadableStateIsRefused) {
  ExpectAllRefused({
      {"no name", [](auto* s) { s->mutable_state(0)->clear_name(); }},
      {"long name", [](auto* s) { s->mutable_state(0)->set_name(std::string(1025, 'n')); }},
      {"twice", [](auto* s) { s->mutable_state(0)->set_name("rng"); }},
      {"no value", [](auto* s) { s->mutable_state(0)->clear_json(); }},
      {"too many",
       [](auto* s) {
         for (int i = 0; i < kMaxStateItems; ++i) {
           s->add_state()->set_name(std::to_string(i));
           s->mutable_state()->rbegin()->set_json("1");
         }
       }},
      {"too large in all",
       [](auto* s) {
         s->mutable_state(0)->set_json(std::string(9 * kMiB, ' '));
         s->mutable_state(1)->set_pickle(std::string(8 * kMiB, ' '));
       }},
  });
}

TEST(SidecarTest, SixteenMebibytesOfStateAreKept) {
  proto::Sidecar sidecar = SampleSidecar();
  sidecar.clear_state();
  sidecar.add_state()->set_name("extra");
  sidecar.mutable_state(0)->set_pickle(std::string(kMaxStateBytes - 5, 'p'));
  EXPECT_TRUE(ValidateSidecar(sidecar).has_value());
  sidecar.mutable_state(0)->mutable_pickle()->push_back('p');
  EXPECT_FALSE(ValidateSidecar(sidecar).has_value());
}

TEST(SidecarTest, GroupGeometryMustAddUp) {
  proto::Sidecar sidecar = SampleSidecar();
  proto::GroupGeometry* group = sidecar.mutable_group();
  group->add_member_node_uuids(Uid('a'));
  group->add_member_node_uuids(Uid('b'));
  group->set_position(1);
  group->set_data_shards(1);
  group->set_parity_shards(1);
  EXPECT_TRUE(ValidateSidecar(sidecar).has_value());
  group->set_parity_shards(~0u);
  EXPECT_FALSE(ValidateSidecar(sidecar).has_value());
  group->set_parity_shards(1);
  group->set_position(2);
  EXPECT_FALSE(ValidateSidecar(sidecar).has_value());
  group->set_position(0);
  group->set_member_node_uuids(0, "a");
  EXPECT_FALSE(ValidateSidecar(sidecar).has_value());
}

// The catalog keeps layouts apart; a file must stand alone.
TEST(SidecarTest, WithoutALayoutASidecarIsValidButNoFile) {
  proto::Sidecar sidecar = SampleSidecar();
  const proto::Layout layout = sidecar.layout();
  sidecar.clear_layout();
  EXPECT_TRUE(ValidateSidecar(sidecar).has_value());
  EXPECT_TRUE(ValidateLayoutOfSidecar(layout, sidecar).has_value());
  EXPECT_EQ(EncodeSidecarFile(sidecar).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(DecodeSidecarFile(AsBytes(Framed(sidecar.SerializeAsString()))).error().code,
            Errc::kCorruption);
  EXPECT_FALSE(ValidateLayoutOfSidecar(PlanImage({}).value(), sidecar).has_value());
}

}  // namespace
}  // namespace holdfast::layout
