// Eight ranks on one node that register, seal and flush, again and again: what does it cost the
// daemon?
//
//   soak_bench <socket> <root> <ranks> <bytes> <tensors>
//   round       every rank registers its layout, takes a snapshot and has it sealed; then waits
//               until the snapshot is durable in <root>
// Answers: seconds.  The daemon's memory is read by the driver, between rounds and during them.
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/adam_state.h"
#include "bench/commands.h"
#include "holdfast/client.h"

namespace holdfast::bench {
namespace {

constexpr std::uint32_t kTimeoutMs = 120'000;
constexpr std::chrono::seconds kDurableLimit{120};
constexpr std::chrono::milliseconds kPoll{2};

Status FromOutcome(const Outcome& outcome) {
  if (outcome.ok()) {
    return Ok();
  }
  return Error(Errc::kInternal, outcome.message);
}

class SoakBench {
 public:
  Status Prepare(const std::string& socket,
                 const std::string& root,
                 std::uint32_t ranks,
                 ByteCount bytes,
                 std::size_t tensors) {
    HF_TRY(specs_, AdamSpecs(tensors, bytes));
    // All ranks have the same bytes: the daemon does not look for that.
    HF_TRY(memory_, AllocateAdam(specs_));
    pointers_.assign(memory_.tensors.begin(), memory_.tensors.end());
    clients_.resize(ranks);
    hf_incarnation incarnation{};
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      hf_options options = DefaultOptions();
      options.slots_wanted = 2;
      options.begin_wait_ms = kTimeoutMs;
      options.request_timeout_ms = kTimeoutMs;
      HF_TRYV(FromOutcome(Client::Connect(socket, options, kTimeoutMs, &clients_[rank])));
      if (rank == 0) {
        hf_tier tier{};
        tier.root = root.c_str();
        tier.every_steps = 1;
        tier.keep_last = 1;
        HF_TRYV(FromOutcome(clients_[rank].OpenIncarnation("soak", ranks, {tier}, &incarnation)));
      }
      HF_TRYV(FromOutcome(clients_[rank].Join("soak", incarnation, rank, ranks)));
    }
    return Ok();
  }

  Result<Numbers> Round() {
    ++step_;
    const Stopwatch watch;
    for (Client& client : clients_) {
      HF_TRYV(Register(client));
      HF_TRYV(FromOutcome(client.WaitReady(kTimeoutMs)));
      hf_begin begin{};
      HF_TRYV(FromOutcome(client.Snapshot(step_, pointers_, {}, {}, &begin)));
      if (begin.started == 0) {
        return Error(Errc::kUnavailable, "snapshot skipped: " + std::string(begin.reason));
      }
    }
    for (Client& client : clients_) {
      HF_TRYV(FromOutcome(client.Fence()));
      HF_TRYV(FromOutcome(client.WaitSealed(step_, kTimeoutMs)));
    }
    HF_TRYV(WaitDurable());
    return Numbers{watch.Seconds()};
  }

 private:
  Status Register(Client& client) {
    std::vector<hf_tensor> tensors(specs_.size());
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      const auto ndim = static_cast<std::uint32_t>(specs_[i].local_shape.size());
      tensors[i].name = specs_[i].name.c_str();
      tensors[i].dtype = HF_F32;
      tensors[i].tensor_class = HF_STABLE;
      tensors[i].global_ndim = ndim;
      tensors[i].local_ndim = ndim;
      tensors[i].global_shape = specs_[i].global_shape.data();
      tensors[i].local_shape = specs_[i].local_shape.data();
    }
    return FromOutcome(client.SetLayout(tensors));
  }

  Status WaitDurable() {
    const auto deadline = std::chrono::steady_clock::now() + kDurableLimit;
    while (true) {
      hf_stats stats{};
      HF_TRYV(FromOutcome(clients_.front().Stats(&stats)));
      if (stats.last_durable_step >= step_) {
        return Ok();
      }
      if (std::chrono::steady_clock::now() > deadline) {
        return Error(Errc::kTimeout,
                     "step " + std::to_string(step_) + " is not durable; the last durable one is " +
                         std::to_string(stats.last_durable_step));
      }
      std::this_thread::sleep_for(kPoll);
    }
  }

  std::vector<layout::TensorSpec> specs_;
  AdamMemory memory_;
  std::vector<const void*> pointers_;
  std::vector<Client> clients_;  // by rank
  std::int64_t step_ = 0;
};

int Main(const Arguments& arguments) {
  const auto ranks = NumberAt(arguments, 2, 1, 64);
  const auto bytes = NumberAt(arguments, 3, kMiB, kGiB * 64);
  const auto tensors = NumberAt(arguments, 4, 4, 1'000'000);
  for (const auto& number : {ranks, bytes, tensors}) {
    if (!number) {
      return Refuse(number.error());
    }
  }
  SoakBench bench;
  const Status prepared = bench.Prepare(arguments[0],
                                        arguments[1],
                                        static_cast<std::uint32_t>(ranks.value()),
                                        bytes.value(),
                                        tensors.value());
  if (!prepared) {
    return Refuse(prepared.error());
  }
  Commands commands;
  commands.Add("round", [&](const Arguments&) { return bench.Round(); });
  return commands.Serve();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  return holdfast::bench::Main(holdfast::bench::ArgumentsOf(argc, argv));
}
