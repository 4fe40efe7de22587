#include "daemon/tier.h"

#include <algorithm>

#include "common/log.h"

namespace holdfast::daemon {
namespace {

// A file system slower than this is as good as hung for an image.
constexpr ByteCount kSlowestBytesPerSecond = 4 * kMiB;

// Small calls beside the flushes: listings, sidecars, claims.
constexpr std::size_t kThreadsForSmallCalls = 2;

bool IsSickness(const Error& error) {
  switch (error.code) {
    case Errc::kIoError:
    case Errc::kNoSpace:
    case Errc::kTimeout:
    case Errc::kPermission:
      return true;
    case Errc::kUnavailable:
      return error.sys_errno != 0;  // the file system's word (no root, not mounted), not a rule's
    default:
      return false;
  }
}

}  // namespace

Tier::Tier(const boost::asio::any_io_executor& executor,
           std::string root,
           storage_tiers::TierScope scope,
           const TierOptions& options,
           std::unique_ptr<storage_tiers::FileSystem> fs)
    : root_(std::move(root)),
      options_(options),
      files_(std::make_shared<TierFiles>(std::move(fs), root_, scope, options.bytes_per_second)),
      flushes_(executor, options.flush_concurrency),
      pool_(root_, options.flush_concurrency + kThreadsForSmallCalls) {}

storage_tiers::ImageIoOptions Tier::ImageOptions(TierFiles& files,
                                                 const std::atomic<bool>* cancel) const {
  storage_tiers::ImageIoOptions image = options_.image;
  image.cancel = cancel;
  image.budget = &files.budget;
  return image;
}

std::chrono::milliseconds Tier::TransferLimit(ByteCount bytes) const {
  ByteCount rate = kSlowestBytesPerSecond;
  if (options_.bytes_per_second != 0) {
    // All flushes of the root share the budget.
    rate = std::min<ByteCount>(rate, options_.bytes_per_second / options_.flush_concurrency);
  }
  const ByteCount seconds = bytes / std::max<ByteCount>(rate, 1);
  return options_.call_limit + options_.image.sync_timeout + std::chrono::seconds(seconds);
}

bool Tier::Hangs() const {
  return sickness_.has_value() && sickness_->code == Errc::kTimeout &&
         pool_.pending() >= pool_.size();
}

void Tier::NoteSuccess(TierWork work) {
  if (sickness_.has_value() && work >= sick_work_) {
    LogInfo("tier.healed", root_ + " works again");
    sickness_.reset();
  }
}

void Tier::NoteError(std::string_view what, const Error& error, TierWork work) {
  if (error.code == Errc::kTimeout) {
    ++counters_.timeouts;
  }
  if (!IsSickness(error)) {
    return;
  }
  if (!sickness_.has_value()) {
    LogWarning("tier.sick",
               root_ + ": " + std::string(what) +
                   " failed; snapshots stay in memory meanwhile: " + error.ToString());
  }
  sick_work_ = sickness_.has_value() ? std::max(sick_work_, work) : work;
  sickness_ = error;
}

std::shared_ptr<TransferKey> Tier::TakeKey(const std::string& key) {
  std::erase_if(keys_, [](const auto& entry) { return entry.second.expired(); });
  auto& holder = keys_[key];
  if (!holder.expired()) {
    return nullptr;
  }
  auto token = std::make_shared<TransferKey>();
  holder = token;
  return token;
}

ByteCount Tier::BytesWritten(const std::string& prefix) const {
  ByteCount written = 0;
  for (const auto& [name, weak] : keys_) {
    if (const auto key = weak.lock(); key != nullptr && name.starts_with(prefix)) {
      written += key->written.load(std::memory_order_relaxed);
    }
  }
  return written;
}

void Tier::NoteStuck(std::string_view what) {
  NoteError(what, Error(Errc::kTimeout, "the file system does not answer"), TierWork::kFlush);
}

bool Tier::HoldsKey(const std::string& prefix) const {
  return std::any_of(keys_.begin(), keys_.end(), [&](const auto& entry) {
    return entry.first.starts_with(prefix) && !entry.second.expired();
  });
}

}  // namespace holdfast::daemon
