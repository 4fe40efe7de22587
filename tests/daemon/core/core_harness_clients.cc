// What trainers do: the requests of FakeClients, their deaths and their late copies.

#include <cstdlib>
#include <utility>

#include "tests/daemon/core/core_harness.h"

namespace holdfast::daemon {
namespace {

std::string JobName(const std::string& client) {
  const auto slash = client.find('/');
  return slash == std::string::npos ? "train" : client.substr(0, slash);
}

Rank RankOfName(const std::string& client) {
  const auto slash = client.find('/');
  const std::string plain = slash == std::string::npos ? client : client.substr(slash + 1);
  return static_cast<Rank>(std::strtoul(plain.c_str() + 1, nullptr, 10));
}

std::string Final(const FakeClient& client, Step step) {
  return "bytes of r" + std::to_string(client.rank) + " " + ShortText({client.epoch.number, step}) +
         " by " + std::to_string(client.pid);
}

void AddHeld(const FakeClient& client, proto::RegisterRequest* body) {
  if (client.frozen.has_value() && client.frozen->hash == client.Facts().static_hash) {
    body->mutable_static_slot()->set_slot(client.frozen->slot.slot);
    body->mutable_static_slot()->set_generation(client.frozen->slot.generation);
  }
  // Named, one of another layout would count as granted for this one, and no grant would follow.
  if (client.HasSlot() && !client.HasNewLayout()) {
    proto::HeldSlot* held = body->add_held();
    held->set_slot(client.granted->slot);
    held->set_generation(client.granted->generation);
    held->set_use(proto::HeldSlot::IDLE);
  }
  for (const auto& [ref, copy] : client.copies) {
    proto::HeldSlot* held = body->add_held();
    held->set_slot(ref.slot);
    held->set_generation(ref.generation);
    held->set_use(copy.given_up ? proto::HeldSlot::DRAINING : proto::HeldSlot::FILLING);
    held->set_step(copy.step);
  }
}

}  // namespace

FakeJob& CoreHarness::JobOf(const std::string& name) {
  FakeJob& job = jobs_[JobName(name)];
  job.name = JobName(name);
  return job;
}

FakeClient& CoreHarness::Client(const std::string& name) {
  FakeClient& client = clients_[name];
  if (client.name.empty()) {
    client.name = name;
    client.job = JobName(name);
    client.rank = RankOfName(name);
  }
  return client;
}

void CoreHarness::Spawn(const std::string& name) {
  FakeClient& client = Client(name);
  FakeClient fresh;
  fresh.name = client.name;
  fresh.job = client.job;
  fresh.rank = client.rank;
  fresh.uid = client.uid;
  fresh.layout = client.layout;
  fresh.base = client.base;
  fresh.slots_wanted = client.slots_wanted;
  fresh.numa_node = client.numa_node;
  fresh.alive = true;
  fresh.pid = world_->next_pid++;
  client = std::move(fresh);
}

void CoreHarness::Connect(const std::string& name) {
  FakeClient& client = Client(name);
  if (!client.alive) {
    Spawn(name);
  }
  if (!up() || client.session != 0) {
    return;
  }
  client.session = next_session_++;
  client.hears.reset();
  ClientIdentity identity;
  identity.uid = client.uid;
  identity.pid = client.pid;
  identity.process_start = static_cast<std::uint64_t>(client.pid);
  identity.session_random = world_->next_random++;
  identity.epoch_random = world_->next_random++;
  core_->OnConnected(client.session, identity);
}

void CoreHarness::SendTo(FakeClient* client,
                         proto::ClientMessage message,
                         SlotRef slot,
                         bool names_slots) {
  if (!up() || client->session == 0 || std::exchange(client->next_is_refused, false)) {
    return;
  }
  message.set_request_id(client->next_request++);
  client->waiting[message.request_id()] = {message, slot, names_slots};
  const LayoutFacts facts = client->Facts();
  core_->OnRequest(client->session, message, &facts);
  Settle();
}

void CoreHarness::Request(const std::string& name, proto::ClientMessage message) {
  Connect(name);
  SendTo(&Client(name), std::move(message));
}

void CoreHarness::Open(const std::string& name, bool take_over) {
  Connect(name);
  const FakeJob& job = JobOf(name);
  proto::ClientMessage message;
  message.mutable_open_incarnation()->set_job_name(job.name);
  message.mutable_open_incarnation()->set_world_size(job.world_size);
  message.mutable_open_incarnation()->set_take_over(take_over);
  for (const proto::TierPolicy& tier : job.tiers) {
    *message.mutable_open_incarnation()->add_tiers() = tier;
  }
  if (!job.members.empty()) {
    message.mutable_open_incarnation()->set_known_job_uid(job.uid);
    message.mutable_open_incarnation()->set_known_number(job.epoch.number);
  }
  SendTo(&Client(name), std::move(message));
}

void CoreHarness::Register(const std::string& name, bool names_slots) {
  Connect(name);
  FakeClient& client = Client(name);
  const FakeJob& job = JobOf(name);
  if (!client.registered) {
    client.epoch = job.epoch;
    client.epoch.token += client.other_token ? 1 : 0;
    client.members = job.members;
  }
  proto::ClientMessage message;
  proto::RegisterRequest* body = message.mutable_register_();
  body->set_job_name(job.name);
  body->set_job_uid(job.uid);
  body->set_epoch_number(client.epoch.number);
  body->set_epoch_token(client.epoch.token);
  body->set_rank(client.rank);
  body->set_world_size(job.world_size);
  body->set_slots_wanted(client.slots_wanted);
  if (client.numa_node.has_value()) {
    body->set_numa_node(*client.numa_node);
  }
  body->set_session_token(client.token);
  body->set_last_begun_step(client.last_begun);
  *body->mutable_members() = client.members;
  if (!client.members.empty()) {
    body->mutable_tiers()->Assign(job.tiers.begin(), job.tiers.end());
  }
  if (names_slots) {
    AddHeld(client, body);
  }
  SendTo(&client, std::move(message), {}, names_slots);
}

void CoreHarness::LoseRegistration(const std::string& name) {
  FakeClient& client = Client(name);
  client.token = 0;
  client.registered = false;
  client.granted.reset();
  client.frozen.reset();
  arena_.UnmapAll(client.pid);
  Disconnect(name);
}

void CoreHarness::Begin(const std::string& name, Step step) {
  FakeClient& client = Client(name);
  client.last_begun = std::max(client.last_begun, step);
  if (!client.HasSlot() || !FillStatic(&client)) {
    ++client.missed;
    Log(name + " has no slot for step " + std::to_string(step));
    proto::ClientMessage message;
    message.mutable_missed()->set_step(step);
    message.mutable_missed()->set_reason("no free slot");
    SendTo(&client, std::move(message));
    return;
  }
  const SlotRef ref = *client.granted;
  client.granted.reset();
  client.copies[ref].step = step;
  if (client.layout.static_bytes != 0) {
    client.copies[ref].frozen = client.frozen->slot;
  }
  arena_.Write(ref, "part of the " + Final(client, step));
  proto::ClientMessage message;
  message.mutable_begin()->set_step(step);
  message.mutable_begin()->set_slot(ref.slot);
  message.mutable_begin()->set_generation(ref.generation);
  SendTo(&client, std::move(message), ref);
}

void CoreHarness::Torn(const std::string& name, bool copies_done, const std::string& reason) {
  FakeClient& client = Client(name);
  for (auto& [ref, copy] : client.copies) {
    if (copy.given_up || copy.sealing) {
      continue;
    }
    copy.given_up = true;
    ++client.missed;
    proto::ClientMessage message;
    message.mutable_torn()->set_step(copy.step);
    message.mutable_torn()->set_slot(ref.slot);
    message.mutable_torn()->set_generation(ref.generation);
    message.mutable_torn()->set_reason(reason);
    message.mutable_torn()->set_copies_done(copies_done);
    const SlotRef slot = ref;
    if (copies_done) {
      client.copies.erase(slot);
    }
    SendTo(&client, std::move(message), slot);
    return;
  }
}

void CoreHarness::CopiesDone(const std::string& name, bool late) {
  FakeClient& client = Client(name);
  std::vector<SlotRef> done;
  for (const auto& [ref, copy] : client.copies) {
    if (copy.given_up || (late && copy.sealing)) {
      done.push_back(ref);
    }
  }
  for (const SlotRef& ref : done) {
    arena_.Write(ref, "the rest of the " + Final(client, client.copies[ref].step));
    client.copies.erase(ref);
    proto::ClientMessage message;
    message.mutable_copies_done()->set_slot(ref.slot);
    message.mutable_copies_done()->set_generation(ref.generation);
    SendTo(&client, std::move(message), ref);
  }
}

void CoreHarness::Seal(const std::string& name, bool daemon_digests, bool late) {
  FakeClient& client = Client(name);
  for (auto& [ref, copy] : client.copies) {
    if ((copy.given_up && !late) || copy.sealing) {
      continue;
    }
    copy.sealing = true;
    copy.daemon_digests = daemon_digests;
    arena_.Write(ref, Final(client, copy.step));
    const SlotRef slot = ref;
    SendSeal(&client, slot);
    return;
  }
}

void CoreHarness::SendSeal(FakeClient* client, SlotRef ref) {
  const FakeClient::Copy& copy = client->copies.at(ref);
  proto::ClientMessage message;
  proto::SealRequest* seal = message.mutable_seal();
  seal->set_step(copy.step);
  seal->set_slot(ref.slot);
  seal->set_generation(ref.generation);
  if (!copy.daemon_digests) {
    for (const std::uint32_t crc :
         FakeArena::Digests(Final(*client, copy.step), client->layout.image_bytes)) {
      seal->add_chunk_crc32c(crc);
    }
  }
  if (copy.frozen.has_value()) {
    proto::StaticSeal* named = seal->mutable_static_image();
    named->set_slot(copy.frozen->slot);
    named->set_generation(copy.frozen->generation);
    const bool still = client->frozen.has_value() && client->frozen->slot == *copy.frozen;
    if (still && !client->frozen->sealed) {
      const auto digests = FakeArena::Digests(client->base, client->layout.static_bytes);
      named->mutable_chunk_crc32c()->Add(digests.begin(), digests.end());
    }
  }
  const SnapshotKey id{client->epoch.number, copy.step};
  history_.bases[{jobs_[client->job].uid, id, client->rank}].insert(
      copy.frozen.has_value() ? client->base : "");
  SendTo(client, std::move(message), ref);
}

void CoreHarness::Restore(const std::string& name, const RestoreWish& wish) {
  FakeClient& client = Client(name);
  client.asks = true;
  client.wish = wish;
  client.restore_error.reset();
  AskAgain(&client);
}

void CoreHarness::AskAgain(FakeClient* client) {
  proto::ClientMessage message;
  proto::RestoreRequest* body = message.mutable_restore();
  body->set_has_named_step(client->wish.named_step.has_value());
  body->set_named_step(client->wish.named_step.value_or(0));
  body->set_include_discarded(client->wish.include_discarded);
  body->set_after_attempt(client->attempt);
  body->set_timeout_ms(client->restore_timeout_ms);
  SendTo(client, std::move(message));
}

void CoreHarness::Loaded(const std::string& name, bool failed) {
  FakeClient& client = Client(name);
  if (!client.told.has_value()) {
    return;
  }
  const bool own = FakeArena::Matches(client.told_content, client.told_sidecar.images(0));
  const bool shared = client.told_sidecar.images_size() == 1 ||
                      FakeArena::Matches(client.told_static, client.told_sidecar.images(1));
  const bool matches = own && shared;
  client.reports_loaded = true;
  client.load_ok = matches && !failed;
  proto::ClientMessage message;
  proto::LoadedRequest* body = message.mutable_loaded();
  body->set_attempt(client.attempt);
  body->set_ok(client.load_ok);
  body->set_source_is_bad(!matches);
  body->set_bad_image(own ? proto::STATIC : proto::DYNAMIC);
  body->set_failure(client.load_ok ? "" : matches ? "took too long" : "chunk 0 does not match");
  SendTo(&client, std::move(message));
}

void CoreHarness::Refuse(const std::string& name) {
  FakeClient& client = Client(name);
  client.reports_loaded = true;
  client.load_ok = false;
  proto::ClientMessage message;
  proto::LoadedRequest* body = message.mutable_loaded();
  body->set_attempt(client.attempt);
  body->set_fatal(true);
  body->set_failure("\"weight\" has another shape here");
  SendTo(&client, std::move(message));
}

void CoreHarness::Drain(const std::string& name, std::chrono::milliseconds timeout) {
  proto::ClientMessage message;
  message.mutable_drain()->set_timeout_ms(static_cast<std::uint64_t>(timeout.count()));
  Client(name).drained.reset();
  SendTo(&Client(name), std::move(message));
}

void CoreHarness::Finish(const std::string& name) {
  proto::ClientMessage message;
  message.mutable_finish();
  history_.given_up.insert(JobOf(name).uid);
  SendTo(&Client(name), std::move(message));
}

void CoreHarness::Land(const std::string& name, SlotRef ref) {
  arena_.Write(ref, "late copy of " + name);
  Settle();
}

}  // namespace holdfast::daemon
