// A snapshot's way through a lane.
#include <algorithm>
#include <utility>

#include "client/copy_cuda/lane.h"

namespace holdfast::client {
namespace {

// Windows on their way to the host at a time: two hide the time it takes to notice that one landed.
constexpr std::size_t kWindowsAhead = 3;
// How much faster than to the host a copy within the device is, on the fastest links.
constexpr ByteCount kWithinIsFaster = 24;

}  // namespace

Flight::Flight(Lane* lane, std::shared_ptr<const CopyJob> job, Room* room)
    : lane_(lane),
      job_(std::move(job)),
      room_(room),
      first_staged_(lane->plan_->Windows().size()) {}

void Flight::Begin(cudaStream_t stream, bool sums) {
  auto begin = [&]() -> Status {
    HF_TRY(begun_, MakeEvent(cudaEventDefault));
    HF_TRY(done_, MakeEvent());
    if (Mutated(Mutation::kDoneEventReused) && lane_->reused_done_.event == nullptr) {
      lane_->reused_done_.event = std::move(done_);
    }
    HF_TRY(ended_, MakeEvent(cudaEventDefault));
    HF_TRYV(room_->Begin(job_->sources, job_->step, sums, stream));
    return CudaStatus(cudaEventRecord(begun_.get(), stream), "cudaEventRecord");
  };
  if (const Status begun = begin(); begun.has_error()) {
    failure_ = begun.error();
  }
}

bool Flight::Advance(bool hurry, bool may_issue) {
  bool moved = PollLandings();
  if (issued_) {
    return moved;
  }
  if (failure_.has_value()) {
    Fail(*failure_);
    return true;
  }
  if (!may_issue) {
    return moved;
  }
  const std::size_t before = next_window_;
  const bool was_started = started_;
  const bool was_released = released_;
  // Events are made on the device that is current, and belong to it.
  Status status = CudaStatus(cudaSetDevice(lane_->device_), "cudaSetDevice");
  if (status.has_value()) {
    status = IssueSome(hurry);
  }
  if (status.has_error()) {
    Fail(status.error());
  }
  return moved || issued_ || next_window_ != before || started_ != was_started ||
         released_ != was_released;
}

bool Flight::PollLandings() {
  bool moved = false;
  while (!in_flight_.empty()) {
    Landing& oldest = in_flight_.front();
    cudaError_t code = oldest.mark.Query();
    if (Mutated(Mutation::kFreeBeforeLastCopy) && issued_ && in_flight_.size() == 1) {
      code = cudaSuccess;
    }
    if (code == cudaErrorNotReady) {
      break;
    }
    moved = true;
    if (code != cudaSuccess) {
      // The device has failed for good: nothing lands any more, and no mark will be passed.
      in_flight_.clear();
      if (!failure_.has_value()) {
        failure_ = CudaStatus(code, "a copy to the host").error();
      }
      released_ = issued_ = true;
      GiveBackStaging();
      return true;
    }
    landed_ = std::max(landed_, oldest.landed);
    if (oldest.staged) {
      GiveBackStaging();
    }
    if (CudaEvent event = oldest.mark.TakeEvent(); event != nullptr) {
      lane_->ReturnEvent(std::move(event));
    }
    in_flight_.pop_front();
  }
  return moved;
}

// What has landed when everything up to window "window" has; 0 windows: the head.
ByteCount Flight::LandedAfter(std::size_t window) const {
  const auto& windows = lane_->plan_->Windows();
  return window < windows.size() ? windows[window].image_offset : job_->plan->ImageBytes();
}

Status Flight::IssueSome(bool hurry) {
  if (released_) {
    return IssueStaged();
  }
  if (!started_) {
    started_ = true;
    HF_TRYV(IssueHead());
  }
  const auto& windows = lane_->plan_->Windows();
  if (hurry && next_window_ < windows.size()) {
    HF_TRYV(StageRest());
  }
  const bool all = hurry || !lane_->staging_.Helps();
  while (next_window_ < first_staged_ && (all || in_flight_.size() < kWindowsAhead)) {
    const std::size_t end = std::min(next_window_ + (all ? kWindowsAtOnce : 1), first_staged_);
    HF_TRYV(IssueWindows(next_window_, end, nullptr));
    next_window_ = end;
    HF_TRYV(AddLanding(LandedAfter(next_window_), false));
  }
  return next_window_ == first_staged_ ? Release() : Ok();
}

Status Flight::IssueHead() {
  if (!Mutated(Mutation::kCopiesDoNotWaitForBegin)) {
    HF_TRYV(CudaStatus(cudaStreamWaitEvent(lane_->copies_.get(), begun_.get(), 0),
                       "cudaStreamWaitEvent"));
  }
  HF_TRYV(room_->ReadBack(lane_->copies_.get()));
  return AddLanding(LandedAfter(0), false);
}

Status Flight::IssueWindows(std::size_t first, std::size_t end, const std::byte* staged_at) {
  copies_.Clear();
  const auto& windows = lane_->plan_->Windows();
  const auto& pieces = lane_->plan_->Pieces();
  for (std::size_t i = windows[first].first; i < windows[end - 1].end;) {
    const TensorPiece& piece = pieces[i];
    const ByteCount image_at = job_->plan->Tensors()[piece.tensor].offset + piece.offset;
    // What was cut between two windows is one copy again.
    ByteCount bytes = 0;
    do {
      bytes += pieces[i++].bytes;
    } while (i < windows[end - 1].end && pieces[i].tensor == piece.tensor);
    const std::byte* from = job_->sources[piece.tensor].Base() + piece.offset;
    if (staged_at != nullptr) {
      from = staged_at;
      staged_at += bytes;
    }
    copies_.Add(job_->slot->Data() + image_at, from, bytes);
  }
  return lane_->copier_.Issue(
      copies_, cudaMemcpyDeviceToHost, lane_->copies_.get(), job_->slot->Pinned());
}

// While the copies within the device run, the link need not stand idle.
std::size_t Flight::WindowsBesideStaging(ByteCount rest) const {
  const auto& windows = lane_->plan_->Windows();
  std::size_t first = next_window_;
  for (ByteCount bytes = 0; first < windows.size(); ++first) {
    bytes += windows[first].bytes;
    if (bytes > rest / kWithinIsFaster) {
      break;
    }
  }
  const std::size_t beside = first - next_window_;
  return beside - std::min(beside, in_flight_.size());
}

// Whether the link still carried the flight before when this one began, in the device's time: the
// host may be an iteration ahead of it.  Where the device has come to neither, what was last known.
bool Flight::BeganBehind() {
  const bool begun = cudaEventQuery(begun_.get()) == cudaSuccess;
  const bool link_free = cudaEventQuery(lane_->link_free_.get()) == cudaSuccess;
  if (begun && link_free) {
    const auto behind = Between(begun_, lane_->link_free_);
    lane_->link_is_behind_ = behind.has_value() && *behind > std::chrono::nanoseconds(0);
  } else if (begun || link_free) {
    lane_->link_is_behind_ = begun;
  }
  return lane_->link_is_behind_;
}

void Flight::TakeStaging() {
  has_staging_ = true;
  lane_->staging_.Take();
}

void Flight::GiveBackStaging() {
  if (has_staging_) {
    has_staging_ = false;
    lane_->staging_.GiveBack();
  }
}

// Puts as many of the last windows as may lie in the staging memory there, behind everything that
// the trainer's stream had when the snapshot began, and behind the last copy out of that memory.
Status Flight::StageRest() {
  const auto& windows = lane_->plan_->Windows();
  ByteCount rest = 0;
  for (std::size_t i = next_window_; i < windows.size(); ++i) {
    rest += windows[i].bytes;
  }
  if (!lane_->staging_.Useful(rest)) {
    return Ok();
  }
  const std::size_t first_wanted = next_window_ + WindowsBesideStaging(rest);
  const ByteCount free = lane_->staging_.Free(lane_->plan_->WindowBytes(), BeganBehind());
  std::size_t first = windows.size();
  ByteCount staged = 0;
  while (first > first_wanted && staged + windows[first - 1].bytes <= free) {
    staged += windows[--first].bytes;
  }
  if (first == windows.size()) {
    return Ok();
  }
  copies_.Clear();
  std::byte* to = lane_->staging_.Memory();
  for (std::size_t i = windows[first].first; i < windows.back().end; ++i) {
    const TensorPiece& piece = lane_->plan_->Pieces()[i];
    copies_.Add(to, job_->sources[piece.tensor].Base() + piece.offset, piece.bytes);
    to += piece.bytes;
  }
  TakeStaging();
  first_staged_ = first;
  HF_TRYV(CudaStatus(cudaStreamWaitEvent(lane_->within_.get(), begun_.get(), 0),
                     "cudaStreamWaitEvent"));
  if (!Mutated(Mutation::kStagingFreedAtOnce)) {
    // All of the flights before are issued, so the record of their last copy is there.
    HF_TRYV(CudaStatus(cudaStreamWaitEvent(lane_->within_.get(), lane_->link_free_.get(), 0),
                       "cudaStreamWaitEvent"));
  }
  return lane_->copier_.Issue(copies_, cudaMemcpyDeviceToDevice, lane_->within_.get(), true);
}

// After the last read of the sources: the sample once more, then "done".
Status Flight::Release() {
  cudaStream_t const copies = lane_->copies_.get();
  if (UsesStaging()) {
    HF_TRY(CudaEvent staged, lane_->TakeEvent());
    HF_TRYV(CudaStatus(cudaEventRecord(staged.get(), lane_->within_.get()), "cudaEventRecord"));
    HF_TRYV(CudaStatus(cudaStreamWaitEvent(copies, staged.get(), 0), "cudaStreamWaitEvent"));
    lane_->ReturnEvent(std::move(staged));  // the wait is bound to the record, not to the event
  }
  if (!Mutated(Mutation::kSampleAfterDone)) {
    HF_TRYV(room_->SampleAgain(copies));
  }
  HF_TRYV(CudaStatus(cudaEventRecord(Done(), copies), "cudaEventRecord"));
  if (Mutated(Mutation::kSampleAfterDone)) {
    HF_TRYV(room_->SampleAgain(copies));
  }
  if (Mutated(Mutation::kDoneEventReused)) {
    lane_->reused_done_.recorded = true;
  }
  HF_TRYV(room_->ReadBackSample(copies));
  released_ = true;
  return UsesStaging() ? Ok() : IssueStaged();
}

// Each window can be digested as it lands.
Status Flight::IssueStaged() {
  const auto& windows = lane_->plan_->Windows();
  const std::byte* staged_at = lane_->staging_.Memory();
  for (; next_window_ < windows.size(); ++next_window_) {
    HF_TRYV(IssueWindows(next_window_, next_window_ + 1, staged_at));
    staged_at += windows[next_window_].bytes;
    if (next_window_ + 1 < windows.size()) {
      HF_TRYV(AddLanding(LandedAfter(next_window_ + 1), false));
    }
  }
  for (const CudaEvent* event : {&ended_, &lane_->link_free_}) {
    HF_TRYV(CudaStatus(cudaEventRecord(event->get(), lane_->copies_.get()), "cudaEventRecord"));
  }
  HF_TRYV(AddLanding(job_->plan->ImageBytes(), UsesStaging()));
  issued_ = true;
  if (Mutated(Mutation::kStagingFreedAtOnce)) {
    GiveBackStaging();
  }
  return Ok();
}

Status Flight::AddLanding(ByteCount landed, bool staged) {
  HF_TRY(CudaEvent event, lane_->TakeEvent());
  cudaStream_t const copies = lane_->copies_.get();
  HF_TRYV(CudaStatus(cudaEventRecord(event.get(), copies), "cudaEventRecord"));
  in_flight_.push_back(
      Landing{StreamMark(std::move(event), copies, lane_->device_), landed, staged});
  return Ok();
}

// The fence opens at once; the end of what was issued is still waited for, because it lands.
void Flight::Fail(Error error) {
  failure_ = std::move(error);
  released_ = issued_ = true;
  for (const CudaStream* stream : {&lane_->copies_, &lane_->within_}) {
    const bool staged = stream == &lane_->within_ && UsesStaging();
    in_flight_.push_back(Landing{StreamMark::Put(stream->get(), lane_->device_), 0, staged});
  }
}

Result<HeldBack> Flight::HoldBack(cudaStream_t stream) const {
  HeldBack held;
  HF_TRY(held.before, MakeEvent(cudaEventDefault));
  HF_TRY(held.after, MakeEvent(cudaEventDefault));
  HF_TRYV(CudaStatus(cudaEventRecord(held.before.get(), stream), "cudaEventRecord"));
  if (!Mutated(Mutation::kFenceWithoutDeviceWait)) {
    HF_TRYV(CudaStatus(cudaStreamWaitEvent(stream, Done(), 0), "cudaStreamWaitEvent"));
  }
  HF_TRYV(CudaStatus(cudaEventRecord(held.after.get(), stream), "cudaEventRecord"));
  return held;
}

void Flight::NoteWait(std::span<const HeldBack> waits) const {
  std::chrono::nanoseconds longest{0};
  for (const HeldBack& wait : waits) {
    if (!UsesStaging()) {
      longest = std::max(longest, wait.Duration());
      continue;
    }
    const auto took = Between(begun_, ended_);
    const auto reached = Between(begun_, wait.before);
    if (took.has_value() && reached.has_value()) {
      longest = std::max(longest, *took - *reached);
    }
  }
  lane_->staging_.NoteWait(longest);
}

UnpinnedCopies Flight::Unpinned() const {
  UnpinnedCopies copies{room_->UnpinnedBytes()};
  for (const CopyWindow& window : lane_->plan_->Windows()) {
    copies.bytes += job_->slot->Pinned() ? 0 : window.bytes;
  }
  if (copies.bytes > 0) {
    copies.took = Between(begun_, ended_).value_or(copies.took);
  }
  return copies;
}

}  // namespace holdfast::client
