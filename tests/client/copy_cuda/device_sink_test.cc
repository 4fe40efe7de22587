// A restore into device memory, on the simulated runtime (I5).
#include "client/copy_cuda/device_sink.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/image_load.h"
#include "common/crc32c.h"
#include "tests/support/bulk_bytes.h"
#include "tests/support/cuda_sim/cuda_sim.h"
#include "tests/support/cuda_sim/gate.h"

namespace holdfast::client {
namespace {

constexpr std::size_t kImageBytes = 21 * kChunkBytes + 4321;
constexpr int kDevices = 2;

std::string RandomImage() {
  std::mt19937_64 random(3);
  std::string image(kImageBytes, '\0');
  for (auto& byte : image) {
    byte = static_cast<char>(random());
  }
  return image;
}

class DeviceSinkTest : public testing::Test {
 protected:
  void SetUp() override {
    cuda_sim::Options options;
    options.devices = kDevices;
    cuda_sim::Reset(options);
    for (int device = 0; device < kDevices; ++device) {
      ASSERT_EQ(cudaSetDevice(device), cudaSuccess);
      ASSERT_EQ(cudaMalloc(&memory_[device], kImageBytes), cudaSuccess);
      std::memset(cuda_sim::HostView(memory_[device]), 0, kImageBytes);
    }
  }

  void TearDown() override {
    for (void* memory : memory_) {
      static_cast<void>(cudaFree(memory));
    }
    EXPECT_EQ(cuda_sim::Violations(), std::vector<std::string>{});
    EXPECT_EQ(cuda_sim::Leaks().Total(), 0);
  }

  // Pieces of many sizes, with gaps, in turns for each device and for the host.
  void MakePieces() {
    std::mt19937_64 random(5);
    ByteCount at = 100;
    for (int i = 0; at < kImageBytes; ++i) {
      const ByteCount most = i % 4 == 0 ? 6 * kChunkBytes : 9000;
      const ByteCount length = std::min<ByteCount>(1 + random() % most, kImageBytes - at);
      const int device = i % 3 - 1;
      std::byte* const start = device == kHostDevice ? host_.data() : Device(device);
      pieces_.push_back(LoadPiece{at, length, start + at, device});
      at += length + random() % 300;
    }
  }

  std::byte* Device(int device) const { return static_cast<std::byte*>(memory_[device]); }

  Status Load(const std::string& image, std::uint32_t threads) {
    transport::OwnedFd fd(::memfd_create("image", MFD_CLOEXEC));
    EXPECT_EQ(::write(fd.Get(), image.data(), image.size()), static_cast<ssize_t>(image.size()));
    const auto source = ImageSource::Open(std::move(fd), image.size()).value();
    HF_TRY(const auto sink, DeviceSink::Make(threads));
    note_ = sink->Note();
    LoadReport report;
    return LoadPieces(*source, digests_, pieces_, threads, sink.get(), &report);
  }

  // Where a piece's bytes are for the host.
  const std::byte* Landed(const LoadPiece& piece) const {
    return piece.device == kHostDevice ? piece.destination
                                       : cuda_sim::HostViewAs<std::byte>(piece.destination);
  }

