// Readers of a slot, of a peer's bytes and of a file: whole chunks, each compared with its digest.

#include "daemon/pipeline/stored_readers.h"

#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include "daemon/pipeline/open_shard.h"
#include "tests/daemon/pipeline/pipeline_fixture.h"
#include "tests/support/fault_range_reader.h"

namespace holdfast::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

class StoredReadersTest : public PipelineTest {
 protected:
  void SetUp() override {
    slot_ = slots_->Find(kSlot).value();
    what_ = DigestedBytes::Of("rank 0", sidecar_.images(0)).value();
    into_.resize(what_->length());
  }

  Status Read(ShardReader* reader, ByteCount offset = 0, seconds limit = seconds(20)) {
    ShardReadOptions options;
    options.deadline = Clock::now() + limit;
    const MutableByteView into = MutableByteView(into_).subspan(offset);
    return tests::RunCoroutine(io_, reader->ReadRange(offset, into, options, &bad_));
  }

  std::shared_ptr<ShardReader> SlotReader() {
    return SlotShardReader::Make(&pool_, what_, slot_).value();
  }

  std::shared_ptr<ShardReader> FileReader() {
    EXPECT_TRUE(FlushIt(FlushAction()).has_value());
    EXPECT_TRUE(PublishIt(PublishAction()).has_value());
    OpenShardFile action;
    action.job_name = "job";
    action.job_uid = uid_;
    action.root = Root();
    action.id = kId;
    auto opened = tests::RunCoroutine(io_, OpenShard(*context_, action));
    EXPECT_TRUE(opened.has_value());
    what_ = DigestedBytes::Of("rank 0", opened.value().sidecar.images(0)).value();
    return std::make_shared<FileShardReader>(
        &pool_, what_, TheTier(), opened.value().files.at(proto::DYNAMIC));
  }

  void ExpectWhole() {
    EXPECT_EQ(std::memcmp(into_.data(), slot_->view().data(), into_.size()), 0);
  }

  // A daemon of ours can do it; so can a client that holds a descriptor from before.
  void FlipFileByte(ByteCount at) {
    const int file = ::open(ImagePath().c_str(), O_RDWR);
    char byte = 0;
    ASSERT_EQ(::pread(file, &byte, 1, static_cast<off_t>(at)), 1);
    byte = static_cast<char>(~byte);
    ASSERT_EQ(::pwrite(file, &byte, 1, static_cast<off_t>(at)), 1);
    ::close(file);
  }

  SharedSlot slot_;
  SharedDigests what_;
  std::vector<std::byte> into_;
  std::vector<std::uint64_t> bad_;
};

TEST_F(StoredReadersTest, ASlotIsReadWholeAndInPart) {
  const auto reader = SlotReader();
  ASSERT_TRUE(Read(reader.get()).has_value());
  ExpectWhole();
  std::fill(into_.begin(), into_.end(), std::byte{0});
  ASSERT_TRUE(Read(reader.get(), 2 * kMiB).has_value());
  EXPECT_EQ(std::memcmp(
                into_.data() + 2 * kMiB, slot_->view().data() + 2 * kMiB, into_.size() - 2 * kMiB),
            0);
}

// I5.
TEST_F(StoredReadersTest, ABadChunkOfASlotIsNamed) {
  slot_->mutable_view()[kMiB + 3] ^= std::byte{1};
  const Status read = Read(SlotReader().get());
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kCorruption);
  EXPECT_THAT(read.error().message, HasSubstr("rank 0: chunk 1 from slot 1.1"));
  EXPECT_THAT(bad_, ElementsAre(1U));
}

// Zeros of a mapping that was cut must not pass where zeros are what was sealed.
TEST_F(StoredReadersTest, ASlotThatWasCutIsNoSourceWhateverItsDigestsSay) {
  std::memset(slot_->mutable_view().data(), 0, slot_->capacity());
  what_ = DigestedBytes::Make(
              "zeros", what_->length(), ChunkDigests(slot_->view().first(what_->length())))
              .value();
  ASSERT_EQ(::ftruncate(slot_->fd(), 0), 0);
  const Status read = Read(SlotReader().get());
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kCorruption);
  EXPECT_THAT(read.error().message, HasSubstr("was cut"));
}

