// Copies in memory: a snapshot into a slot and a restore out of it, and the plain copies that are
// their ceilings.
//
//   copy_bench <bytes> <tensors>
//   snapshot <threads>          the engine: from Start until the fence opens, sample check included
//   restore <threads>           maps the image anew, copies every tensor out, checks every chunk
//   memcpy|stream <threads>     from a trainer's memory into a slot
//   memcpy_out|stream_out <threads>   from a slot into a trainer's memory
// Each answers: seconds, bytes.
#include <chrono>
#include <cstring>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "bench/adam_state.h"
#include "bench/commands.h"
#include "bench/pages.h"
#include "bench/plain_copy.h"
#include "client/copy_host.h"
#include "client/copy_plan.h"
#include "client/image_load.h"
#include "client/image_source.h"
#include "client/slot_mapping.h"
#include "layout/image.h"

namespace holdfast::bench {
namespace {

constexpr ByteCount kSmallTensorBytes = 16 * kKiB;  // the session's default
constexpr std::chrono::seconds kCopyLimit{300};

class CopyBench {
 public:
  Status Prepare(ByteCount bytes, std::size_t tensors) {
    HF_TRY(const auto specs, AdamSpecs(tensors, bytes));
    HF_TRY(memory_, AllocateAdam(specs));
    HF_TRY(const proto::Layout layout, layout::PlanImage(specs));
    HF_TRY(plan_, client::CopyPlan::Make(layout, specs, kSmallTensorBytes));
    HF_TRY(image_, Pages::Shared(plan_->ImageBytes()));
    HF_TRY(const std::string header, layout::BuildImageHeader(layout, proto::DYNAMIC));
    std::memcpy(image_.Bytes().data(), header.data(), header.size());
    HF_TRY(auto fd, image_.Descriptor());
    HF_TRY(slot_, client::SlotMapping::Map(std::move(fd), plan_->ImageBytes()));
    return slot_->Populate();
  }

  Result<Numbers> Snapshot(std::uint32_t threads) {
    std::unique_ptr<client::HostCopyEngine>& engine = engines_[threads];
    if (engine == nullptr) {
      engine = std::make_unique<client::HostCopyEngine>(threads);
    }
    const std::vector<const void*> pointers(memory_.tensors.begin(), memory_.tensors.end());
    auto job = std::make_shared<client::CopyJob>();
    job->step = ++step_;
    job->plan = plan_;
    job->slot = slot_;
    HF_TRY(job->sources, client::MakeSources(*plan_, pointers, {}));
    std::promise<void> done;
    std::future<void> finished = done.get_future();
    const Stopwatch watch;
    HF_TRYV(engine->Start(job, [&done](const auto&) { done.set_value(); }));
    engine->WaitFence({});
    const double seconds = watch.Seconds();
    if (finished.wait_for(kCopyLimit) != std::future_status::ready) {
      return Error(Errc::kTimeout, "the copy did not end");
    }
    if (job->outcome.kind != client::CopyOutcome::Kind::kCopied) {
      return Error(Errc::kInternal, job->outcome.reason);
    }
    digests_ = job->outcome.chunk_crc32c;
    return Numbers{seconds, static_cast<double>(plan_->ImageBytes())};
  }

  Result<Numbers> Restore(std::uint32_t threads) {
    if (digests_.empty()) {
      return Error(Errc::kInvalidArgument, "there is nothing to restore before a snapshot");
    }
    std::vector<client::LoadPiece> pieces;
    for (const client::PlannedTensor& tensor : plan_->Tensors()) {
      pieces.push_back({tensor.offset, tensor.length, memory_.tensors[tensor.spec]});
    }
    HF_TRY(auto fd, image_.Descriptor());
    client::LoadReport report;
    const Stopwatch watch;
    HF_TRY(const auto source, client::ImageSource::Open(std::move(fd), plan_->ImageBytes()));
    HF_TRYV(client::LoadPieces(*source, digests_, std::move(pieces), threads, nullptr, &report));
    return Numbers{watch.Seconds(), static_cast<double>(plan_->ImageBytes())};
  }

  Result<Numbers> Plain(PlainCopy kind, bool into_slot, std::uint32_t threads) {
    std::byte* memory = memory_.pages.Bytes().data();
    std::byte* slot = slot_->Data() + plan_->HeaderBytes();
    const auto bytes = static_cast<std::size_t>(plan_->ImageBytes() - plan_->HeaderBytes());
    const Stopwatch watch;
    CopyPlainly(kind, into_slot ? slot : memory, into_slot ? memory : slot, bytes, threads);
    return Numbers{watch.Seconds(), static_cast<double>(bytes)};
  }

 private:
  AdamMemory memory_;
  std::shared_ptr<const client::CopyPlan> plan_;
  Pages image_;
  std::shared_ptr<client::SlotMapping> slot_;
  std::vector<std::uint32_t> digests_;
  std::int64_t step_ = 0;
  std::map<std::uint32_t, std::unique_ptr<client::HostCopyEngine>> engines_;  // by threads
};

int Main(const Arguments& arguments) {
  const auto bytes = NumberAt(arguments, 0, kMiB, kGiB * 1024);
  const auto tensors = NumberAt(arguments, 1, 4, 1'000'000);
  if (!bytes || !tensors) {
    return Refuse((bytes ? tensors : bytes).error());
  }
  CopyBench bench;
  const Status prepared = bench.Prepare(bytes.value(), tensors.value());
  if (!prepared) {
    return Refuse(prepared.error());
  }
  Commands commands;
  const auto add = [&](const char* name, auto run) {
    commands.Add(name, [run](const Arguments& given) -> Result<Numbers> {
      HF_TRY(const std::uint64_t threads, NumberAt(given, 0, 1, 256));
      return run(static_cast<std::uint32_t>(threads));
    });
  };
  add("snapshot", [&](std::uint32_t threads) { return bench.Snapshot(threads); });
  add("restore", [&](std::uint32_t threads) { return bench.Restore(threads); });
  const std::pair<const char*, PlainCopy> kinds[] = {{"memcpy", PlainCopy::kMemcpy},
                                                     {"stream", PlainCopy::kStreaming}};
  for (const auto& [name, kind] : kinds) {
    const PlainCopy which = kind;
    add(name, [&bench, which](std::uint32_t n) { return bench.Plain(which, true, n); });
    add((std::string(name) + "_out").c_str(),
        [&bench, which](std::uint32_t n) { return bench.Plain(which, false, n); });
  }
  return commands.Serve();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  return holdfast::bench::Main(holdfast::bench::ArgumentsOf(argc, argv));
}
