// Captures into graphs: what leaves one alone and what spoils it.
#include "tests/support/cuda_sim/sim_test.h"

namespace holdfast::cuda_sim {
namespace {

class CudaSimCapture : public SimTest {
 protected:
  void SetUp() override {
    SimTest::SetUp();
    captured_ = NewStream();
    other_ = NewStream();
    event_ = NewEvent();
  }

  static cudaStreamCaptureStatus StatusOf(cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    EXPECT_EQ(cudaStreamIsCapturing(stream, &status), cudaSuccess);
    return status;
  }

  void DestroyAll() {
    EXPECT_EQ(cudaEventDestroy(event_), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(captured_), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(other_), cudaSuccess);
  }

  cudaStream_t captured_ = nullptr;
  cudaStream_t other_ = nullptr;
  cudaEvent_t event_ = nullptr;
};

TEST_F(CudaSimCapture, IsSaidAndTakesKernelsWithoutRunningThem) {
  EXPECT_EQ(StatusOf(captured_), cudaStreamCaptureStatusNone);
  BeginCapture(captured_);
  EXPECT_EQ(StatusOf(captured_), cudaStreamCaptureStatusActive);
  EXPECT_EQ(StatusOf(other_), cudaStreamCaptureStatusNone);
  bool ran = false;
  EXPECT_EQ(Launch(captured_, [&] { ran = true; }), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event_, other_), cudaSuccess);
  EXPECT_EQ(EndCapture(captured_), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(captured_), cudaSuccess);
  EXPECT_FALSE(ran);
  DestroyAll();
}

TEST_F(CudaSimCapture, OfARecordIsAViolation) {
  BeginCapture(captured_);
  EXPECT_EQ(cudaEventRecord(event_, captured_), cudaSuccess);
  EXPECT_EQ(EndCapture(captured_), cudaSuccess);
  ExpectViolation("cudaEventRecord was captured");
}

TEST_F(CudaSimCapture, EndsByAQueryOfWhatItRecorded) {
  BeginCapture(captured_, cudaStreamCaptureModeRelaxed);
  EXPECT_EQ(cudaEventRecord(event_, captured_), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event_), cudaErrorCapturedEvent);
  EXPECT_EQ(StatusOf(captured_), cudaStreamCaptureStatusInvalidated);
  EXPECT_EQ(cudaEventRecord(event_, captured_), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(EndCapture(captured_), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(Violations().size(), 2U);
  Reset(Options{});
}

TEST_F(CudaSimCapture, EndsByAWaitForWhatIsOutside) {
  EXPECT_EQ(cudaEventRecord(event_, other_), cudaSuccess);
  BeginCapture(captured_);
  EXPECT_EQ(cudaStreamWaitEvent(captured_, event_, 0), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(EndCapture(captured_), cudaErrorStreamCaptureInvalidated);
  ExpectViolation("waits for an event outside");
}

TEST_F(CudaSimCapture, DrawsInAStreamThatWaitsForIt) {
  BeginCapture(captured_);
  EXPECT_EQ(cudaEventRecord(event_, captured_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(other_, event_, 0), cudaSuccess);
  EXPECT_EQ(StatusOf(other_), cudaStreamCaptureStatusActive);
  EXPECT_EQ(EndCapture(captured_), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(StatusOf(other_), cudaStreamCaptureStatusNone);
  EXPECT_EQ(Violations().size(), 2U);
  Reset(Options{});
}

TEST_F(CudaSimCapture, EndsByAnUnsafeCallOfAnyThread) {
  BeginCapture(captured_, cudaStreamCaptureModeGlobal);
  std::thread([&] { EXPECT_EQ(cudaEventQuery(event_), cudaErrorStreamCaptureUnsupported); }).join();
  EXPECT_EQ(EndCapture(captured_), cudaErrorStreamCaptureInvalidated);
  ExpectViolation("cudaEventQuery during a capture");
}

TEST_F(CudaSimCapture, LivesWithCallsOfARelaxedThread) {
  BeginCapture(captured_, cudaStreamCaptureModeGlobal);
  std::thread([&] {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    EXPECT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
    EXPECT_EQ(mode, cudaStreamCaptureModeGlobal);
    EXPECT_EQ(cudaEventQuery(event_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(other_), cudaSuccess);
  }).join();
  EXPECT_EQ(EndCapture(captured_), cudaSuccess);
  DestroyAll();
}

TEST_F(CudaSimCapture, LivesWithCallsOfItsOwnThreadWhileThatIsRelaxed) {
  BeginCapture(captured_, cudaStreamCaptureModeGlobal);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  EXPECT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event_), cudaSuccess);
  EXPECT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(EndCapture(captured_), cudaSuccess);
  DestroyAll();
}

TEST_F(CudaSimCapture, OfAThreadLivesWithCallsOfOthers) {
  BeginCapture(captured_, cudaStreamCaptureModeThreadLocal);
  std::thread([&] {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;
    EXPECT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
    EXPECT_EQ(cudaEventQuery(event_), cudaSuccess);
  }).join();
  EXPECT_EQ(EndCapture(captured_), cudaSuccess);
  DestroyAll();
}

TEST_F(CudaSimCapture, EndsByTheLegacyStream) {
  const cudaStream_t blocking = NewStream(cudaStreamDefault);
  BeginCapture(blocking);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  EXPECT_EQ(cudaStreamIsCapturing(nullptr, &status), cudaErrorStreamCaptureImplicit);
  EXPECT_EQ(StatusOf(blocking), cudaStreamCaptureStatusActive) << "asking harms nothing";
  EXPECT_EQ(Launch(nullptr, [] {}), cudaErrorStreamCaptureImplicit);
  EXPECT_EQ(EndCapture(blocking), cudaErrorStreamCaptureInvalidated);
  ExpectViolation("legacy stream beside a capture");
}

}  // namespace
}  // namespace holdfast::cuda_sim
