#include "daemon/pipeline/protect_stripe.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "common/crc32c.h"
#include "common/failpoint.h"
#include "daemon/pipeline/windows.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

ByteCount ProtectMemoryBytes(const ec::CodeParams& code, const ProtectOptions& options) {
  const std::size_t pulled = code.data == 1 ? 0 : options.windows_in_flight * code.data;
  return options.window_bytes * (pulled + options.windows_lent * (code.parity - 1));
}

FeedShape RowFeedShape(const CodedGroup& group,
                       std::uint32_t stripe,
                       const ProtectOptions& options) {
  return {.windows = Windows(group.stripes.RowLength(stripe), options.window_bytes),
          .lanes = group.stripes.Code().parity - 1,
          .depth = options.windows_lent};
}

namespace {

// A bit that flipped on the way must not cost the holder its good shard.
constexpr int kReads = 2;

using RowDigests = std::vector<std::vector<std::uint32_t>>;

// A segment's part of a window, and the digests that its chunks were compared with.
struct CheckedPart {
  ByteView bytes;
  std::vector<std::uint32_t> crc32c;
};

// Row 0 is the XOR of the segments (ec/matrix.h), those that have ended counting as zeros, so that
// the digests of its chunks follow from theirs.  They say what the row must be: a bit that flips
// while it is encoded is found by the row's first reader (I5).
std::vector<std::uint32_t> FirstRowDigests(const std::vector<CheckedPart>& parts, ByteView row) {
  std::vector<std::uint32_t> digests;
  std::vector<std::uint32_t> of_parts;
  for (ByteCount at = 0; at < row.size(); at += kChunkBytes) {
    const ByteView chunk = row.subspan(at, std::min<ByteCount>(kChunkBytes, row.size() - at));
    bool whole = chunk.size() == kChunkBytes;
    of_parts.clear();
    for (const CheckedPart& part : parts) {
      const ByteCount left = part.bytes.size() - std::min<ByteCount>(at, part.bytes.size());
      whole = whole && (left == 0 || left >= kChunkBytes);
      if (left > 0) {
        of_parts.push_back(part.crc32c[at / kChunkBytes]);
      }
    }
    digests.push_back(whole ? DigestOfXor(of_parts) : Crc32c(0, chunk));
  }
  return digests;
}

// Encodes one window and digests what came out; on a worker.  Rows without a place (their owners
// were dropped) are left out.
Result<RowDigests> EncodeWindow(const ec::Codec& codec,
                                const std::vector<CheckedPart>& parts,
                                const std::vector<MutableByteView>& rows) {
  std::vector<ByteView> segments;
  std::transform(parts.begin(), parts.end(), std::back_inserter(segments), [](const auto& part) {
    return part.bytes;
  });
  const bool all = std::all_of(rows.begin(), rows.end(), [](auto row) { return !row.empty(); });
  if (all) {
    HF_TRYV(codec.Encode(segments, rows));
  }
  RowDigests digests(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (!all && !rows[row].empty()) {
      HF_TRYV(codec.EncodeRow(static_cast<std::uint32_t>(row), segments, rows[row]));
    }
    digests[row] = row == 0 ? FirstRowDigests(parts, rows[row]) : ChunkDigests(rows[row]);
  }
  return digests;
}

// The same where there is one segment: every row is a copy of it (ec/matrix.h).  It was pulled into
// the first.
RowDigests MirrorWindow(const CheckedPart& part, const std::vector<MutableByteView>& rows) {
  const MutableByteView first = rows.front();
  const auto end = static_cast<std::ptrdiff_t>(part.bytes.size());
  std::fill(first.begin() + end, first.end(), std::byte{0});
  RowDigests digests(rows.size());
  digests[0] = FirstRowDigests({part}, first);
  for (std::size_t row = 1; row < rows.size(); ++row) {
    if (!rows[row].empty()) {
      std::copy(first.begin(), first.end(), rows[row].begin());
      digests[row] = digests[0];
    }
  }
  return digests;
}

// One stripe under way; lives in the frame of ProtectStripe.
class Protection {
 public:
  Protection(WorkerPool* cpu,
             StripeToProtect work,
             const ProtectOptions& options,
             std::optional<SegmentFault>* fault)
      : cpu_(cpu),
        work_(std::move(work)),
        options_(options),
        fault_(fault),
        windows_(work_.feed->shape().windows),
        scratch_(options.window_bytes * k()),
        digests_(stripes().Code().parity) {}

  asio::awaitable<Status> Run();
  ProtectedStripe Outcome();

 private:
  const ec::Stripes& stripes() const { return work_.group->stripes; }

  std::uint32_t k() const { return stripes().Code().data; }

