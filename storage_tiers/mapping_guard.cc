#include "storage_tiers/mapping_guard.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include "common/check.h"

namespace holdfast::storage_tiers {
namespace {

// begin == 0: the entry is free.  begin is stored last and cleared first, so that the handler never
// pairs the begin of one range with the end of another (see FindEntry).
struct Entry {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};
  std::atomic<bool> poisoned{false};
};

static_assert(std::atomic<std::uintptr_t>::is_always_lock_free);
static_assert(std::atomic<bool>::is_always_lock_free);

// Constant-initialised: a fault in another object's static initialiser must find it whole.
constinit std::array<Entry, kMaxGuardedRanges> entries;

// Entries at or above this index were never used: what the handler has to search.
constinit std::atomic<std::size_t> entries_used{0};

// Serialises registrations; the handler does not know it.
constinit std::mutex register_mutex;

// Written once, before the handler is reachable.
struct sigaction previous_action;
constinit std::atomic<bool> installed{false};

// The entry of a live range that holds "address", or kMaxGuardedRanges.  The entry of the faulting
// thread's own range cannot change meanwhile (its owner must not let go of it); any other entry
// may, which the second look at begin detects.
std::size_t FindEntry(std::uintptr_t address) {
  const std::size_t used = entries_used.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < used; ++i) {
    const std::uintptr_t begin = entries[i].begin.load(std::memory_order_acquire);
    if (begin == 0) {
      continue;
    }
    const std::uintptr_t end = entries[i].end.load(std::memory_order_acquire);
    if (address >= begin && address < end &&
        entries[i].begin.load(std::memory_order_acquire) == begin) {
      return i;
    }
  }
  return kMaxGuardedRanges;
}

void WriteToStderr(std::string_view text) {
  // Nothing can be done about a failure here.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

bool ReplaceWithZeros(std::uintptr_t address) {
  const std::size_t index = FindEntry(address);
  if (index == kMaxGuardedRanges) {
    return false;
  }
  Entry& entry = entries[index];
  // Before the zeros can be read: who read them and asks afterwards must see the flag.
  entry.poisoned.store(true, std::memory_order_seq_cst);
  const std::uintptr_t begin = entry.begin.load(std::memory_order_acquire);
  const std::uintptr_t end = entry.end.load(std::memory_order_acquire);
  // All of the range at once: one fault instead of one a page, and no mapping is split, which the
  // kernel could refuse (vm.max_map_count).
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the table's ends are atomic numbers
  void* const mapped = ::mmap(reinterpret_cast<void*>(begin),
                              end - begin,
                              PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
                              -1,
                              0);
  if (mapped == MAP_FAILED) {
    WriteToStderr("holdfast: no zero pages for a slot whose memory vanished\n");
    return false;
  }
  return true;
}

// Does what would have happened without this guard.
void CallPrevious(int signal, siginfo_t* info, void* context) {
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal, info, context);
    return;
  }
  if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal);
    return;
  }
  const bool sent_by_a_process = info->si_code <= 0;
  if (previous_action.sa_handler == SIG_IGN && sent_by_a_process) {
    return;
  }
  // The kernel does not let a fault be ignored.  Returning repeats the instruction, so that the
  // core dump shows the place; a signal that was sent has nothing to repeat and is raised again.
  struct sigaction fatal = {};
  fatal.sa_handler = SIG_DFL;
  ::sigaction(signal, &fatal, nullptr);
  if (sent_by_a_process) {
    ::raise(signal);
  }
}

void OnSigbus(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const bool is_fault = info->si_code > 0;
  const bool replaced =
      is_fault && ReplaceWithZeros(reinterpret_cast<std::uintptr_t>(info->si_addr));
  errno = saved_errno;
  if (!replaced) {
    CallPrevious(signal, info, context);
  }
}

Status InstallLocked() {
  if (installed.load(std::memory_order_acquire)) {
    return Ok();
  }
  // Read first: the handler may run as soon as it is set, and must find what to chain to.
  if (::sigaction(SIGBUS, nullptr, &previous_action) != 0) {
    return ErrnoError(errno, "read the handler of SIGBUS");
  }
  struct sigaction action = {};
  action.sa_sigaction = OnSigbus;
  // SA_ONSTACK: a chained handler (a crash reporter) may rely on its alternate stack.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  if (::sigaction(SIGBUS, &action, nullptr) != 0) {
    return ErrnoError(errno, "install the handler of SIGBUS");
  }
  installed.store(true, std::memory_order_release);
  return Ok();
}

}  // namespace

Status InstallMappingGuard() {
  const std::lock_guard lock(register_mutex);
  return InstallLocked();
}

Result<GuardedRange> GuardedRange::Register(MutableByteView range) {
  HOLDFAST_CHECK(!range.empty());
  const std::lock_guard lock(register_mutex);
  HF_TRYV(InstallLocked());
  for (std::size_t i = 0; i < kMaxGuardedRanges; ++i) {
    Entry& entry = entries[i];
    if (entry.begin.load(std::memory_order_relaxed) != 0) {
      continue;
    }
    const auto begin = reinterpret_cast<std::uintptr_t>(range.data());
    entry.poisoned.store(false, std::memory_order_relaxed);
    entry.end.store(begin + range.size(), std::memory_order_release);
    entry.begin.store(begin, std::memory_order_release);
    if (i >= entries_used.load(std::memory_order_relaxed)) {
      entries_used.store(i + 1, std::memory_order_release);
    }
    return GuardedRange(i);
  }
  return Error(Errc::kNoSpace,
               "no room to guard another mapping: " + std::to_string(kMaxGuardedRanges) +
                   " slots are mapped; free some first");
}

GuardedRange::GuardedRange(GuardedRange&& other) noexcept
    : entry_(std::exchange(other.entry_, kNone)) {}

GuardedRange& GuardedRange::operator=(GuardedRange&& other) noexcept {
  GuardedRange old(std::exchange(entry_, std::exchange(other.entry_, kNone)));
  return *this;
}

GuardedRange::~GuardedRange() {
  if (entry_ != kNone) {
    // Only begin: the entry is free from here on, and Register sets the rest before begin.
    entries[entry_].begin.store(0, std::memory_order_release);
  }
}

bool GuardedRange::poisoned() const {
  return entry_ != kNone && entries[entry_].poisoned.load(std::memory_order_seq_cst);
}

}  // namespace holdfast::storage_tiers
