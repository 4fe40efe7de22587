// Answers that no file system gives on demand: short counts, refusals, silence.
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>

#include "storage_tiers/posix_file_system.h"
#include "storage_tiers/uring_io.h"
#include "storage_tiers/uring_parked.h"
#include "storage_tiers/uring_queue.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

// What the queue of a test does, shared with the test, since a hung transfer keeps the queue.
struct Script {
  // Returns how many of the bytes are really moved, or a negative errno.  Default: all.
  std::function<std::int64_t(const IoRequest&)> answer;
  bool silent = false;          // completions are held back
  bool cancel_answers = false;  // a cancelled request completes, although silent
  std::size_t most_in_flight = 0;
  std::size_t in_flight = 0;
  std::vector<IoRequest> requests;
};

class ScriptedQueue final : public IoQueue {
 public:
  explicit ScriptedQueue(std::shared_ptr<Script> script)
      : script_(std::move(script)), calls_(MakeBlockingQueue()) {}

  ~ScriptedQueue() override {
    EXPECT_TRUE(waiting_.empty() && cancelled_.empty()) << "memory still in use";
  }

  Status Submit(const IoRequest& request) override {
    script_->requests.push_back(request);
    waiting_.push_back(request);
    ++script_->in_flight;
    script_->most_in_flight = std::max(script_->most_in_flight, script_->in_flight);
    return Ok();
  }

  Result<IoCompletion> Wait(std::chrono::milliseconds) override {
    if (!cancelled_.empty()) {
      const IoCompletion completion{cancelled_.front(), -ECANCELED};
      cancelled_.pop_front();
      --script_->in_flight;
      return completion;
    }
    if (script_->silent || waiting_.empty()) {
      return Error(Errc::kTimeout, "silence");
    }
    IoRequest request = waiting_.front();
    waiting_.pop_front();
    --script_->in_flight;
    const std::int64_t answer = script_->answer ? script_->answer(request) : request.length;
    if (answer < 0) {
      return IoCompletion{request.tag, static_cast<std::int32_t>(answer)};
    }
    request.length = static_cast<std::uint32_t>(answer);
    HF_TRYV(calls_->Submit(request));
    return calls_->Wait(std::chrono::milliseconds(0));
  }

  void Cancel(std::uint64_t tag) override {
    const auto found = std::find_if(
        waiting_.begin(), waiting_.end(), [&](const IoRequest& r) { return r.tag == tag; });
    if (script_->cancel_answers && found != waiting_.end()) {
      waiting_.erase(found);
      cancelled_.push_back(tag);
    }
  }

 private:
  const std::shared_ptr<Script> script_;
  const std::unique_ptr<IoQueue> calls_;
  std::deque<IoRequest> waiting_;
  std::deque<std::uint64_t> cancelled_;
};

class UringHangTest : public ::testing::Test {
 protected:
  void SetUp() override {
    image_.resize(3 * kMiB + 1234);
    std::uint32_t x = 7;
    for (char& c : image_) {
      x = x * 1664525 + 1013904223;
      c = static_cast<char>(x >> 24);
    }
    options_.block_bytes = kMiB;
    options_.progress_timeout = std::chrono::milliseconds(200);
  }

  void TearDown() override {
    script_->silent = false;
    script_->answer = nullptr;
    EXPECT_EQ(ReapParkedTransfers(), 0u);
  }

  ImageTransfer Open(int flags, bool direct) {
    const std::string path = JoinPath(folder_, "image");
    Descriptor fd(::open(path.c_str(), flags | O_CLOEXEC, 0600));
    EXPECT_TRUE(fd.valid());
    return {std::make_unique<ScriptedQueue>(script_), std::move(fd), path, direct};
  }

  ImageTransfer OpenForWrite(bool direct = false) {
    return Open(O_RDWR | O_CREAT | O_EXCL, direct);
  }

  std::string FileContents() {
    return ReadSmallFile(fs_, JoinPath(folder_, "image"), 100 * kMiB).value();
  }

  PosixFileSystem fs_;
  TempFolder temp_{TempFolder::Where::kTestTmpdir};
  const std::string folder_ = temp_.path();
  std::string image_;
  ImageIoOptions options_;
  const std::shared_ptr<Script> script_ = std::make_shared<Script>();
};