  ShardReader* ShardOf(std::uint32_t column) const {
    return work_.shards[stripes().PositionOf(work_.stripe, column)].get();
  }

  // Of a column's segment in its shard.
  ByteCount SegmentOffset(std::uint32_t column) const {
    const std::uint32_t position = stripes().PositionOf(work_.stripe, column);
    return stripes().SegmentOf(work_.stripe, position) * stripes().SegmentBytes();
  }

  // Of a segment's part of a window; 0 beyond its end.
  ByteCount PartOf(std::uint32_t column, std::uint64_t number) const {
    const ByteCount end = stripes().VectorLength(work_.stripe, column);
    const ByteCount begin = std::min(end, windows_.Begin(number));
    return std::min(windows_.Size(number), end - begin);
  }

  Status Check() const;
  asio::awaitable<Status> Window(std::uint64_t number);
  asio::awaitable<Status> Pull(std::uint64_t number, std::uint32_t column, MutableByteView into);
  // "bytes" were pulled from there.
  Result<CheckedPart> Checked(std::uint64_t number, std::uint32_t column, ByteView bytes) const;
  asio::awaitable<Status> Encode(std::uint64_t number, std::vector<CheckedPart> parts);
  asio::awaitable<Status> Mirror(std::uint64_t number);
  template <typename Work>
  asio::awaitable<Status> Make(std::uint64_t number, Work work);
  void Keep(std::uint64_t number, const RowDigests& digests);

