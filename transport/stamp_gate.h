// Drops what is late: reports and commands of a lower epoch, and older ones of the same sender.
//
// A first filter in front of the core, which decides by the same rule with the epoch that its
// catalog has synced (I8).  It refuses only by what was accepted here before, so that it never
// refuses what the core would take.
//
// Threads: one thread at a time.
// Errors:  kFenced: the epoch is lower than one accepted for the job, or has its number with
//          another token.  kAlreadyExists: this message, or a newer one of its sender, was accepted
//          before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "common/result.h"
#include "proto/peer.pb.h"

namespace holdfast::transport {

class StampGate {
 public:
  // "max_entries": senders of all jobs that are remembered; the one not heard for longest gives
  // way.
  explicit StampGate(std::size_t max_entries = 65'536) : max_entries_(max_entries) {}

  // "kind": reports and commands of one sender are counted apart.
  [[nodiscard]] Status Check(const std::string& sender,
                             const std::string& job,
                             int kind,
                             const proto::PeerStamp& stamp) const;

  // The message was acted on.
  void Accepted(const std::string& sender,
                const std::string& job,
                int kind,
                const proto::PeerStamp& stamp);

  [[nodiscard]] std::size_t size() const { return last_.size() + epochs_.size(); }

 private:
  struct Last {
    std::uint64_t epoch = 0;
    std::uint64_t boot = 0;
    std::uint64_t sequence = 0;
    std::uint64_t used = 0;
  };

  struct JobEpoch {
    std::uint64_t number = 0;
    std::uint64_t token = 0;
    std::uint64_t used = 0;
  };

  const std::size_t max_entries_;
  std::uint64_t uses_ = 0;
  std::map<std::string, JobEpoch> epochs_;
  std::map<std::tuple<std::string, std::string, int>, Last> last_;
};

}  // namespace holdfast::transport
