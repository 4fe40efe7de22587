// What a member asks of its node: the jobs of a node share one arena.
//
// Threads: io thread only.
#pragma once

#include <cstdint>
#include <functional>

namespace holdfast::daemon {

class Member;

// Set once, before the member's first call.
struct NodeHooks {
  // Bytes promised to ranks of other jobs and not allocated yet.
  std::function<std::uint64_t(const Member*)> reserved_by_others;
  // Frees so much, or nothing (false), of jobs that nobody trains and that lose nothing (their
  // newest snapshot is durable, or they are finished), the longest idle first.
  std::function<bool(const Member*, std::uint64_t)> reclaim_orphans;
};

}  // namespace holdfast::daemon