  const std::string image_ = RandomImage();
  const std::vector<std::uint32_t> digests_ = ChunkDigests(AsBytes(image_));
  std::vector<std::byte> host_ = std::vector<std::byte>(kImageBytes);
  void* memory_[kDevices] = {};
  std::vector<LoadPiece> pieces_;
  std::string note_;
};

TEST_F(DeviceSinkTest, EveryByteArrivesOnItsDevice) {
  MakePieces();
  for (const std::uint32_t threads : {1U, 3U, 8U}) {
    const Status loaded = Load(image_, threads);
    ASSERT_FALSE(loaded.has_error()) << loaded.error().ToString();
    EXPECT_EQ(note_, "");
    for (const LoadPiece& piece : pieces_) {
      ASSERT_EQ(std::memcmp(Landed(piece), image_.data() + piece.offset, piece.length), 0)
          << "at " << piece.offset << " for device " << piece.device;
    }
  }
}

// I5: also where it shares a room with good ones.
TEST_F(DeviceSinkTest, AChunkThatDoesNotMatchNeverReachesADevice) {
  pieces_ = {LoadPiece{0, kImageBytes, Device(0), 0}};
  for (const std::uint64_t bad : {0, 5, 6, 21}) {
    std::memset(cuda_sim::HostView(memory_[0]), 0, kImageBytes);
    std::string image = image_;
    image[bad * kChunkBytes + 99] ^= 1;
    EXPECT_EQ(Load(image, 2).error().code, Errc::kCorruption);
    const auto* landed = cuda_sim::HostViewAs<std::byte>(memory_[0]);
    const std::size_t end = std::min<std::size_t>((bad + 1) * kChunkBytes, kImageBytes);
    EXPECT_TRUE(AllAre(ByteView(landed + bad * kChunkBytes, landed + end), std::byte{0}));
    const std::uint64_t good = bad == 5 ? 4 : 7;
    EXPECT_EQ(
        std::memcmp(landed + good * kChunkBytes, image.data() + good * kChunkBytes, kChunkBytes),
        0);
  }
}

// What lies together travels together: a call for each chunk would leave the link idle.
TEST_F(DeviceSinkTest, NeighbouringChunksOfATensorAreOneCopy) {
  pieces_ = {LoadPiece{0, 20 * kChunkBytes, Device(0), 0}};
  ASSERT_FALSE(Load(image_, 2).has_error());
  EXPECT_EQ(cuda_sim::CallCount("cudaMemcpyAsync"), 20 / static_cast<int>(LoadSink::kRoomChunks));
}

// They may be two allocations side by side, which no copy may span.
TEST_F(DeviceSinkTest, NeighbouringTensorsAreCopiesOfTheirOwn) {
  for (ByteCount at = 0; at < 8 * kChunkBytes; at += kChunkBytes) {
    pieces_.push_back(LoadPiece{at, kChunkBytes, Device(0) + at, 0});
  }
  ASSERT_FALSE(Load(image_, 2).has_error());
  EXPECT_EQ(cuda_sim::CallCount("cudaMemcpyAsync"), 8);
}

// A job that could take snapshots must be able to resume under the same memory lock limit.
TEST_F(DeviceSinkTest, WhereBuffersCannotBePinnedTheBytesArriveAllTheSame) {
  MakePieces();
  cuda_sim::FailCall("cudaHostRegister", 1, cudaErrorMemoryAllocation);
  const Status loaded = Load(image_, 3);
  ASSERT_FALSE(loaded.has_error()) << loaded.error().ToString();
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << "an error of ours was left to the trainer";
  for (const LoadPiece& piece : pieces_) {
    ASSERT_EQ(std::memcmp(Landed(piece), image_.data() + piece.offset, piece.length), 0);
  }
  EXPECT_EQ(cuda_sim::Leaks().registrations, 0);
  EXPECT_NE(note_.find("could not be pinned"), std::string::npos) << note_;
  EXPECT_NE(note_.find("cudaHostRegister: "), std::string::npos) << note_;
}

// A restore ends when all bytes are where they belong, those of tied tensors too: the trainer's
// streams need not wait for the default one, on which CUDA copies from device to device.
TEST_F(DeviceSinkTest, TheSecondOfTwoTensorsWithTheSameBytesHasThemWhenItReturns) {
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  const auto sink = DeviceSink::Make(1).value();
  std::memset(cuda_sim::HostView(Device(0)), 7, 100);
  for (int to = 0; to < kDevices; ++to) {
    cuda_sim::Gate gate;
    ASSERT_EQ(cudaSetDevice(to), cudaSuccess);
    ASSERT_EQ(gate.Hold(nullptr), cudaSuccess);  // before the copy, on the stream that it goes to
    ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
    std::atomic<bool> returned{false};
    const int waits = cuda_sim::CallCount("cudaStreamSynchronize");
    std::thread opener([&] {
      while (!returned && cuda_sim::CallCount("cudaStreamSynchronize") == waits) {
        std::this_thread::yield();
      }
      gate.Open();
    });
    std::byte* const twin = Device(to) + kChunkBytes;
    const Status copied = sink->Duplicate(twin, to, Device(0), 100);
    cuda_sim::ExpectAtRest(twin, 100, "a restored tensor is in use");
    returned = true;
    opener.join();
    ASSERT_FALSE(copied.has_error()) << copied.error().ToString();
    const auto* landed = cuda_sim::HostViewAs<std::byte>(twin);
    EXPECT_TRUE(AllAre(ByteView(landed, landed + 100), std::byte{7})) << to;
  }
}

// Of another device, while threads load that the capture's one did not start: a call that its mode
// forbids would break it.
TEST_F(DeviceSinkTest, ACaptureMeanwhileStaysWhole) {
  cudaStream_t captured = nullptr;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&captured, cudaStreamNonBlocking), cudaSuccess);
  cuda_sim::BeginCapture(captured);
  {
    const auto sink = DeviceSink::Make(1).value();
    std::thread([&] {
      for (std::size_t i = 0; i < 12; ++i) {  // more than there are rooms: Borrow waits
        const auto room = sink->Borrow();
        ASSERT_TRUE(room.has_value()) << room.error().ToString();
        const LoadSink::Part part{0, kChunkBytes, 0, Device(0) + i * kChunkBytes};
        const Status sent = sink->Send(room.value(), {&part, 1});
        ASSERT_FALSE(sent.has_error()) << sent.error().ToString();
      }
    }).join();
    EXPECT_FALSE(sink->Finish().has_error());
    EXPECT_FALSE(sink->Duplicate(Device(0), 0, Device(0) + kChunkBytes, 100).has_error());
  }
  EXPECT_EQ(cuda_sim::EndCapture(captured), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(captured), cudaSuccess);
}

