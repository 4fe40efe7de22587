#include "cli/progress.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cli/text.h"

namespace holdfast::cli {
namespace {

constexpr std::chrono::milliseconds kRedraw{200};
// A line that wraps cannot be redrawn in place.
constexpr std::size_t kMaxLabel = 40;

double SecondsBetween(MonotonicTime from, MonotonicTime to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

Progress::Progress(
    std::ostream& stream, bool terminal, std::string label, ByteCount total, const Clock& clock)
    : stream_(stream),
      terminal_(terminal),
      total_(total),
      clock_(clock),
      started_(clock.Now()),
      label_(std::move(label)),
      drawn_at_(started_) {}

Progress::~Progress() {
  Finish();
}

void Progress::Add(ByteCount bytes) {
  done_.fetch_add(bytes, std::memory_order_relaxed);
  if (!terminal_) {
    return;
  }
  const MonotonicTime now = clock_.Now();
  const MutexLock lock(mu_);
  if (!finished_ && now - drawn_at_ >= kRedraw) {
    Draw(now);
  }
}

void Progress::Label(std::string label) {
  const MutexLock lock(mu_);
  label_ = std::move(label);
  if (terminal_ && !finished_) {
    Draw(clock_.Now());
  }
}

void Progress::Finish() {
  const MutexLock lock(mu_);
  if (terminal_ && !finished_ && drawn_width_ > 0) {
    stream_ << '\r' << std::string(drawn_width_, ' ') << '\r' << std::flush;
  }
  finished_ = true;
}

void Progress::Draw(MonotonicTime now) {
  const ByteCount done = done_.load(std::memory_order_relaxed);
  const double elapsed = SecondsBetween(started_, now);
  const double rate = elapsed > 0 ? static_cast<double>(done) / elapsed : 0;
  std::string line = ShortText(label_, kMaxLabel) + "  " + FormatBytes(done);
  if (total_ > 0) {
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
    line +=
        " of " + FormatBytes(total_) + "  " + std::to_string(static_cast<int>(share * 100)) + " %";
  }
  if (rate >= 1) {
    line += "  " + FormatBytes(static_cast<ByteCount>(rate)) + "/s";
    if (total_ > done) {
      const double left = static_cast<double>(total_ - done) / rate;
      // A rate measured at the start may be absurd; nobody waits a hundred days.
      line += left < 8.64e6
                  ? "  " + FormatDuration(std::chrono::seconds(std::llround(left))) + " left"
                  : "";
    }
  }
  const std::size_t width = DisplayWidth(line);
  stream_ << '\r' << line << std::string(drawn_width_ > width ? drawn_width_ - width : 0, ' ')
          << std::flush;
  drawn_width_ = width;
  drawn_at_ = now;
}

}  // namespace holdfast::cli
