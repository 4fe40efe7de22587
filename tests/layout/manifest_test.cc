#include "layout/manifest.h"

#include <functional>

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "tests/layout/samples.h"

namespace holdfast::layout {
namespace {

using google::protobuf::util::MessageDifferencer;

// The manifest of a world of any size, with dynamic images only.
proto::Manifest ManifestOfWorld(std::uint32_t world_size) {
  proto::Manifest manifest = SampleManifest();
  const proto::ManifestFile prototype = manifest.files(0);
  manifest.set_world_size(world_size);
  manifest.clear_files();
  for (std::uint32_t rank = 0; rank < world_size; ++rank) {
    proto::ManifestFile* file = manifest.add_files();
    *file = prototype;
    file->set_rank(rank);
    file->set_path(SnapshotFolderName(manifest.id()) + "/" + RankFileName(rank, world_size));
    file->set_sidecar_path(SnapshotFolderName(manifest.id()) + "/" +
                           SidecarFileName(rank, world_size));
  }
  return manifest;
}

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(ManifestTest, FilesReadBackAsTheyWere) {
  const std::string manifest = EncodeManifest(SampleManifest()).value();
  EXPECT_TRUE(
      MessageDifferencer::Equals(DecodeManifest(AsBytes(manifest)).value(), SampleManifest()));
  const std::string job = EncodeJobFile(SampleJobFile()).value();
  EXPECT_TRUE(MessageDifferencer::Equals(DecodeJobFile(AsBytes(job)).value(), SampleJobFile()));
  const std::string incarnation = EncodeIncarnationFile(SampleIncarnationFile()).value();
  EXPECT_TRUE(MessageDifferencer::Equals(DecodeIncarnationFile(AsBytes(incarnation)).value(),
                                         SampleIncarnationFile()));
}

TEST(ManifestTest, TheTextIsForPeople) {
  const std::string text = EncodeManifest(SampleManifest()).value();
  EXPECT_EQ(text.back(), '\n');
  EXPECT_NE(text[text.size() - 2], '\n');
  EXPECT_NE(text.find("\n \"world_size\": 2"), std::string::npos) << text;
  EXPECT_NE(text.find("\"rank\": 0"), std::string::npos) << "defaults are written out";
  EXPECT_NE(text.find("\"step-00001200.i0007/rank-00001.safetensors\""), std::string::npos);
}

TEST(ManifestTest, LargeWorldsAreEncodedInSubfolders) {
  const std::string text = EncodeManifest(ManifestOfWorld(16'384)).value();
  EXPECT_LT(text.size(), 10 * kMiB);
  const auto read = DecodeManifest(AsBytes(text));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read.value().files(300).path(), "step-00001200.i0007/r0256/rank-00300.safetensors");
}

struct Damage {
  const char* what;
  std::function<void(proto::Manifest*)> damage;
};

void ExpectAllRefused(const std::vector<Damage>& damages) {
  for (const Damage& d : damages) {
    proto::Manifest manifest = SampleManifest();
    d.damage(&manifest);
    const Status status = ValidateManifest(manifest);
    ASSERT_FALSE(status.has_value()) << d.what;
    EXPECT_EQ(status.error().code, Errc::kInvalidArgument) << d.what;
    EXPECT_FALSE(EncodeManifest(manifest).has_value()) << d.what;
  }
}

// I1: complete means every rank of the world, once.
TEST(ManifestTest, EveryRankHasExactlyOneDynamicFile) {
  ExpectAllRefused({
      {"none", [](auto* m) { m->clear_files(); }},
      {"last missing", [](auto* m) { m->mutable_files()->DeleteSubrange(2, 2); }},
      {"first missing", [](auto* m) { m->mutable_files()->DeleteSubrange(0, 2); }},
      {"twice", [](auto* m) { *m->add_files() = m->files(2); }},
      {"wrong order",
       [](auto* m) {
         m->mutable_files()->SwapElements(0, 2);
         m->mutable_files()->SwapElements(1, 3);
       }},
      {"beyond the world", [](auto* m) { m->set_world_size(1); }},
      {"huge world", [](auto* m) { m->set_world_size(~0u); }},
      {"no world",
       [](auto* m) {
         m->set_world_size(0);
         m->clear_files();
       }},
      {"static only", [](auto* m) { m->mutable_files()->DeleteSubrange(0, 1); }},
      {"static twice", [](auto* m) { *m->mutable_files(2) = m->files(1); }},
      {"static of another rank", [](auto* m) { m->mutable_files(1)->set_rank(1); }},
      {"static with other sidecar", [](auto* m) { m->mutable_files(1)->set_sidecar_crc32c(1); }},
      {"static with other layout", [](auto* m) { m->mutable_files(1)->set_layout_hash(Uid('z')); }},
      {"kind", [](auto* m) { m->mutable_files(1)->set_kind(static_cast<proto::ImageKind>(3)); }},
  });
}

// I6: a manifest leads nowhere but to its own files.
TEST(ManifestTest, PathsThatLeadElsewhereAreRefused) {
  const std::string folder = "step-00001200.i0007/";
  const std::string name = "rank-00000.safetensors";
  const std::vector<std::string> paths = {
      "",
      "/etc/passwd",
      "/" + folder + name,
      "../other/" + folder + name,
      folder + "../" + folder + name,
      "./" + folder + name,
      folder + "/" + name,
      folder + name + "/",
      folder + name + std::string(1, '\0'),
      folder + "rank-00001.safetensors",
      folder + "rank-00000.static.safetensors",
      folder + "rank-0.safetensors",
      folder + "r0000/" + name,
      name,
      "step-00001199.i0007/" + name,
      "step-00001200.i0006/" + name,
  };
  for (const std::string& path : paths) {
    proto::Manifest manifest = SampleManifest();
    manifest.mutable_files(0)->set_path(path);
    EXPECT_EQ(ValidateManifest(manifest).error().code, Errc::kInvalidArgument) << path;
  }
  const std::vector<std::string> sidecar_paths = {
      "", folder + "rank-00001.meta", "../" + folder + "rank-00000.meta", "rank-00000.meta"};
  for (const std::string& path : sidecar_paths) {
    proto::Manifest manifest = SampleManifest();
    manifest.mutable_files(0)->set_sidecar_path(path);
    EXPECT_FALSE(ValidateManifest(manifest).has_value()) << path;
  }
}

TEST(ManifestTest, StaticImagesMayBelongToThisOrAnOlderSnapshot) {
  for (const char* path : {"step-00001200.i0007/rank-00000.static.safetensors",
                           "step-00000400.i0007/rank-00007.static.safetensors",
                           "step-00009000.i0006/r0256/rank-00300.static.safetensors",
                           "step-00009000.i0006/r0000/rank-00003.static.safetensors"}) {
    proto::Manifest manifest = SampleManifest();
    manifest.mutable_files(1)->set_path(path);
    EXPECT_TRUE(ValidateManifest(manifest).has_value()) << path;
  }
  for (const char* path : {"step-00001201.i0007/rank-00000.static.safetensors",
                           "step-00000001.i0008/rank-00000.static.safetensors",
                           "step-00000400.i0007/rank-00000.safetensors",
                           "step-00000400.i0007/rank-.static.safetensors",
                           "step-00000400.i0007/rank-00300.static.safetensors",
                           "step-00000400.i0007/r0000/rank-00300.static.safetensors",
                           "step-00000400.i0007/rank-99999999999999999999.static.safetensors",
                           "step-00000400.i0007/../x/rank-00000.static.safetensors",
                           "step-00000400.i0007/rank-0000a.static.safetensors",
                           "step-00000400.i0007",
                           "/",
                           "",
                           "step-400.i7/rank-00000.static.safetensors",
                           "rank-00000.static.safetensors",
                           "step-00000400.i0007/-.static.safetensors",
                           "step-00000400.i0007/-static.safetensors",
                           "step-00000400.i0007/.static.safetensors-"}) {
    proto::Manifest manifest = SampleManifest();
    manifest.mutable_files(1)->set_path(path);
    EXPECT_FALSE(ValidateManifest(manifest).has_value()) << path;
  }
}

TEST(ManifestTest, IncompleteIdentityAndInsaneSizesAreRefused) {
  ExpectAllRefused({
      {"no version", [](auto* m) { m->clear_format_version(); }},
      {"no id", [](auto* m) { m->clear_id(); }},
      {"job uid", [](auto* m) { m->mutable_id()->set_job_uid("x"); }},
      {"job name", [](auto* m) { m->set_job_name(".."); }},
      {"parent", [](auto* m) { m->mutable_parent()->set_incarnation(0); }},
      {"length 0", [](auto* m) { m->mutable_files(0)->set_length_bytes(0); }},
      {"less than a header", [](auto* m) { m->mutable_files(0)->set_length_bytes(4095); }},
      {"2^53", [](auto* m) { m->mutable_files(0)->set_length_bytes(1ull << 53); }},
      {"hash", [](auto* m) { m->mutable_files(0)->set_layout_hash("x"); }},
  });
}

TEST(ManifestTest, FilesOfNewerSoftwareAreAVersionMismatchAndNewFieldsAreIgnored) {
  const std::string text = EncodeManifest(SampleManifest()).value();
  const std::string newer = Replaced(text, "\"format_version\": 1", "\"format_version\": 2");
  EXPECT_EQ(DecodeManifest(AsBytes(newer)).error().code, Errc::kVersionMismatch);
  const std::string more = Replaced(text, "{", "{\"colour\": {\"deep\": [1, {}]},");
  EXPECT_TRUE(DecodeManifest(AsBytes(more)).has_value());
}

TEST(ManifestTest, EveryTruncationIsAnError) {
  const std::string text = EncodeManifest(SampleManifest()).value();
  for (std::size_t length = 0; length + 2 <= text.size(); ++length) {
    const std::string cut = text.substr(0, length);
    EXPECT_EQ(DecodeManifest(AsBytes(cut)).error().code, Errc::kCorruption) << length;
  }
}

TEST(ManifestTest, EveryFlippedBitIsAnErrorOrStillAValidManifest) {
  const std::string text = EncodeManifest(SampleManifest()).value();
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const auto read = DecodeManifest(AsBytes(flipped));
    if (read) {
      EXPECT_TRUE(ValidateManifest(read.value()).has_value());
      EXPECT_EQ(read.value().files_size(), 4);
    } else {
      EXPECT_TRUE(read.error().code == Errc::kCorruption ||
                  read.error().code == Errc::kVersionMismatch);
    }
  }
}

TEST(ManifestTest, HostileTextIsAnErrorWithoutMuchMemory) {
  std::string many = "{\"files\":[{}";
  for (int i = 0; i < 2'000'000; ++i) {
    many += ",{}";
  }
  for (const std::string& text : {std::string(),
                                  std::string("{}"),
                                  std::string("[]"),
                                  std::string("null"),
                                  std::string("\xff\xfe{}"),
                                  std::string(1'000'000, '['),
                                  many + "]}",
                                  "{\"x\":" + std::string(1'000'000, '['),
                                  std::string("{\"id\":{\"job_uid\":\"!!!!\"}}"),
                                  std::string("{\"world_size\":-1}"),
                                  std::string("{\"world_size\":1e300}"),
                                  std::string("{\"job_name\":\"\\ud800\"}"),
                                  std::string("{\"files\":{}}"),
                                  std::string(64 * kMiB + 1, ' ')}) {
    EXPECT_EQ(DecodeManifest(AsBytes(text)).error().code, Errc::kCorruption) << text.substr(0, 40);
    EXPECT_EQ(DecodeJobFile(AsBytes(text)).error().code, Errc::kCorruption);
    EXPECT_EQ(DecodeIncarnationFile(AsBytes(text)).error().code, Errc::kCorruption);
  }
}

// Refused by the count, not by what comes after two million messages were made.
TEST(ManifestTest, ObjectsAreCountedBeforeTheyTakeMemory) {
  std::string many = "{\"files\":[{}";
  for (int i = 0; i < 1'000'000; ++i) {
    many += ",{}";
  }
  const auto read = DecodeManifest(AsBytes(many + "]}"));
  ASSERT_FALSE(read.has_value());
  EXPECT_NE(read.error().message.find("1,000,000 objects"), std::string::npos);
}

TEST(ManifestTest, JobFilesAreComplete) {
  proto::JobFile job = SampleJobFile();
  job.set_job_uid("x");
  EXPECT_FALSE(EncodeJobFile(job).has_value());
  job = SampleJobFile();
  job.set_job_name("a/b");
  EXPECT_FALSE(EncodeJobFile(job).has_value());
  job = SampleJobFile();
  job.set_format_version(2);
  EXPECT_EQ(EncodeJobFile(job).error().code, Errc::kVersionMismatch);
}

TEST(ManifestTest, IncarnationFilesAreComplete) {
  const std::vector<std::function<void(proto::IncarnationFile*)>> damages = {
      [](auto* i) { i->clear_format_version(); },
      [](auto* i) { i->clear_job_uid(); },
      [](auto* i) { i->set_number(0); },
      [](auto* i) { i->set_token(0); },
      [](auto* i) { i->set_world_size(0); },
      [](auto* i) { i->set_member_node_uuids(0, "n"); },
      [](auto* i) { i->set_member_node_uuids(0, i->member_node_uuids(1)); },
      [](auto* i) { i->mutable_decision()->set_decided(false); },
      [](auto* i) { i->mutable_decision()->mutable_choice()->clear_job_uid(); },
      [](auto* i) { i->mutable_decision()->mutable_fallback(); },
      [](auto* i) { i->mutable_decision()->mutable_boundary(); },
      [](auto* i) { i->mutable_decision()->set_named_step(5); },
      [](auto* i) {
        i->mutable_decision()->set_has_named_step(true);
        i->mutable_decision()->set_named_step(-5);
      },
      [](auto* i) {
        i->mutable_decision()->Clear();
        i->mutable_decision()->set_committed(true);
      },
  };
  for (std::size_t i = 0; i < damages.size(); ++i) {
    proto::IncarnationFile incarnation = SampleIncarnationFile();
    damages[i](&incarnation);
    EXPECT_EQ(ValidateIncarnationFile(incarnation).error().code, Errc::kInvalidArgument) << i;
  }
  proto::IncarnationFile undecided = SampleIncarnationFile();
  undecided.clear_decision();
  EXPECT_TRUE(ValidateIncarnationFile(undecided).has_value());
}

}  // namespace
}  // namespace holdfast::layout