TEST_F(DeviceSinkTest, TheCallersCurrentDeviceAndCaptureModeStayWhatTheyAre) {
  pieces_ = {LoadPiece{0, kImageBytes, Device(1), 1}};
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  ASSERT_FALSE(Load(image_, 2).has_error());
  int device = -1;
  ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 0);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  ASSERT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(mode, cudaStreamCaptureModeGlobal);
}

TEST_F(DeviceSinkTest, AnErrorOfTheTrainingThatWaitsIsThereAfterwards) {
  pieces_ = {LoadPiece{0, kImageBytes, Device(1), 1}};
  void* memory = nullptr;
  cuda_sim::FailCall("cudaMalloc", 1, cudaErrorInvalidConfiguration);
  ASSERT_EQ(cudaMalloc(&memory, 1), cudaErrorInvalidConfiguration);
  ASSERT_FALSE(Load(image_, 2).has_error());
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidConfiguration);
  cuda_sim::FailCall("cudaHostRegister", 1, cudaErrorMemoryAllocation);
  ASSERT_FALSE(Load(image_, 2).has_error());
  EXPECT_NE(cudaGetLastError(), cudaSuccess) << "fetched by a call of ours that failed";
}

TEST_F(DeviceSinkTest, AFailedCopyIsAnErrorAndLeavesNothingBehind) {
  MakePieces();
  for (const char* call : {"cudaMemcpyAsync", "cudaEventRecord"}) {
    cuda_sim::FailCall(call, 1, cudaErrorUnknown);
    EXPECT_EQ(Load(image_, 3).error().code, Errc::kIoError) << call;
  }
}

}  // namespace
}  // namespace holdfast::client