  WorkerPool* const cpu_;
  const StripeToProtect work_;
  const ProtectOptions options_;
  std::optional<SegmentFault>* const fault_;
  const Windows windows_;
  ScratchPool scratch_;
  RowDigests digests_;
};

Status Protection::Check() const {
  if (work_.stripe >= stripes().Count() || work_.shards.size() != stripes().Count() ||
      work_.own_row.size() != stripes().RowLength(work_.stripe)) {
    return Error(Errc::kInvalidArgument,
                 "stripe " + std::to_string(work_.stripe) +
                     ": its row, or the shards given, do not fit the group");
  }
  const FeedShape shape = RowFeedShape(*work_.group, work_.stripe, options_);
  const FeedShape& given = work_.feed->shape();
  if (given.lanes != shape.lanes || given.windows.length() != shape.windows.length() ||
      given.windows.window() != shape.windows.window()) {
    return Error(Errc::kInvalidArgument, "the feed is not one of this stripe's rows");
  }
  for (std::uint32_t column = 0; column < k(); ++column) {
    const std::uint32_t position = stripes().PositionOf(work_.stripe, column);
    const ShardReader* shard = work_.shards[position].get();
    const bool needed = stripes().VectorLength(work_.stripe, column) > 0;
    if (needed && (shard == nullptr || shard->length() != stripes().ShardLength(position))) {
      return Error(Errc::kInvalidArgument,
                   "the shard at position " + std::to_string(position) +
                       " is missing, or is not of the group's length");
    }
  }
  return Ok();
}

asio::awaitable<Status> Protection::Pull(std::uint64_t number,
                                         std::uint32_t column,
                                         MutableByteView into) {
  if (into.empty()) {
    co_return Ok();
  }
  const std::uint32_t position = stripes().PositionOf(work_.stripe, column);
  const ByteCount segment = SegmentOffset(column);
  ShardReadOptions read;
  read.depth = options_.depth;
  std::vector<std::uint64_t> bad;
  Status done = Ok();
  for (int reads = 0; reads < kReads; ++reads) {
    read.deadline = Clock::now() + options_.read_limit;
    done = co_await ShardOf(column)->ReadRange(segment + windows_.Begin(number), into, read, &bad);
    if (done.has_value() || done.error().code != Errc::kCorruption) {
      break;
    }
  }
  if (!done.has_value() && done.error().code == Errc::kCorruption && !fault_->has_value()) {
    fault_->emplace();
    (*fault_)->position = position;
    (*fault_)->bad_chunks = std::move(bad);
  }
  co_return done;
}

Result<CheckedPart> Protection::Checked(std::uint64_t number,
                                        std::uint32_t column,
                                        ByteView bytes) const {
  CheckedPart part{bytes, {}};
  if (!bytes.empty()) {
    const ByteCount offset = SegmentOffset(column) + windows_.Begin(number);
    HF_TRY(part.crc32c, ShardOf(column)->what()->ChunksOf(offset, bytes.size()));
  }
  return part;
}

asio::awaitable<Status> Protection::Window(std::uint64_t number) {
  ByteCount bytes = 0;
  for (std::uint32_t column = 0; column < k(); ++column) {
    bytes += PartOf(column, number);
  }
  HF_CO_TRYV(co_await options_.pacing.Turn(bytes));
  HF_CO_TRYV(FailpointStatus("protect.before_window"));
  if (k() == 1) {
    co_return co_await Mirror(number);
  }
  const ScratchPool::Lease memory = scratch_.Take();
  std::vector<MutableByteView> views;
  for (std::uint32_t column = 0; column < k(); ++column) {
    views.push_back(memory.bytes().subspan(column * windows_.window(), PartOf(column, number)));
  }
  auto pull = [&](std::uint64_t column) {
    return Pull(number, static_cast<std::uint32_t>(column), views[column]);
  };
  HF_CO_TRYV(co_await ForEachWindow(k(), k(), pull));
  // Every chunk of the window has been compared now.
  std::vector<CheckedPart> parts(k());
  for (std::uint32_t column = 0; column < k(); ++column) {
    HF_CO_TRY(parts[column], Checked(number, column, views[column]));
  }
  co_return co_await Encode(number, std::move(parts));
}

asio::awaitable<Status> Protection::Encode(std::uint64_t number, std::vector<CheckedPart> parts) {
  auto encode = [group = work_.group,
                 parts = std::move(parts)](const std::vector<MutableByteView>& rows) {
    return EncodeWindow(group->codec, parts, rows);
  };
  co_return co_await Make(number, std::move(encode));
}

asio::awaitable<Status> Protection::Mirror(std::uint64_t number) {
  const MutableByteView place = work_.own_row.subspan(windows_.Begin(number), PartOf(0, number));
  HF_CO_TRYV(co_await Pull(number, 0, place));
  HF_CO_TRY(CheckedPart part, Checked(number, 0, place));
  auto mirror =
      [part = std::move(part)](const std::vector<MutableByteView>& rows) -> Result<RowDigests> {
    return MirrorWindow(part, rows);
  };
  co_return co_await Make(number, std::move(mirror));
}

// Has "work" fill a window of the rows on a worker, own row first, and lends what it made.
template <typename Work>
asio::awaitable<Status> Protection::Make(std::uint64_t number, Work work) {
  HF_CO_TRY(auto rows, co_await work_.feed->Reserve(number, options_.owner_limit));
  rows.insert(rows.begin(), work_.own_row.subspan(windows_.Begin(number), windows_.Size(number)));
  auto make = [work = std::move(work), rows = std::move(rows)] { return work(rows); };
  HF_CO_TRYV(FailpointStatus("protect.before_encode"));
  HF_CO_TRY(RowDigests digests, co_await Offload(*cpu_, std::move(make)));
  HF_CO_TRYV(FailpointStatus("protect.before_lend"));
  Keep(number, digests);
  digests.erase(digests.begin());
  work_.feed->Publish(number, std::move(digests));
  co_return Ok();
}

// Windows end in any order.
void Protection::Keep(std::uint64_t number, const RowDigests& digests) {
  const std::size_t first = windows_.Begin(number) / kChunkBytes;
  for (std::size_t row = 0; row < digests.size(); ++row) {
    digests_[row].resize(ChunkCount(windows_.length()));
    std::copy(digests[row].begin(),
              digests[row].end(),
              digests_[row].begin() + static_cast<std::ptrdiff_t>(first));
  }
}

asio::awaitable<Status> Protection::Run() {
  auto step = [this](std::uint64_t number) { return Window(number); };
  Status done = Check();
  if (done.has_value()) {
    done = co_await ForEachWindow(windows_.Count(), options_.windows_in_flight, step);
  }
  if (done.has_value()) {
    done = co_await work_.feed->Drain(options_.owner_limit);
  }
  if (done.has_value()) {
    done = FailpointStatus("protect.before_done");
  }
  if (!done.has_value()) {
    // Another's fault: an owner must not think that bytes of its own are bad.
    work_.feed->Fail(Error(Errc::kUnavailable,
                           "the first owner of stripe " + std::to_string(work_.stripe) +
                               " gave up: " + done.error().message));
  }
  co_return done;
}

ProtectedStripe Protection::Outcome() {
  ProtectedStripe outcome;
  outcome.row_crc32c = std::move(digests_);
  outcome.taken.push_back(true);
  for (std::size_t lane = 0; lane < work_.feed->shape().lanes; ++lane) {
    outcome.taken.push_back(work_.feed->Taken(lane));
  }
  return outcome;
}

}  // namespace

asio::awaitable<Result<ProtectedStripe>> ProtectStripe(WorkerPool* cpu,
                                                       StripeToProtect work,
                                                       ProtectOptions options,
                                                       std::optional<SegmentFault>* fault) {
  Protection protection(cpu, std::move(work), options, fault);
  HF_CO_TRYV(co_await protection.Run());
  co_return protection.Outcome();
}

}  // namespace holdfast::daemon
