#include "daemon/request_gate.h"

#include <memory>
#include <utility>

#include "daemon/config.h"
#include "layout/image.h"

namespace holdfast::daemon {

namespace asio = boost::asio;

asio::awaitable<Status> RequestGate::AdmitRoot(std::uint32_t uid,
                                               proto::TierScope scope,
                                               std::string* root) {
  HF_CO_TRY(*root, NormalPath(*root));
  if (uid != rules_.own_uid) {
    HF_CO_TRYV(co_await tiers_->CheckClientRoot(*root, scope, rules_.client_roots));
  }
  co_return Ok();
}

asio::awaitable<Result<LayoutFacts>> RequestGate::AdmitLayout(SessionId session,
                                                              proto::RegisterRequest* request) {
  auto layout = std::make_shared<proto::Layout>();
  layout->Swap(request->mutable_layout());
  request->clear_layout();
  auto check = [layout, said = request->layout_hash()]() -> Result<LayoutFacts> {
    HF_TRYV(layout::ValidateLayout(*layout));
    LayoutFacts facts;
    facts.hash = layout::LayoutHash(*layout);
    facts.image_bytes = layout->dynamic_image_bytes();
    facts.static_bytes = layout->static_image_bytes();
    facts.static_hash = layout::StaticHash(*layout);
    if (facts.hash != said) {
      return Error(Errc::kInvalidArgument,
                   "the layout's hash is not the one that the request names: client and daemon "
                   "compute it differently; use one version of Holdfast");
    }
    return facts;
  };
  HF_CO_TRY(const LayoutFacts facts, co_await Offload(*cpu_, std::move(check)));
  layouts_->Stage(session, facts.hash, layout);
  co_return facts;
}

asio::awaitable<Result<std::optional<LayoutFacts>>> RequestGate::Admit(
    SessionId session, std::uint32_t uid, proto::ClientMessage* message) {
  std::optional<LayoutFacts> facts;
  if (message->has_open_incarnation()) {
    for (proto::TierPolicy& policy : *message->mutable_open_incarnation()->mutable_tiers()) {
      HF_CO_TRYV(co_await AdmitRoot(uid, policy.scope(), policy.mutable_root()));
    }
  } else if (message->has_remove() && !message->remove().root().empty()) {
    HF_CO_TRYV(co_await AdmitRoot(uid, proto::SHARED, message->mutable_remove()->mutable_root()));
  } else if (message->has_register_()) {
    // A member's node hears of the roots here, and spells them as the one that opened the job.
    for (proto::TierPolicy& policy : *message->mutable_register_()->mutable_tiers()) {
      HF_CO_TRYV(co_await AdmitRoot(uid, policy.scope(), policy.mutable_root()));
    }
    HF_CO_TRY(facts, co_await AdmitLayout(session, message->mutable_register_()));
  }
  co_return facts;
}

}  // namespace holdfast::daemon
