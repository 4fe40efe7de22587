#include "client/copy_cuda/room.h"

#include <cstring>
#include <utility>

#include "common/check.h"

namespace holdfast::client {

Result<std::unique_ptr<Room>> Room::Make(const LanePlan& plan) {
  std::unique_ptr<Room> room(new Room(plan));
  HF_TRYV(room->Allocate());
  return room;
}

Status Room::Allocate() {
  const std::size_t gathers = plan_.Smalls().size() + 2 * plan_.Places().size();
  const ByteCount table_bytes =
      gathers * sizeof(GatherItem) + plan_.Segments().size() * sizeof(SumItem);
  HF_TRY(device_, MakeDeviceMemory(plan_.Room().end));
  HF_TRY(host_, HostBuffer::Make(plan_.Room().end));
  HF_TRY(device_tables_, MakeDeviceMemory(table_bytes));
  HF_TRY(host_tables_, HostBuffer::Make(table_bytes));
  return Ok();
}

std::span<GatherItem> Room::BeforeItems() const {
  return {reinterpret_cast<GatherItem*>(host_tables_.Data()),
          plan_.Smalls().size() + plan_.Places().size()};
}

std::span<GatherItem> Room::AfterItems() const {
  return {BeforeItems().data() + BeforeItems().size(), plan_.Places().size()};
}

std::span<SumItem> Room::SumItems() const {
  auto* behind = reinterpret_cast<SumItem*>(AfterItems().data() + AfterItems().size());
  return {behind, plan_.Segments().size()};
}

Status Room::UploadTable(const void* first, std::size_t bytes, cudaStream_t stream) {
  const auto offset = static_cast<const std::byte*>(first) - host_tables_.Data();
  return CudaStatus(
      cudaMemcpyAsync(device_tables_.get() + offset, first, bytes, cudaMemcpyHostToDevice, stream),
      "cudaMemcpyAsync of a table");
}

template <class Item>
const Item* Room::OnDevice(std::span<Item> items) const {
  const auto offset = reinterpret_cast<const std::byte*>(items.data()) - host_tables_.Data();
  return reinterpret_cast<const Item*>(device_tables_.get() + offset);
}

void Room::FillTables(std::span<const SourceView> sources) {
  const RoomLayout& areas = plan_.Room();
  GatherItem* item = BeforeItems().data();
  for (const SmallTensor& small : plan_.Smalls()) {
    const SourceView& source = sources[small.tensor];
    *item++ = GatherItem{source.Base(), device_.get() + areas.small + small.at, source.Size()};
  }
  for (std::size_t i = 0; i < plan_.Places().size(); ++i) {
    const SamplePlace& place = plan_.Places()[i];
    const std::byte* from = sources[place.piece.tensor].Base() + plan_.PlaceOffset(i, step_);
    *item++ = GatherItem{from, device_.get() + areas.before + place.at, place.block};
  }
  if (!sums_) {
    return;
  }
  SumItem* sum = SumItems().data();
  for (const TensorPiece& segment : plan_.Segments()) {
    const ByteCount small_at = plan_.SmallAt(segment.tensor);
    const std::byte* base = small_at == LanePlan::kNotSmall
                                ? sources[segment.tensor].Base()
                                : device_.get() + areas.small + small_at;
    *sum++ = SumItem{base + segment.offset, segment.bytes};
  }
}

Status Room::Begin(std::span<const SourceView> sources,
                   std::int64_t step,
                   bool sums,
                   cudaStream_t stream) {
  step_ = step;
  sums_ = sums && device_code_;
  FillTables(sources);
  if (!device_code_) {
    return GatherByCopies(BeforeItems(), stream);
  }
  if (BeforeItems().empty()) {
    return Ok();
  }
  HF_TRYV(UploadTable(BeforeItems().data(), BeforeItems().size_bytes(), stream));
  HF_TRYV(CudaStatus(
      LaunchGather(
          OnDevice(BeforeItems()), static_cast<std::uint32_t>(BeforeItems().size()), stream),
      "launch of the gather kernel"));
  if (sums_) {
    HF_TRYV(UploadTable(SumItems().data(), SumItems().size_bytes(), stream));
    auto* results = reinterpret_cast<std::uint64_t*>(device_.get() + plan_.Room().sums);
    HF_TRYV(CudaStatus(
        LaunchSums(
            OnDevice(SumItems()), results, static_cast<std::uint32_t>(SumItems().size()), stream),
        "launch of the digest kernel"));
  }
  return Ok();
}

// Without device code one copy a range: a sample of every chunk would cost the training too much,
// so only the first of each tensor is taken.
bool Room::Sampled(std::size_t place) const {
  return device_code_ || plan_.Places()[place].piece.offset == 0;
}

Status Room::GatherByCopies(std::span<const GatherItem> items, cudaStream_t stream) {
  const std::size_t smalls = items.size() - plan_.Places().size();
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i < smalls || Sampled(i - smalls)) {
      HF_TRYV(CudaStatus(
          cudaMemcpyAsync(
              items[i].to, items[i].from, items[i].bytes, cudaMemcpyDeviceToDevice, stream),
          "cudaMemcpyAsync within the device"));
    }
  }
  return Ok();
}