TEST_F(UringHangTest, ShortWritesAreContinuedUntilAllBytesAreThere) {
  for (const bool direct : {false, true}) {  // direct: continues at a multiple of 4096
    script_->requests.clear();
    script_->answer = [](const IoRequest& r) -> std::int64_t {
      return r.length > 10'000 ? r.length / 3 : r.length;
    };
    ImageTransfer transfer = OpenForWrite(direct);

    const Status written = WriteImageThrough(transfer, AsBytes(image_), options_);

    ASSERT_TRUE(written) << written.error().ToString();
    EXPECT_TRUE(FileContents() == image_);
    for (const IoRequest& request : script_->requests) {
      EXPECT_EQ(direct ? request.offset % kDirectAlignment : 0, 0u);
      EXPECT_EQ(direct ? request.length % kDirectAlignment : 0, 0u);
    }
    ASSERT_TRUE(fs_.Unlink(transfer.path));
  }
}

TEST_F(UringHangTest, ShortReadsAreContinued) {
  for (const bool direct : {false, true}) {
    ASSERT_TRUE(fs_.WriteImage(JoinPath(folder_, "image"), AsBytes(image_), {}));
    script_->answer = [](const IoRequest& r) -> std::int64_t {
      return r.length > 10'000 ? r.length / 3 : r.length;
    };
    ImageTransfer transfer = Open(O_RDONLY, direct);
    std::string out(image_.size(), '\0');
    ByteCount inspected = 0;
    options_.inspect = [&](ByteCount offset, ByteView block) -> Status {
      EXPECT_EQ(offset % kMiB, 0u);
      EXPECT_TRUE(AsText(block) == std::string_view(image_).substr(offset, block.size()));
      inspected += block.size();
      return Ok();
    };

    const Status read =
        ReadImageThrough(transfer, std::as_writable_bytes(std::span(out)), options_);

    ASSERT_TRUE(read) << read.error().ToString();
    EXPECT_TRUE(out == image_);
    EXPECT_EQ(inspected, image_.size());
    ASSERT_TRUE(fs_.Unlink(transfer.path));
  }
}

TEST_F(UringHangTest, InterruptedBlocksAreRepeatedAndNotForEver) {
  int refusals = 3;
  script_->answer = [&](const IoRequest& r) -> std::int64_t {
    return refusals-- > 0 ? -EINTR : static_cast<std::int64_t>(r.length);
  };
  ImageTransfer first = OpenForWrite();
  EXPECT_TRUE(WriteImageThrough(first, AsBytes(image_), options_));
  EXPECT_TRUE(FileContents() == image_);

  script_->answer = [](const IoRequest&) -> std::int64_t { return -EAGAIN; };
  ImageTransfer second = Open(O_RDWR, false);
  EXPECT_EQ(WriteImageThrough(second, AsBytes(image_), options_).error().code, Errc::kUnavailable);

  script_->answer = [](const IoRequest&) -> std::int64_t { return 0; };
  ImageTransfer third = Open(O_RDWR, false);
  EXPECT_EQ(WriteImageThrough(third, AsBytes(image_), options_).error().code, Errc::kIoError);
}

TEST_F(UringHangTest, AFileSystemThatRefusesDirectBlocksGetsBufferedOnes) {
  int refusals = 3;
  script_->answer = [&](const IoRequest& r) -> std::int64_t {
    return refusals-- > 0 ? -EINVAL : static_cast<std::int64_t>(r.length);
  };
  ImageTransfer transfer = OpenForWrite(true);

  ASSERT_TRUE(WriteImageThrough(transfer, AsBytes(image_), options_));

  EXPECT_FALSE(transfer.direct);
  EXPECT_TRUE(FileContents() == image_);
}

TEST_F(UringHangTest, TheFirstErrorIsReportedAndTheRestIsWaitedFor) {
  int count = 0;
  script_->answer = [&](const IoRequest& r) -> std::int64_t {
    return ++count == 2 ? -ENOSPC : static_cast<std::int64_t>(r.length);
  };
  ImageTransfer transfer = OpenForWrite();

  const Status written = WriteImageThrough(transfer, AsBytes(image_), options_);

  EXPECT_EQ(written.error().code, Errc::kNoSpace);
  EXPECT_NE(written.error().message.find(transfer.path), std::string::npos);
  EXPECT_EQ(script_->in_flight, 0u);  // I12
}

TEST_F(UringHangTest, AFailedSyncFailsTheWrite) {
  script_->answer = [](const IoRequest& r) -> std::int64_t {
    return r.kind == IoRequest::Kind::kSync ? -EIO : static_cast<std::int64_t>(r.length);
  };
  ImageTransfer transfer = OpenForWrite();

  EXPECT_EQ(WriteImageThrough(transfer, AsBytes(image_), options_).error().code, Errc::kIoError);
}

