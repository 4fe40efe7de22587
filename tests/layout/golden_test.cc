// Bytes written once must stay readable, and what is written today must be what was written then.
// A field that is added changes what is written: the file from before stays, with a test that reads
// it.
#include <string>

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "layout/image.h"
#include "layout/manifest.h"
#include "layout/sidecar.h"
#include "tests/layout/samples.h"
#include "tests/support/golden_file.h"

namespace holdfast::layout {
namespace {

using google::protobuf::util::MessageDifferencer;

TEST(GoldenTest, ImageHeadersAreWrittenAndReadAsEver) {
  const proto::Layout layout = MixedLayout();
  const std::string now = BuildImageHeader(layout, proto::DYNAMIC).value();
  const std::string golden = GoldenFile("layout/image_header_v1.bin", now);
  EXPECT_EQ(golden, now);
  const auto read = ReadImageHeader(AsBytes(golden), layout.dynamic_image_bytes());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read.value().size(), 7u);
}

TEST(GoldenTest, SidecarFilesAreWrittenAndReadAsEver) {
  const std::string now = EncodeSidecarFile(SampleSidecar()).value();
  const std::string golden = GoldenFile("layout/sidecar_v1.meta", now);
  const auto read = DecodeSidecarFile(AsBytes(golden));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_TRUE(MessageDifferencer::Equals(read.value(), SampleSidecar()));
  EXPECT_EQ(golden, now);
}

TEST(GoldenTest, ManifestsAreWrittenAndReadAsEver) {
  const std::string now = EncodeManifest(SampleManifest()).value();
  const std::string golden = GoldenFile("layout/manifest_v1.json", now);
  const auto read = DecodeManifest(AsBytes(golden));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_TRUE(MessageDifferencer::Equals(read.value(), SampleManifest()));
  EXPECT_EQ(golden, now);
}

TEST(GoldenTest, JobAndIncarnationFilesAreWrittenAndReadAsEver) {
  const std::string job = EncodeJobFile(SampleJobFile()).value();
  const std::string golden_job = GoldenFile("layout/job_v1.json", job);
  EXPECT_TRUE(DecodeJobFile(AsBytes(golden_job)).has_value());
  EXPECT_EQ(golden_job, job);
  const std::string incarnation = EncodeIncarnationFile(SampleIncarnationFile()).value();
  const std::string golden_incarnation = GoldenFile("layout/incarnation_v1.json", incarnation);
  EXPECT_TRUE(DecodeIncarnationFile(AsBytes(golden_incarnation)).has_value());
  EXPECT_EQ(golden_incarnation, incarnation);
}

TEST(GoldenTest, AnIncarnationFileFromBeforeOverwritesIsRead) {
  const std::string golden = GoldenFile("layout/incarnation_v1_without_overwrites.json");
  const auto read = DecodeIncarnationFile(AsBytes(golden));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_TRUE(MessageDifferencer::Equals(read.value(), SampleIncarnationFile()));
}

}  // namespace
}  // namespace holdfast::layout