TEST_F(StoredReadersTest, APartOfASlotIsReadFromItsBase) {
  const ByteView part = slot_->view().subspan(4096, kMiB);
  what_ = DigestedBytes::Make("row 1 of stripe 2", kMiB, ChunkDigests(part)).value();
  into_.resize(kMiB);
  const auto reader = SlotShardReader::Make(&pool_, what_, slot_, 4096).value();
  ASSERT_TRUE(Read(reader.get()).has_value());
  EXPECT_EQ(std::memcmp(into_.data(), part.data(), kMiB), 0);
  EXPECT_FALSE(
      SlotShardReader::Make(&pool_, what_, slot_, slot_->capacity() - kMiB + 1).has_value());
  EXPECT_FALSE(SlotShardReader::Make(&pool_, what_, slot_, ~ByteCount{0}).has_value());
}

TEST_F(StoredReadersTest, OnlyWholeChunksWithinTheBytesAreRead) {
  const auto reader = SlotReader();
  ShardReadOptions options;
  options.deadline = Clock::now() + seconds(5);
  const MutableByteView all(into_);
  const auto code = [&](ByteCount offset, MutableByteView into) {
    const Status read = tests::RunCoroutine(io_, reader->ReadRange(offset, into, options));
    return read.has_value() ? Errc::kInternal : read.error().code;
  };
  EXPECT_EQ(code(1, all.first(kMiB)), Errc::kInvalidArgument);
  EXPECT_EQ(code(0, all.first(kMiB - 1)), Errc::kInvalidArgument);
  EXPECT_EQ(code(kMiB, all), Errc::kInvalidArgument);
  EXPECT_EQ(code(~ByteCount{0} << 20, all.first(kMiB)), Errc::kInvalidArgument);
  EXPECT_EQ(code(0, all.first(kMiB)), Errc::kInternal);
  EXPECT_EQ(code(kMiB, all.first(0)), Errc::kInternal);
}

TEST_F(StoredReadersTest, DigestsThatDoNotFitTheLengthAreRefused) {
  EXPECT_FALSE(DigestedBytes::Make("x", kMiB + 1, {1}).has_value());
  EXPECT_FALSE(DigestedBytes::Make("x", kMiB, {1, 2}).has_value());
  EXPECT_TRUE(DigestedBytes::Make("x", 0, {}).has_value());
  proto::ImageDigest image = sidecar_.images(0);
  image.set_chunk_bytes(4096);
  EXPECT_FALSE(DigestedBytes::Of("x", image).has_value());
}

TEST_F(StoredReadersTest, APeerIsReadAndItsBadChunksAreNamed) {
  const auto peer =
      std::make_shared<transport::FaultRangeReader>(slot_->view().first(what_->length()), kMiB);
  const auto reader = PeerShardReader::Make(&pool_, what_, peer).value();
  ASSERT_TRUE(Read(reader.get()).has_value());
  ExpectWhole();
  peer->faults = [](ByteCount offset, ByteCount) {
    transport::FaultRangeReader::Fault fault;
    if (offset >= kMiB) {
      fault.flip_byte = 0;
    }
    return fault;
  };
  const Status read = Read(reader.get());
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kCorruption);
  EXPECT_THAT(bad_, ElementsAre(1U, 2U));
}

TEST_F(StoredReadersTest, AFileIsReadAndItsBadChunkIsNamed) {
  const auto reader = FileReader();
  ASSERT_TRUE(Read(reader.get()).has_value());
  ExpectWhole();
  FlipFileByte(2 * kMiB + 1);
  const Status read = Read(reader.get());
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kCorruption);
  EXPECT_THAT(bad_, ElementsAre(2U));
  EXPECT_THAT(read.error().message, HasSubstr("a file on " + Root()));
}

TEST_F(StoredReadersTest, AFileThatWasCutAfterItWasOpenedIsCorruption) {
  const auto reader = FileReader();
  std::filesystem::resize_file(ImagePath(), kMiB);
  const Status read = Read(reader.get());
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::kCorruption);
}

TEST_F(StoredReadersTest, ADeadlineThatIsOverReadsNothingFromAFile) {
  const auto reader = FileReader();
  EXPECT_EQ(Read(reader.get(), 0, seconds(-1)).error().code, Errc::kTimeout);
}

}  // namespace
}  // namespace holdfast::daemon