TEST_F(UringHangTest, NoMoreBlocksAreInFlightThanAllowed) {
  options_.blocks_in_flight = 2;
  ImageTransfer transfer = OpenForWrite();

  ASSERT_TRUE(WriteImageThrough(transfer, AsBytes(image_), options_));

  EXPECT_EQ(script_->most_in_flight, 2u);
}

TEST_F(UringHangTest, ASilentFileSystemIsATimeoutAndTheMemoryStaysHeld) {
  // I12: the slot (keep_alive) is not given back while the kernel may still touch it, and is given
  // back once it cannot.
  script_->silent = true;
  auto slot = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = slot;
  options_.keep_alive = std::move(slot);
  ImageTransfer transfer = OpenForWrite();

  const Status written = WriteImageThrough(transfer, AsBytes(image_), options_);
  options_.keep_alive = nullptr;

  EXPECT_EQ(written.error().code, Errc::kTimeout);
  EXPECT_NE(written.error().message.find(transfer.path), std::string::npos);
  EXPECT_NE(written.error().message.find("hang in the kernel"), std::string::npos);
  EXPECT_FALSE(watch.expired());
  EXPECT_EQ(ReapParkedTransfers(), 1u);
  EXPECT_FALSE(watch.expired());

  script_->silent = false;
  EXPECT_EQ(ReapParkedTransfers(), 0u);
  EXPECT_TRUE(watch.expired());
}

TEST_F(UringHangTest, ATimeoutWhoseRequestsCanBeCancelledHoldsNothing) {
  script_->silent = true;
  script_->cancel_answers = true;
  ImageTransfer transfer = OpenForWrite();

  const Status written = WriteImageThrough(transfer, AsBytes(image_), options_);

  EXPECT_EQ(written.error().code, Errc::kTimeout);
  EXPECT_EQ(ReapParkedTransfers(), 0u);
  EXPECT_EQ(script_->in_flight, 0u);
}

TEST_F(UringHangTest, CancellingAHungTransferReturnsAndHoldsTheMemory) {
  script_->silent = true;
  options_.progress_timeout = std::chrono::seconds(1);
  std::atomic<bool> cancel = false;
  options_.cancel = &cancel;
  options_.blocks_in_flight = 2;
  int blocks = 0;
  options_.inspect = [&](ByteCount, ByteView) -> Status {
    cancel = ++blocks == 2;  // rises with the queue full
    return Ok();
  };
  ImageTransfer transfer = OpenForWrite();

  const Status written = WriteImageThrough(transfer, AsBytes(image_), options_);

  EXPECT_EQ(written.error().code, Errc::kCancelled);
  EXPECT_EQ(ReapParkedTransfers(), 1u);
  script_->silent = false;
  EXPECT_EQ(ReapParkedTransfers(), 0u);
}

TEST_F(UringHangTest, HungTransfersDoNotPileUpWithoutBound) {
  // I9: retries of a hung flush must not pin all slots and rings.
  script_->silent = true;
  for (std::size_t i = 0; i < kMaxParkedTransfers; ++i) {
    auto queue = std::make_unique<ScriptedQueue>(script_);
    ASSERT_TRUE(queue->Submit({IoRequest::Kind::kSync, -1, nullptr, 0, 0, i}));
    ParkTransfer({std::move(queue), {}, "/hung/file", 1, {}, {}});
  }
  ImageTransfer transfer = OpenForWrite();

  const Status written = WriteImageThrough(transfer, AsBytes(image_), options_);

  EXPECT_EQ(written.error().code, Errc::kUnavailable);
  EXPECT_NE(written.error().message.find("/hung/file"), std::string::npos);
}

TEST_F(UringHangTest, AFileThatShrinksWhileItIsReadIsCorruption) {
  ASSERT_TRUE(fs_.WriteImage(JoinPath(folder_, "image"), AsBytes(image_), {}));
  ImageTransfer transfer = Open(O_RDWR, false);
  ASSERT_EQ(::ftruncate(transfer.fd.get(), 5000), 0);
  std::string out(image_.size(), '\0');

  const Status read = ReadImageThrough(transfer, std::as_writable_bytes(std::span(out)), options_);

  EXPECT_EQ(read.error().code, Errc::kCorruption);
}

}  // namespace
}  // namespace holdfast::storage_tiers
