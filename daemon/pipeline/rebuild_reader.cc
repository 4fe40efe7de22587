#include "daemon/pipeline/rebuild_reader.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "common/failpoint.h"
#include "daemon/pipeline/windows.h"
#include "ec/recovery.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

Result<SharedGroup> CodedGroup::Make(const ec::Geometry& geometry) {
  HF_TRY(ec::Stripes stripes, ec::Stripes::Make(geometry));
  HF_TRY(ec::Codec codec, ec::Codec::Make(geometry.code));
  return std::make_shared<const CodedGroup>(CodedGroup{std::move(stripes), std::move(codec)});
}

GroupSources GroupSources::None(const ec::Stripes& stripes) {
  GroupSources sources;
  sources.shards.resize(stripes.Count());
  sources.rows.resize(stripes.Count());
  for (auto& rows : sources.rows) {
    rows.resize(stripes.Code().parity);
  }
  return sources;
}

std::size_t GroupSources::Nodes(const ec::Stripes& stripes) const {
  std::set<std::uint32_t> positions;
  for (std::uint32_t stripe = 0; stripe < rows.size(); ++stripe) {
    for (std::uint32_t row = 0; row < rows[stripe].size(); ++row) {
      if (rows[stripe][row] != nullptr) {
        positions.insert(stripes.RowOwner(stripe, row));
      }
    }
  }
  for (std::uint32_t position = 0; position < shards.size(); ++position) {
    if (shards[position] != nullptr) {
      positions.insert(position);
    }
  }
  return positions.size();
}

namespace {

// For a source that may still come.
constexpr std::chrono::milliseconds kLookAgain{50};

bool FitsGroup(const GroupSources& sources, const ec::Stripes& stripes) {
  return sources.shards.size() == stripes.Count() && sources.rows.size() == stripes.Count() &&
         std::all_of(sources.rows.begin(), sources.rows.end(), [&](const auto& rows) {
           return rows.size() == stripes.Code().parity;
         });
}

std::vector<std::uint32_t> OrderOf(const GroupSources& sources, std::uint32_t count) {
  std::vector<std::uint32_t> order;
  const auto add = [&](std::uint32_t position) {
    if (position < count && std::find(order.begin(), order.end(), position) == order.end()) {
      order.push_back(position);
    }
  };
  for (const std::uint32_t position : sources.preference) {
    add(position);
  }
  for (std::uint32_t position = 0; position < count; ++position) {
    add(position);
  }
  return order;
}

}  // namespace

VectorDecoder::VectorDecoder(WorkerPool* cpu,
                             SharedGroup group,
                             SharedSources sources,
                             const RebuildOptions& options)
    : cpu_(cpu),
      group_(std::move(group)),
      sources_(std::move(sources)),
      options_(options),
      order_(OrderOf(*sources_, group_->stripes.Count())),
      scratch_(options_.window_bytes * group_->stripes.Code().data) {
  HOLDFAST_CHECK(FitsGroup(*sources_, group_->stripes));
}

// One call of Decode; lives in its frame.
struct VectorDecoder::Job {
  // Why a source was left out, by index.
  using Failures = std::map<std::uint32_t, Error>;

  Job(VectorDecoder& d,
      std::uint32_t s,
      std::uint32_t i,
      ByteCount b,
      MutableByteView o,
      ShardReadOptions r)
      : decoder(d),
        stripes(d.group_->stripes),
        stripe(s),
        index(i),
        begin(b),
        into(o),
        read(r),
        windows(o.size(), d.options_.window_bytes) {}

  ShardReader* ReaderOf(std::uint32_t source) const;
  Result<ec::RebuildPiece> Plan(ByteCount at, ByteCount size, const Failures& out) const;
  Result<std::shared_ptr<const ec::Decoder>> DecoderOf(const std::vector<ec::SourceRange>& plan);

  asio::awaitable<Status> Window(std::uint64_t number);
  void AskLast(std::uint32_t position);
  asio::awaitable<Status> ReadSource(ec::SourceRange source,
                                     MutableByteView view,
                                     Failures* left_out);
  asio::awaitable<Status> DecodeOnWorker(std::shared_ptr<const ec::Decoder> code,
                                         std::vector<ByteView> sources,
                                         MutableByteView output);

