#include "daemon/parity/scrubber.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "common/crc32c.h"
#include "common/log.h"
#include "daemon/digest.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

namespace {

// Of one turn; some milliseconds of a worker's time.
constexpr std::uint64_t kWindowChunks = 16;
constexpr std::chrono::milliseconds kLongestPause{1'000};

std::optional<std::uint32_t> AskerOf(const proto::AskingUser& user) {
  return user.sees_all() ? std::nullopt : std::optional<std::uint32_t>(user.uid());
}

}  // namespace

asio::awaitable<Result<proto::ScrubReply>> Scrubber::Scrub(proto::ScrubRequest request) {
  HF_CO_TRY(const auto turn, co_await turns_.Acquire());
  proto::ScrubReply reply;
  const std::uint64_t end = request.first_chunk() + request.chunks();
  for (std::uint64_t chunk = request.first_chunk(); chunk < end; chunk += kWindowChunks) {
    HF_CO_TRYV(co_await priority_->YieldToAll(kLongestPause));
    const std::uint64_t chunks = std::min(kWindowChunks, end - chunk);
    HF_CO_TRY(const bool more, co_await ScrubWindow(request, chunk, chunks, &reply));
    if (!more) {
      break;
    }
  }
  co_return reply;
}

asio::awaitable<Result<bool>> Scrubber::ScrubWindow(const proto::ScrubRequest& request,
                                                    std::uint64_t chunk,
                                                    std::uint64_t chunks,
                                                    proto::ScrubReply* reply) {
  const auto asker = AskerOf(request.user());
  const auto stored = core_->view().FindHeld(request.key(), asker);
  if (!stored.has_value()) {
    // What the last window poisoned is gone: what was found is the answer.
    co_return reply->bad_chunks().empty() ? Result<bool>(stored.error()) : Result<bool>(false);
  }
  const std::uint64_t all = stored.value().chunk_crc32c.size();
  if (chunk >= all) {
    co_return chunk == request.first_chunk()
        ? Result<bool>(Error(Errc::kInvalidArgument,
                             "chunk " + std::to_string(chunk) + " of " + std::to_string(all)))
        : Result<bool>(false);
  }
  chunks = std::min(chunks, all - chunk);
  auto bad = co_await Read(stored.value(), chunk, chunks);
  if (bad.has_value() && !bad.value().empty()) {
    // Once more: it may have been freed and written again meanwhile, which only the record shows.
    bad = co_await Read(stored.value(), chunk, chunks);
  }
  const auto now = core_->view().FindHeld(request.key(), asker);
  if (!now.has_value() || now.value().slot != stored.value().slot) {
    co_return Error(Errc::kNotFound, "it was freed while it was read");
  }
  if (!bad.has_value()) {
    if (bad.error().code == Errc::kCorruption) {
      Poison(stored.value().slot, bad.error().message);
    }
    co_return bad.error();
  }
  const std::uint64_t bytes =
      std::min(chunks * kChunkBytes, stored.value().length_bytes - chunk * kChunkBytes);
  reply->set_bytes(reply->bytes() + bytes);
  counters_.bytes += bytes;
  if (!bad.value().empty()) {
    const bool first = reply->bad_chunks().empty();
    reply->mutable_bad_chunks()->Add(bad.value().begin(), bad.value().end());
    counters_.bad_chunks += bad.value().size();
    if (first) {
      Poison(stored.value().slot,
             "chunk " + std::to_string(bad.value().front()) +
                 " does not match its digest (found by verify)");
    }
  }
  co_return true;
}

asio::awaitable<Result<std::vector<std::uint64_t>>> Scrubber::Read(
    const NodeCore::StoredBytes& stored, std::uint64_t chunk, std::uint64_t chunks) {
  HF_CO_TRY(SharedSlot slot, context_.slots.Find(stored.slot));
  const std::uint64_t length =
      std::min(chunks * kChunkBytes, stored.length_bytes - chunk * kChunkBytes);
  const auto first = stored.chunk_crc32c.begin() + static_cast<std::ptrdiff_t>(chunk);
  std::vector<std::uint32_t> expected(first, first + static_cast<std::ptrdiff_t>(chunks));
  co_return co_await VerifySlotBytes(*cpu_, std::move(slot), chunk, length, std::move(expected));
}

void Scrubber::Poison(SlotRef slot, const std::string& reason) {
  ++counters_.poisoned;
  LogWarning("slot.poisoned", reason);
  (*core_)->OnSlotPoisoned(slot, reason);
}

}  // namespace holdfast::daemon
