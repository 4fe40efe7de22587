// The part of the C ABI by which the ranks of several nodes find each other.
#include <span>
#include <utility>

#include "client/capi_internal.h"
#include "client/job_nodes.h"

using namespace holdfast;          // NOLINT: the functions below are the ABI, outside any namespace
using namespace holdfast::client;  // NOLINT

int hf_make_card(hf_client* client, const char* job_name, hf_card* out) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    HF_TRYV(CheckText(job_name, "the job's name"));
    if (out == nullptr) {
      return Error(Errc::kInvalidArgument, "out is NULL");
    }
    HF_TRY(const proto::NodeCard card, session.MakeCard(job_name));
    return WriteCard(card, std::as_writable_bytes(std::span(out->bytes)));
  });
}

int hf_set_nodes(hf_client* client,
                 const hf_card* cards,
                 size_t count,
                 const hf_tier* tiers,
                 size_t tier_count) {
  return WithSession(SessionOf(client), [&](Session& session) -> Status {
    if (cards == nullptr || count == 0) {
      return Error(Errc::kInvalidArgument, "cards is NULL, or there are none");
    }
    HF_TRY(JobNodes nodes, NodesOfCards(std::as_bytes(std::span(cards, count)), sizeof(hf_card)));
    google::protobuf::RepeatedPtrField<proto::TierPolicy> policies;
    HF_TRYV(ReadTiers(tiers, tier_count, &policies));
    return session.SetNodes(std::move(nodes), std::move(policies));
  });
}