  VectorDecoder& decoder;
  const ec::Stripes& stripes;
  const std::uint32_t stripe;
  const std::uint32_t index;
  const ByteCount begin;
  const MutableByteView into;
  const ShardReadOptions read;
  const Windows windows;
  Failures failed;  // for the rest of the call
  std::vector<std::uint32_t> last_indices;
  std::shared_ptr<const ec::Decoder> last_decoder;
};

ShardReader* VectorDecoder::Job::ReaderOf(std::uint32_t source) const {
  const std::uint32_t k = stripes.Code().data;
  const GroupSources& from = *decoder.sources_;
  return source < k ? from.shards[stripes.PositionOf(stripe, source)].get()
                    : from.rows[stripe][source - k].get();
}

// The k sources of a window, each in whole chunks: a source goes on where the lost vector ends.
Result<ec::RebuildPiece> VectorDecoder::Job::Plan(ByteCount at,
                                                  ByteCount size,
                                                  const Failures& out) const {
  std::vector<ec::Holder> holders;
  for (const std::uint32_t position : decoder.order_) {
    const std::uint32_t held = stripes.IndexAt(stripe, position);
    const bool there = ReaderOf(held) != nullptr && !failed.contains(held) && !out.contains(held);
    holders.push_back({.position = position, .shard = there, .parity = there});
  }
  const std::uint32_t k = stripes.Code().data;
  ec::RebuildPiece piece;
  if (index < k) {
    const std::uint32_t position = stripes.PositionOf(stripe, index);
    const ByteCount start = stripes.SegmentOf(stripe, position) * stripes.SegmentBytes();
    HF_TRY(auto pieces, ec::PlanShard(stripes, position, start + at, size, holders));
    HOLDFAST_CHECK(pieces.size() == 1);
    piece = std::move(pieces.front());
  } else {
    HF_TRY(piece, ec::PlanRow(stripes, stripe, index - k, at, size, holders));
  }
  const ByteCount whole = ChunkCount(size) * kChunkBytes;
  for (auto* sources : {&piece.sources, &piece.spare}) {
    for (ec::SourceRange& source : *sources) {
      if (source.length > 0) {
        source.length = std::min(whole, stripes.VectorLength(stripe, source.index) - at);
      }
    }
  }
  return piece;
}

Result<std::shared_ptr<const ec::Decoder>> VectorDecoder::Job::DecoderOf(
    const std::vector<ec::SourceRange>& plan) {
  std::vector<std::uint32_t> indices;
  indices.reserve(plan.size());
  for (const ec::SourceRange& source : plan) {
    indices.push_back(source.index);
  }
  if (last_decoder == nullptr || indices != last_indices) {
    const std::uint32_t wanted[] = {index};
    HF_TRY(ec::Decoder made, decoder.group_->codec.MakeDecoder(indices, wanted));
    last_decoder = std::make_shared<const ec::Decoder>(std::move(made));
    last_indices = std::move(indices);
  }
  return last_decoder;
}

asio::awaitable<Status> VectorDecoder::Job::ReadSource(ec::SourceRange source,
                                                       MutableByteView view,
                                                       Failures* left_out) {
  ShardReadOptions options = read;
  options.deadline = std::min(read.deadline, Clock::now() + decoder.options_.source_limit);
  Status done = co_await ReaderOf(source.index)->ReadRange(source.offset, view, options);
  if (done.has_value()) {
    co_return Ok();
  }
  if (co_await Cancelled()) {
    co_return Error(Errc::kCancelled, "cancelled while the sources of a lost range were read");
  }
  if (done.error().code == Errc::kCorruption) {
    left_out->emplace(source.index, done.error());
  } else {
    failed.emplace(source.index, done.error());
    AskLast(source.position);
  }
  co_return done;
}

void VectorDecoder::Job::AskLast(std::uint32_t position) {
  auto& order = decoder.order_;
  const auto place = std::find(order.begin(), order.end(), position);
  std::rotate(place, place + 1, order.end());
}

asio::awaitable<Status> VectorDecoder::Job::DecodeOnWorker(std::shared_ptr<const ec::Decoder> code,
                                                           std::vector<ByteView> sources,
                                                           MutableByteView output) {
  auto decode = [code = std::move(code), sources = std::move(sources), output]() -> Status {
    const MutableByteView outputs[] = {output};
    return code->Decode(sources, outputs);
  };
  co_return co_await Offload(*decoder.cpu_, std::move(decode));
}

