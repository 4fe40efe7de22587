// What deciding costs as a job grows: processor time of the coordinator's core and of a member's
// for one snapshot, over simulated nodes (simulated_job.h).
//
//   coordinator_bench <nodes> <ranks of each>
//   snapshot    plays one; answers: seconds of the coordinator, seconds of one other node, reports,
//               commands, bytes of all reports, seconds of the coordinator's longest call
//
// The job is started before "ready" is said.
#include "bench/commands.h"
#include "bench/simulated_job.h"

namespace holdfast::bench {
namespace {

int Main(const Arguments& arguments) {
  const auto nodes = NumberAt(arguments, 0, 2, 16384);
  const auto ranks = NumberAt(arguments, 1, 1, 64);
  for (const auto* number : {&nodes, &ranks}) {
    if (!number->has_value()) {
      return Refuse(number->error());
    }
  }
  SimulatedJob job(static_cast<std::uint32_t>(nodes.value()),
                   static_cast<std::uint32_t>(ranks.value()));
  if (const Status started = job.Start(); !started.has_value()) {
    return Refuse(started.error());
  }
  Commands commands;
  commands.Add("snapshot", [&](const Arguments&) -> Result<Numbers> {
    HF_TRY(const SnapshotCost cost, job.Snapshot());
    return Numbers{cost.coordinator_seconds,
                   cost.member_seconds,
                   cost.reports,
                   cost.commands,
                   cost.report_bytes,
                   cost.longest_call_seconds};
  });
  return commands.Serve();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  return holdfast::bench::Main(holdfast::bench::ArgumentsOf(argc, argv));
}
