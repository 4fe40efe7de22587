#include "client/copy_cuda/lane_plan.h"

#include <algorithm>

#include "common/crc32c.h"
#include "common/mix64.h"

namespace holdfast::client {
namespace {

// Every area and every small tensor starts where a GPU reads 16 bytes at a time.
constexpr ByteCount kAlignment = 256;
constexpr ByteCount kBlockBytes = 64;
// One place stands for so much: a writer that missed the fence changes a tensor all over.
constexpr ByteCount kPlaceBytes = 4 * kMiB;

ByteCount Aligned(ByteCount bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

LanePlan::LanePlan(std::shared_ptr<const CopyPlan> plan,
                   std::int32_t device,
                   ByteCount window_bytes)
    : plan_(std::move(plan)),
      small_at_(plan_->Tensors().size(), kNotSmall),
      first_segment_(plan_->Tensors().size(), 0) {
  for (std::size_t i = 0; i < plan_->Tensors().size(); ++i) {
    const PlannedTensor& tensor = plan_->Tensors()[i];
    if (tensor.device == device) {
      AddTensor(i, tensor, window_bytes);
      AddSegmentsAndPlaces(i, tensor);
    }
  }
  room_.small = 0;
  room_.before = Aligned(small_bytes_);
  room_.sums = room_.before + Aligned(sample_bytes_);
  room_.after = room_.sums + Aligned(segments_.size() * sizeof(std::uint64_t));
  room_.end = room_.after + Aligned(sample_bytes_);
}

void LanePlan::AddTensor(std::size_t index, const PlannedTensor& tensor, ByteCount window_bytes) {
  if (tensor.mode == CopyMode::kStaged) {
    smalls_.push_back(SmallTensor{index, small_bytes_});
    small_at_[index] = small_bytes_;
    small_bytes_ += Aligned(tensor.length);
    return;
  }
  for (ByteCount done = 0; done < tensor.length;) {
    if (windows_.empty() || windows_.back().bytes >= window_bytes) {
      windows_.push_back(CopyWindow{pieces_.size(), pieces_.size(), 0, tensor.offset + done});
    }
    CopyWindow& window = windows_.back();
    const ByteCount bytes = std::min(window_bytes - window.bytes, tensor.length - done);
    pieces_.push_back(TensorPiece{index, done, bytes});
    window.end = pieces_.size();
    window.bytes += bytes;
    all_window_bytes_ += bytes;
    done += bytes;
  }
}

void LanePlan::AddSegmentsAndPlaces(std::size_t index, const PlannedTensor& tensor) {
  first_segment_[index] = segments_.size();
  for (ByteCount done = 0; done < tensor.length;) {
    const ByteCount chunk_end = ((tensor.offset + done) / kChunkBytes + 1) * kChunkBytes;
    const ByteCount bytes = std::min(chunk_end - (tensor.offset + done), tensor.length - done);
    segments_.push_back(TensorPiece{index, done, bytes});
    done += bytes;
  }
  const ByteCount element = std::max<ByteCount>(tensor.element_bytes, 1);
  for (ByteCount done = 0; tensor.checked && done < tensor.length; done += kPlaceBytes) {
    const ByteCount bytes = std::min(kPlaceBytes, tensor.length - done);
    // A block, less where that would be more than a hundredth, but an element in any case.
    const ByteCount block =
        std::min(bytes, std::clamp(bytes / 100 / element * element, element, kBlockBytes));
    places_.push_back(SamplePlace{TensorPiece{index, done, bytes}, block, sample_bytes_});
    sample_bytes_ += (block + 15) / 16 * 16;
  }
}

ByteCount LanePlan::PlaceOffset(std::size_t place, std::int64_t step) const {
  const SamplePlace& entry = places_[place];
  const ByteCount element =
      std::max<ByteCount>(plan_->Tensors()[entry.piece.tensor].element_bytes, 1);
  const ByteCount places = (entry.piece.bytes - entry.block) / element + 1;  // below 2^32
  const std::uint64_t mixed = Mix64((static_cast<std::uint64_t>(step) << 32) + place);
  return entry.piece.offset + ((mixed >> 32) * places >> 32) * element;
}

}  // namespace holdfast::client
