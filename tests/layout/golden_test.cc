// Bytes written once must stay readable, and what is written today must be what was written then.
//
// To write the files anew after a deliberate change of a format (with a new format version!):
//   HOLDFAST_REWRITE_GOLDEN=$PWD/tests/golden/layout <this program>
// and keep the old files under their version's name, with a test that reads them.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "layout/image.h"
#include "layout/manifest.h"
#include "layout/sidecar.h"
#include "tests/layout/samples.h"

namespace holdfast::layout {
namespace {

using google::protobuf::util::MessageDifferencer;

// The content of the golden file; in rewrite mode "now" is written to it first.
std::string Golden(const std::string& name, const std::string& now) {
  const char* rewrite = std::getenv("HOLDFAST_REWRITE_GOLDEN");
  const std::string folder = rewrite != nullptr ? rewrite : "tests/golden/layout";
  const std::string path = folder + "/" + name;
  if (rewrite != nullptr) {
    std::ofstream(path, std::ios::binary) << now;
  }
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(GoldenTest, ImageHeadersAreWrittenAndReadAsEver) {
  const proto::Layout layout = MixedLayout();
  const std::string now = BuildImageHeader(layout, proto::DYNAMIC).value();
  const std::string golden = Golden("image_header_v1.bin", now);
  EXPECT_EQ(golden, now);
  const auto read = ReadImageHeader(AsBytes(golden), layout.dynamic_image_bytes());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read.value().size(), 7u);
}

TEST(GoldenTest, SidecarFilesAreWrittenAndReadAsEver) {
  const std::string now = EncodeSidecarFile(SampleSidecar()).value();
  const std::string golden = Golden("sidecar_v1.meta", now);
  const auto read = DecodeSidecarFile(AsBytes(golden));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_TRUE(MessageDifferencer::Equals(read.value(), SampleSidecar()));
  EXPECT_EQ(golden, now);
}

TEST(GoldenTest, ManifestsAreWrittenAndReadAsEver) {
  const std::string now = EncodeManifest(SampleManifest()).value();
  const std::string golden = Golden("manifest_v1.json", now);
  const auto read = DecodeManifest(AsBytes(golden));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_TRUE(MessageDifferencer::Equals(read.value(), SampleManifest()));
  EXPECT_EQ(golden, now);
}

TEST(GoldenTest, JobAndIncarnationFilesAreWrittenAndReadAsEver) {
  const std::string job = EncodeJobFile(SampleJobFile()).value();
  const std::string golden_job = Golden("job_v1.json", job);
  EXPECT_TRUE(DecodeJobFile(AsBytes(golden_job)).has_value());
  EXPECT_EQ(golden_job, job);
  const std::string incarnation = EncodeIncarnationFile(SampleIncarnationFile()).value();
  const std::string golden_incarnation = Golden("incarnation_v1.json", incarnation);
  EXPECT_TRUE(DecodeIncarnationFile(AsBytes(golden_incarnation)).has_value());
  EXPECT_EQ(golden_incarnation, incarnation);
}

}  // namespace
}  // namespace holdfast::layout
