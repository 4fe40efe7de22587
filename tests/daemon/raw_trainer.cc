#include "tests/daemon/raw_trainer.h"

#include <vector>

#include "layout/image.h"

namespace holdfast::tests {

proto::Layout LayoutOf(std::uint64_t elements) {
  std::vector<layout::TensorSpec> specs(1);
  specs[0].name = "weights";
  specs[0].dtype = proto::F32;
  specs[0].global_shape = {elements};
  specs[0].local_shape = {elements};
  specs[0].tensor_class = proto::STABLE;
  return layout::PlanImage(specs).value();
}

proto::OpenIncarnationReply OpenJob(RawClient* client, const std::string& job) {
  proto::ClientMessage open;
  open.mutable_open_incarnation()->set_job_name(job);
  open.mutable_open_incarnation()->set_world_size(1);
  const proto::ServerMessage reply = client->Call(open);
  EXPECT_TRUE(reply.has_open_incarnation()) << reply.ShortDebugString();
  return reply.open_incarnation();
}

proto::ClientMessage RegisterOf(const proto::OpenIncarnationReply& opened,
                                const proto::Layout& layout,
                                const std::string& job) {
  proto::ClientMessage message;
  proto::RegisterRequest* request = message.mutable_register_();
  request->set_job_name(job);
  request->set_job_uid(opened.job_uid());
  request->set_epoch_number(opened.number());
  request->set_epoch_token(opened.token());
  request->set_world_size(1);
  request->set_last_begun_step(-1);
  *request->mutable_layout() = layout;
  request->set_layout_hash(layout::LayoutHash(layout));
  return message;
}

proto::GrantEvent AwaitGrant(RawClient* client) {
  for (;;) {
    for (auto it = client->events.begin(); it != client->events.end(); ++it) {
      if (it->has_grant()) {
        proto::GrantEvent grant = it->grant();
        client->events.erase(it);
        return grant;
      }
    }
    client->events.push_back(client->Receive());
    if (client->events.back().body_case() == proto::ServerMessage::BODY_NOT_SET) {
      ADD_FAILURE() << "no slot was granted";
      return {};
    }
  }
}

proto::GrantEvent JoinAndAwaitGrant(RawClient* client,
                                    const std::string& job,
                                    std::uint64_t elements) {
  const proto::ServerMessage registered =
      client->Call(RegisterOf(OpenJob(client, job), LayoutOf(elements), job));
  EXPECT_TRUE(registered.has_register_()) << registered.ShortDebugString();
  proto::ClientMessage restore;
  restore.mutable_restore();
  const proto::ServerMessage choice = client->Call(restore);
  proto::ClientMessage loaded;
  loaded.mutable_loaded()->set_attempt(choice.restore().attempt());
  loaded.mutable_loaded()->set_ok(true);
  client->Call(loaded);
  return AwaitGrant(client);
}

proto::ClientMessage BeginOf(const proto::GrantEvent& grant, std::int64_t step) {
  proto::ClientMessage message;
  message.mutable_begin()->set_step(step);
  message.mutable_begin()->set_slot(grant.slot());
  message.mutable_begin()->set_generation(grant.generation());
  return message;
}

proto::ClientMessage SealOf(const proto::GrantEvent& grant, std::int64_t step) {
  proto::ClientMessage message;
  message.mutable_seal()->set_step(step);
  message.mutable_seal()->set_slot(grant.slot());
  message.mutable_seal()->set_generation(grant.generation());
  message.mutable_seal()->set_layout_generation(grant.layout_generation());
  return message;
}

}  // namespace holdfast::tests
