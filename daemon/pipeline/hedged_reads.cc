#include "daemon/pipeline/hedged_reads.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/check.h"
#include "common/with_timeout.h"

namespace holdfast::daemon {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

HedgedReads::HedgedReads(const asio::any_io_executor& executor,
                         const ec::RebuildPiece* piece,
                         ByteCount window,
                         MutableByteView memory,
                         const HedgeOptions& options)
    : window_(window),
      options_(options),
      needed_(piece->sources.size()),
      tasks_(executor, "hedged_reads", needed_ + piece->spare.size() + 1),
      changed_(executor) {
  entries_.reserve(needed_ + piece->spare.size());  // tasks hold pointers to them
  for (const ec::SourceRange& source : piece->sources) {
    const MutableByteView view =
        source.length == 0 ? MutableByteView() : memory.first(source.length);
    memory = source.length == 0 ? memory : memory.subspan(window);
    entries_.push_back({.source = source, .view = view});
  }
  for (const ec::SourceRange& source : piece->spare) {
    entries_.push_back({.source = source, .view = {}});
  }
}

asio::awaitable<bool> HedgedReads::Run(Read read) {
  read_ = std::move(read);
  began_ = Clock::now();
  next_ = needed_;
  for (std::size_t i = 0; i < needed_; ++i) {
    if (entries_[i].source.length == 0) {
      entries_[i].good = true;
      ++good_;
    } else {
      Begin(&entries_[i]);
    }
  }
  if (good_ < needed_ && next_ < entries_.size()) {
    HOLDFAST_CHECK(tasks_.Spawn(Watch()));
  }
  co_await tasks_.Finish();
  Choose();
  co_return good_ == needed_;
}

void HedgedReads::Begin(Entry* entry) {
  if (entry->view.empty()) {
    spare_memory_.push_back(std::make_unique_for_overwrite<std::byte[]>(window_));
    entry->view = MutableByteView(spare_memory_.back().get(), entry->source.length);
  }
  entry->waits = true;
  ++waiting_;
  HOLDFAST_CHECK(tasks_.Spawn(ReadOne(entry)));
}

asio::awaitable<void> HedgedReads::ReadOne(Entry* entry) {
  const Status done = co_await read_(entry->source, entry->view);
  --waiting_;
  entry->waits = false;
  if (done.has_value() && good_ < needed_) {
    entry->good = true;
    last_good_ =
        std::max(std::chrono::nanoseconds(1), std::chrono::nanoseconds(Clock::now() - began_));
    if (++good_ == needed_) {
      tasks_.Cancel();
    }
  }
  changed_.Notify();
}

HedgedReads::Time HedgedReads::SlowAt() const {
  return began_ + (last_good_.count() == 0 ? std::chrono::nanoseconds(options_.silence)
                                           : std::max<std::chrono::nanoseconds>(
                                                 options_.least, last_good_ * options_.times));
}

asio::awaitable<void> HedgedReads::Watch() {
  while (good_ < needed_ && next_ < entries_.size() && !co_await Cancelled()) {
    const Time now = Clock::now();
    if (good_ + waiting_ < needed_) {
      Begin(&entries_[next_++]);  // for one that failed
    } else if (now >= SlowAt()) {
      BeginForSlow();
    } else {
      co_await changed_.Wait(std::chrono::ceil<std::chrono::milliseconds>(SlowAt() - now));
    }
  }
}

void HedgedReads::BeginForSlow() {
  for (Entry& entry : entries_) {
    entry.late = entry.late || entry.waits;
  }
  began_ = Clock::now();
  Begin(&entries_[next_++]);
}

void HedgedReads::Choose() {
  std::map<std::uint32_t, const Entry*> by_index;
  for (const Entry& entry : entries_) {
    if (entry.good) {
      by_index[entry.source.index] = &entry;
    }
  }
  for (const auto& [index, entry] : by_index) {
    sources_.push_back(entry->source);
    bytes_.push_back(entry->view);
  }
}

std::vector<std::uint32_t> HedgedReads::slow() const {
  std::vector<std::uint32_t> positions;
  for (const Entry& entry : entries_) {
    if (entry.late) {
      positions.push_back(entry.source.position);
    }
  }
  return positions;
}

}  // namespace holdfast::daemon
