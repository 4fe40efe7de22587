// A line on the terminal that says how far long work is, how fast, and how long it will take.
//
//   verify my-job 1200@7   12.4 of 96.0 GiB  13 %  2.1 GiB/s  39s left
//
// Only on a terminal: in a pipe or a log file nothing is printed at all, so that scripts see
// results alone.  The line is redrawn in place and removed at the end.
//
// Threads:   Add from any thread; construction, Label and Finish from one.
// Ownership: borrows the stream and the clock, which must outlive it.
#pragma once

#include <atomic>
#include <chrono>
#include <ostream>
#include <string>

#include "common/clock.h"
#include "common/mutex.h"
#include "common/units.h"

namespace holdfast::cli {

class Progress {
 public:
  // "total" 0: unknown, no share and no time left are shown.  "terminal" false: prints nothing.
  Progress(std::ostream& stream,
           bool terminal,
           std::string label,
           ByteCount total,
           const Clock& clock = SystemClock());
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  // "bytes" more are done.  Draws at most five times a second.
  void Add(ByteCount bytes);

  // What is being worked on now.
  void Label(std::string label);

  // Removes the line, so that what is printed next starts clean.  More calls do nothing.
  void Finish();

  [[nodiscard]] ByteCount done() const { return done_.load(std::memory_order_relaxed); }

 private:
  void Draw(MonotonicTime now) HF_REQUIRES(mu_);

  // Constant after construction.
  std::ostream& stream_;
  const bool terminal_;
  const ByteCount total_;
  const Clock& clock_;
  const MonotonicTime started_;

  std::atomic<ByteCount> done_ = 0;
  Mutex mu_;
  std::string label_ HF_GUARDED_BY(mu_);
  MonotonicTime drawn_at_ HF_GUARDED_BY(mu_);
  std::size_t drawn_width_ HF_GUARDED_BY(mu_) = 0;  // columns to wipe
  bool finished_ HF_GUARDED_BY(mu_) = false;
};

}  // namespace holdfast::cli