namespace {

Error WithFailures(Error error, const std::map<std::uint32_t, Error>& some) {
  for (const auto& [index, failure] : some) {
    error.message += "; vector " + std::to_string(index) + ": " + failure.message;
  }
  return error;
}

}  // namespace

asio::awaitable<Status> VectorDecoder::Job::Window(std::uint64_t number) {
  const ByteCount at = begin + windows.Begin(number);
  const MutableByteView output = into.subspan(windows.Begin(number), windows.Size(number));
  const ScratchPool::Lease memory = decoder.scratch_.Take();
  Failures left_out;
  // Each turn leaves out at least one more source, waits for one more, or ends.
  for (;;) {
    HF_CO_TRYV(FailpointStatus("rebuild.before_window"));
    if (Clock::now() >= read.deadline) {
      co_return WithFailures(Error(Errc::kTimeout, "the deadline of a rebuild is over"), failed);
    }
    auto plan = Plan(at, output.size(), left_out);
    if (!plan.has_value() && decoder.sources_->open) {
      HF_CO_TRYV(co_await SleepFor(kLookAgain));
      continue;
    }
    if (!plan.has_value()) {
      co_return WithFailures(WithFailures(std::move(plan).error(), failed), left_out);
    }
    HedgedReads reads(co_await asio::this_coro::executor,
                      &plan.value(),
                      windows.window(),
                      memory.bytes(),
                      decoder.options_.hedge);
    auto read_one = [this, &left_out](const ec::SourceRange& source, MutableByteView view) {
      return ReadSource(source, view, &left_out);
    };  // no coroutine itself
    const bool enough = co_await reads.Run(std::move(read_one));
    if (co_await Cancelled()) {
      co_return Error(Errc::kCancelled, "cancelled while a lost range was decoded");
    }
    for (const std::uint32_t position : reads.slow()) {
      AskLast(position);
    }
    if (enough) {
      HF_CO_TRY(const auto code, DecoderOf(reads.sources()));
      co_return co_await DecodeOnWorker(code, reads.bytes(), output);
    }
  }
}

asio::awaitable<Status> VectorDecoder::Decode(std::uint32_t stripe,
                                              std::uint32_t index,
                                              ByteCount begin,
                                              MutableByteView into,
                                              ShardReadOptions options) {
  Job job(*this, stripe, index, begin, into, options);
  auto step = [&job](std::uint64_t number) { return job.Window(number); };
  co_return co_await ForEachWindow(job.windows.Count(), options_.windows_in_flight, step);
}

Result<std::shared_ptr<ShardReader>> RebuildReader::Make(WorkerPool* cpu,
                                                         SharedDigests what,
                                                         SharedGroup group,
                                                         std::uint32_t position,
                                                         SharedSources sources,
                                                         const RebuildOptions& options) {
  const ec::Stripes& stripes = group->stripes;
  if (position >= stripes.Count() || stripes.ShardLength(position) != what->length() ||
      !FitsGroup(*sources, stripes)) {
    return Error(Errc::kInvalidArgument,
                 what->name() + ": not the shard at position " + std::to_string(position) +
                     " of this group, or its sources are another group's");
  }
  return std::shared_ptr<ShardReader>(new RebuildReader(
      cpu, std::move(what), std::move(group), position, std::move(sources), options));
}

RebuildReader::RebuildReader(WorkerPool* cpu,
                             SharedDigests what,
                             SharedGroup group,
                             std::uint32_t position,
                             SharedSources sources,
                             const RebuildOptions& options)
    : ShardReader(cpu, std::move(what)),
      decoder_(cpu, std::move(group), std::move(sources), options),
      position_(position) {}

std::string RebuildReader::Describe() const {
  return "the group's other members, decoded";
}

asio::awaitable<Status> RebuildReader::ReadBytes(ByteCount offset,
                                                 MutableByteView into,
                                                 ShardReadOptions options) {
  HF_CO_TRY(const auto ranges, decoder_.group().stripes.MapRange(position_, offset, into.size()));
  for (const ec::SegmentRange& range : ranges) {
    const MutableByteView part = into.subspan(range.offset - offset, range.length);
    HF_CO_TRYV(co_await decoder_.Decode(range.stripe, range.index, range.begin, part, options));
  }
  co_return Ok();
}

}  // namespace holdfast::daemon
