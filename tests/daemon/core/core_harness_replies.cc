// What trainers make of the daemon's messages, and what they must never be told (I5, I11).

#include <algorithm>
#include <utility>

#include "tests/daemon/core/core_harness.h"

namespace holdfast::daemon {

void CoreHarness::Receive(FakeClient* client, const Send& send) {
  if (client->hears == 0U) {
    return;
  }
  if (client->hears.has_value()) {
    --*client->hears;
  }
  const std::string text =
      send.message.request_id() == 0 ? ReceiveEvent(client, send) : ReceiveReply(client, send);
  if (!text.empty()) {
    Log(client->name + ": " + text);
  }
}

std::string CoreHarness::ReceiveEvent(FakeClient* client, const Send& send) {
  const proto::ServerMessage& message = send.message;
  switch (message.body_case()) {
    case proto::ServerMessage::kGrant:
      return ReceiveGrant(client, message.grant());
    case proto::ServerMessage::kRestoreImage:
      client->told_static = ContentOf(send, proto::STATIC);
      return "";
    case proto::ServerMessage::kOutcome: {
      const proto::OutcomeEvent& event = message.outcome();
      const SnapshotKey id = KeyOf(event.id());
      client->outcomes[{id, event.kind()}] = event.reason();
      if (event.kind() == proto::OutcomeEvent::KIND_ABANDONED) {
        for (auto& [ref, copy] : client->copies) {
          copy.given_up = copy.given_up || (copy.step == id.step && !copy.sealing);
        }
        return ShortText(id) + " is abandoned: " + event.reason();
      }
      return ShortText(id) + (event.kind() == proto::OutcomeEvent::KIND_DURABLE
                                  ? " is durable on " + event.reason()
                                  : " is complete");
    }
    case proto::ServerMessage::kFenced:
      client->fenced = true;
      return "fenced by incarnation " + std::to_string(message.fenced().newer_epoch());
    case proto::ServerMessage::kRevoke:
      arena_.Unmap({message.revoke().slot(), message.revoke().generation()}, client->pid);
      if (client->frozen.has_value() &&
          client->frozen->slot == SlotRef{message.revoke().slot(), message.revoke().generation()}) {
        client->frozen.reset();
      }
      return "unmaps " + ToText(SlotRef{message.revoke().slot(), message.revoke().generation()});
    default:
      return "an event that no client knows";
  }
}

std::string CoreHarness::ReceiveGrant(FakeClient* client, const proto::GrantEvent& grant) {
  const SlotRef ref{grant.slot(), grant.generation()};
  arena_.Map(ref, client->pid);
  if (grant.image() == proto::STATIC) {
    const bool again = client->frozen.has_value() && client->frozen->slot == ref;
    if (client->frozen.has_value() && !again) {
      Violation("I7: " + client->name + " is granted a second static image");
    }
    client->frozen = FakeClient::Static{ref, client->Facts().static_hash, grant.sealed(), false};
    return std::string(grant.sealed() ? "offered" : "granted") + " static " + ToText(ref);
  }
  if (client->granted.has_value() || client->copies.contains(ref)) {
    Violation("I7: slot " + ToText(ref) + " is granted to " + client->name +
              ", which has it or another in use");
  }
  client->granted = ref;
  client->granted_for = grant.layout_generation();
  return "granted " + ToText(ref);
}

std::string CoreHarness::ContentOf(const Send& send, proto::ImageKind kind) {
  if (send.fd_slot.has_value()) {
    return arena_.Content(*send.fd_slot);
  }
  if (!send.fd_file.has_value() || !opened_files_.contains(*send.fd_file)) {
    return "no bytes";
  }
  const auto& [own, shared] = opened_files_.at(*send.fd_file);
  return kind == proto::STATIC ? shared : own;
}

// I5, I7: the frozen tensors that a restore gives are those that the training had.
void CoreHarness::CheckBase(FakeClient* client) {
  const auto had =
      history_.bases.find({jobs_[client->job].uid, *client->told, client->told_sidecar.rank()});
  const bool shares = client->told_sidecar.images_size() > 1;
  if (had == history_.bases.end()) {
    return;
  }
  const std::set<std::string>& bases = had->second;
  const bool matches =
      shares && FakeArena::Matches(client->told_static, client->told_sidecar.images(1));
  const bool known = shares ? bases.size() > bases.count("") : bases.contains("");
  if (!known || (matches && !bases.contains(client->told_static))) {
    Violation("I7: " + client->name + " is given other frozen tensors than were sealed with " +
              ShortText(*client->told));
  }
}

// As the library does: the first snapshot fills the image, or compares all of one that is sealed.
// False: there is none to be shared.
bool CoreHarness::FillStatic(FakeClient* client) {
  if (client->layout.static_bytes == 0) {
    return true;
  }
  if (!client->frozen.has_value()) {
    return false;
  }
  FakeClient::Static& frozen = *client->frozen;
  if (!frozen.offered && !frozen.sealed) {
    arena_.Write(frozen.slot, client->base);
  }
  if (!frozen.offered || arena_.Content(frozen.slot) == client->base) {
    frozen.sealed = frozen.sealed || frozen.offered;
    return true;
  }
  proto::ClientMessage message;
  message.mutable_refuse_static()->set_slot(frozen.slot.slot);
  message.mutable_refuse_static()->set_generation(frozen.slot.generation);
  message.mutable_refuse_static()->set_reason("it holds another base");
  arena_.Unmap(frozen.slot, client->pid);
  client->frozen.reset();
  Log(client->name + ": refuses the static image");
  SendTo(client, std::move(message));
  return false;
}

std::string CoreHarness::ReceiveSealed(FakeClient* client, const FakeClient::Waiting& request) {
  ++client->sealed;
  client->copies.erase(request.slot);
  const proto::SealRequest& seal = request.message.seal();
  if (client->frozen.has_value()) {
    const SlotRef named{seal.static_image().slot(), seal.static_image().generation()};
    client->frozen->sealed = client->frozen->sealed || named == client->frozen->slot;
  }
  return "sealed step " + std::to_string(seal.step());
}

std::string CoreHarness::ReceiveReply(FakeClient* client, const Send& send) {
  const proto::ServerMessage& message = send.message;
  const auto it = client->waiting.find(message.request_id());
  if (it == client->waiting.end()) {
    Violation("I12: " + client->name + " gets an answer that it does not wait for");
    return "";
  }
  const FakeClient::Waiting request = std::move(it->second);
  client->waiting.erase(it);
  switch (message.body_case()) {
    case proto::ServerMessage::kError:
      return ReceiveError(
          client,
          request,
          Error(static_cast<Errc>(message.error().code()), message.error().message()));
    case proto::ServerMessage::kOpenIncarnation: {
      FakeJob& job = jobs_[client->job];
      job.uid = message.open_incarnation().job_uid();
      job.epoch = {message.open_incarnation().number(), message.open_incarnation().token()};
      return "opens incarnation " + std::to_string(job.epoch.number);
    }
    case proto::ServerMessage::kRegister:
      return ReceiveRegister(client, message.register_(), request.names_slots);
    case proto::ServerMessage::kSeal:
      return ReceiveSealed(client, request);
    case proto::ServerMessage::kRestore:
      return ReceiveRestore(client, send);
    case proto::ServerMessage::kLoaded:
      client->reports_loaded = false;
      if (message.loaded().committed()) {
        client->returned = true;
        client->asks = false;
        return "restore() returns " + ShortText(*client->told);
      }
      client->told.reset();
      due_.emplace_back([this, client] { AskAgain(client); });
      return "another attempt is due";
    case proto::ServerMessage::kDrain:
      client->drained = message.drain();
      return "drained " + ShortText(KeyOf(message.drain().id())) +
             (message.drain().durable() ? ", durable" : ", not durable") +
             (message.drain().reason().empty() ? "" : ": " + message.drain().reason());
    case proto::ServerMessage::kLeave:
      return "has left";
    case proto::ServerMessage::kFinish:
    case proto::ServerMessage::kDrop:
      client->freed_bytes =
          message.has_finish() ? message.finish().freed_bytes() : message.drop().freed_bytes();
      return "freed " + std::to_string(client->freed_bytes / kMiB) + " MiB";
    case proto::ServerMessage::kVerifyShard:
      return std::to_string(message.verify_shard().bad_chunks_size()) + " bad chunks";
    default:
      return "";
  }
}

std::string CoreHarness::ReceiveError(FakeClient* client,
                                      const FakeClient::Waiting& request,
                                      const Error& e) {
  client->last_error = std::string(ErrcName(e.code)) + ": " + e.message;
  client->fenced = client->fenced || e.code == Errc::kFenced;
  const auto copy = client->copies.find(request.slot);
  if (request.message.has_seal() && copy != client->copies.end()) {
    client->copies.erase(copy);  // its copies had finished before it was sent
  }
  if (request.message.has_register_() && client->registered) {
    client->layout = client->registered_layout;  // as the library: it goes on with what it has
    if (std::exchange(client->resuming, false)) {
      due_.emplace_back([this, client] { Disconnect(client->name); });  // and tries again later
    }
  }
  if (request.message.has_begin() && copy != client->copies.end()) {
    copy->second.given_up = true;
  }
  // One that a later request replaced says nothing: the later one is answered.
  const bool replaced =
      e.code == Errc::kCancelled &&
      std::any_of(client->waiting.begin(), client->waiting.end(), [](const auto& waiting) {
        return waiting.second.message.has_restore();
      });
  if ((request.message.has_restore() || request.message.has_loaded()) && !replaced) {
    client->asks = false;
    client->reports_loaded = false;
    client->told.reset();
    client->restore_error = client->last_error;
  }
  return client->last_error;
}

std::string CoreHarness::ReceiveRegister(FakeClient* client,
                                         const proto::RegisterReply& reply,
                                         bool named_slots) {
  client->registered = true;
  client->resuming = false;
  // A slot that was granted for the layout before has that one's header.
  const bool same = !client->HasNewLayout() && client->granted_for == client->layout_generation;
  client->registered_layout = client->layout;
  client->layout_generation = reply.layout_generation();
  client->granted_for = same ? client->layout_generation : 0;
  client->token = reply.session_token();
  client->slots_admitted = reply.slots_admitted();
  std::set<SlotRef> kept;
  std::string text;
  for (const proto::HeldSlot& held : reply.kept()) {
    kept.insert({held.slot(), held.generation()});
    text += " keeps " + ToText(SlotRef{held.slot(), held.generation()});
  }
  const SlotRef kept_static{reply.static_slot().slot(), reply.static_slot().generation()};
  if (client->frozen.has_value() && client->frozen->slot != kept_static) {
    arena_.Unmap(client->frozen->slot, client->pid);
    client->frozen.reset();
  }
  text += client->frozen.has_value() ? " keeps static " + ToText(kept_static) : "";
  if (client->granted.has_value() && !kept.contains(*client->granted)) {
    arena_.Unmap(*client->granted, client->pid);
    client->granted.reset();
  }
  // On the same connection a client that named no slots goes on with its copies.
  std::erase_if(client->copies, [&](const auto& copy) {
    if (!named_slots) {
      return false;
    }
    if (!kept.contains(copy.first)) {
      arena_.Unmap(copy.first, client->pid);
    }
    return !kept.contains(copy.first);
  });
  return "registered, " + std::to_string(reply.slots_admitted()) + " slots" + text;
}

// I11: all ranks of one attempt hear one choice.  I5 is checked when the client has loaded.
std::string CoreHarness::ReceiveRestore(FakeClient* client, const Send& send) {
  const proto::RestoreReply& reply = send.message.restore();
  client->attempt = reply.attempt();
  client->told.reset();
  client->told_nothing = !reply.has_choice();
  std::string text = "attempt " + std::to_string(reply.attempt()) + ": ";
  for (const std::string& line : reply.passed_over()) {
    text += "[passed over " + line + "] ";
  }
  if (!reply.has_choice()) {
    client->asks = false;
    client->returned = true;
    return text + "nothing to restore";
  }
  client->told = KeyOf(reply.id());
  client->told_sidecar = reply.sidecar();
  client->told_content = ContentOf(send, proto::DYNAMIC);
  CheckBase(client);
  if (KeyOf(reply.sidecar().id()) != *client->told || reply.sidecar().rank() != client->rank) {
    Violation("I11: " + client->name + " is given another shard than it is told");
  }
  for (const auto& [name, other] : clients_) {
    if (other.job == client->job && other.epoch == client->epoch &&
        other.attempt == client->attempt && other.told.has_value() && other.told != client->told) {
      Violation("I11: " + name + " and " + client->name + " are told different snapshots");
    }
  }
  return text + "load " + ShortText(*client->told) + " from " + reply.source();
}

}  // namespace holdfast::daemon