Status Room::CopyToHost(ByteCount from, ByteCount to, cudaStream_t stream) {
  if (from == to) {
    return Ok();
  }
  return CudaStatus(
      cudaMemcpyAsync(
          host_.Data() + from, device_.get() + from, to - from, cudaMemcpyDeviceToHost, stream),
      "cudaMemcpyAsync of small tensors and samples");
}

Status Room::ReadBack(cudaStream_t stream) {
  return CopyToHost(0, sums_ ? plan_.Room().after : plan_.Room().sums, stream);
}

Status Room::SampleAgain(cudaStream_t stream) {
  const GatherItem* before = BeforeItems().data() + plan_.Smalls().size();
  for (GatherItem& item : AfterItems()) {
    item = *before++;
    item.to = static_cast<std::byte*>(item.to) + (plan_.Room().after - plan_.Room().before);
  }
  if (!device_code_) {
    return GatherByCopies(AfterItems(), stream);
  }
  if (AfterItems().empty()) {
    return Ok();
  }
  HF_TRYV(UploadTable(AfterItems().data(), AfterItems().size_bytes(), stream));
  return CudaStatus(
      LaunchGather(OnDevice(AfterItems()), static_cast<std::uint32_t>(AfterItems().size()), stream),
      "launch of the gather kernel");
}

Status Room::ReadBackSample(cudaStream_t stream) {
  return CopyToHost(plan_.Room().after, plan_.Room().end, stream);
}

ByteCount Room::UnpinnedBytes() const {
  const RoomLayout& areas = plan_.Room();
  return host_.Pinned() ? 0 : (sums_ ? areas.after : areas.sums) + areas.end - areas.after;
}

std::optional<std::uint64_t> Room::Sum(std::size_t index) const {
  if (!sums_) {
    return std::nullopt;
  }
  std::uint64_t sum = 0;
  std::memcpy(&sum, host_.Data() + plan_.Room().sums + index * sizeof sum, sizeof sum);
  return sum;
}

std::optional<std::size_t> Room::ChangedTensor(const std::byte* slot) const {
  for (std::size_t i = 0; i < plan_.Places().size(); ++i) {
    if (!Sampled(i)) {
      continue;
    }
    const SamplePlace& place = plan_.Places()[i];
    const std::byte* before = host_.Data() + plan_.Room().before + place.at;
    const std::byte* after = host_.Data() + plan_.Room().after + place.at;
    const std::byte* landed =
        slot + plan_.Plan().Tensors()[place.piece.tensor].offset + plan_.PlaceOffset(i, step_);
    if (std::memcmp(before, after, place.block) != 0 ||
        std::memcmp(before, landed, place.block) != 0) {
      return place.piece.tensor;
    }
  }
  return std::nullopt;
}

std::vector<std::size_t> Room::DifferingTensors(const std::byte* slot) const {
  std::vector<std::size_t> differing;
  for (std::size_t i = 0; i < plan_.Places().size(); ++i) {
    const SamplePlace& place = plan_.Places()[i];
    const std::byte* read = host_.Data() + plan_.Room().before + place.at;
    const std::byte* held =
        slot + plan_.Plan().Tensors()[place.piece.tensor].offset + plan_.PlaceOffset(i, step_);
    const bool known = !differing.empty() && differing.back() == place.piece.tensor;
    if (!known && Sampled(i) && std::memcmp(read, held, place.block) != 0) {
      differing.push_back(place.piece.tensor);
    }
  }
  return differing;
}

Status RoomPool::Fill(const LanePlan& plan, std::size_t rooms) {
  for (std::size_t i = 0; i < rooms; ++i) {
    HF_TRY(auto room, Room::Make(plan));
    rooms_.push_back(std::move(room));
    free_.push_back(rooms_.back().get());
  }
  return Ok();
}

void RoomPool::Clear() {
  free_.clear();
  rooms_.clear();
}

std::string RoomPool::WhyUnpinned() const {
  for (const auto& room : rooms_) {
    if (!room->WhyUnpinned().empty()) {
      return room->WhyUnpinned();
    }
  }
  return "";
}

Room* RoomPool::Take() {
  HOLDFAST_CHECK(!free_.empty());  // there are as many as snapshots may be under way
  Room* const room = free_.back();
  free_.pop_back();
  return room;
}

}  // namespace holdfast::client
