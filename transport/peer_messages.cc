#include "transport/peer_messages.h"

#include <algorithm>
#include <limits>

#include "common/crc32c.h"
#include "transport/frame.h"
#include "transport/wire.h"

namespace holdfast::transport {
namespace {

constexpr std::size_t kMaxPlanes = 64;
constexpr std::size_t kMaxAddressBytes = 256;
constexpr std::size_t kMaxErrorText = 4 * kKiB;

Error Invalid(const std::string& what) {
  return Error(Errc::kInvalidArgument, what);
}

Status CheckJob(const std::string& job_uid) {
  if (job_uid.size() != kUuidBytes) {
    return Invalid("a job_uid of " + std::to_string(job_uid.size()) + " bytes");
  }
  return Ok();
}

Status CheckId(const proto::SnapshotId& id) {
  HF_TRYV(CheckJob(id.job_uid()));
  if (id.incarnation() == 0 || id.step() < 0) {
    return Invalid("a snapshot id without incarnation or with a negative step");
  }
  return Ok();
}

Status CheckStamp(const proto::PeerStamp& stamp) {
  if (stamp.epoch_number() == 0) {
    return Invalid("a stamp without epoch");
  }
  return Ok();
}

Status CheckBody(const proto::ReportRequest& body, const std::string& sender_uuid) {
  HF_TRYV(CheckJob(body.job_uid()));
  HF_TRYV(CheckStamp(body.report().stamp()));
  if (body.report().node_uuid() != sender_uuid) {
    return Error(Errc::kPermission,
                 "node " + UuidText(sender_uuid) + " sent a report of node " +
                     UuidText(body.report().node_uuid()));
  }
  return Ok();
}

Status CheckBody(const proto::CommandRequest& body) {
  HF_TRYV(CheckJob(body.job_uid()));
  return CheckStamp(body.command().stamp());
}

Status CheckKey(const proto::StoredKey& key) {
  HF_TRYV(CheckId(key.id()));
  if (key.part_case() == proto::StoredKey::PART_NOT_SET) {
    return Error(Errc::kVersionMismatch, "a read of a part of a kind that is not known here");
  }
  return Ok();
}

Status CheckBody(const proto::FeedNextRequest& body) {
  HF_TRYV(CheckKey(body.key()));
  const bool row = body.key().has_feed() && body.key().feed().row() > 0;
  return row || body.key().has_share()
             ? Status(Ok())
             : Status(Invalid("a window of something that is no feed, or of row 0"));
}

Status CheckBody(const proto::DecodeShareRequest& body) {
  HF_TRYV(CheckKey(body.key()));
  return body.key().has_share() && body.order().has_held() &&
                 body.order().rank() == body.key().share().rank()
             ? Status(Ok())
             : Status(Invalid("a share of something that is no lost shard"));
}

Status CheckBody(const proto::LendRequest& body) {
  HF_TRYV(CheckKey(body.key()));
  return body.provider().empty() || body.provider().size() > kMaxAddressBytes
             ? Status(Invalid("a wish to read over a fabric that has no name"))
             : Status(Ok());
}

Status CheckBody(const proto::ReadRangeRequest& body) {
  HF_TRYV(CheckKey(body.key()));
  if (body.length() == 0 || body.length() > kMaxReadRangeBytes) {
    return Invalid("a read of " + std::to_string(body.length()) + " bytes; 1 to " +
                   std::to_string(kMaxReadRangeBytes) + " are read at once");
  }
  if (body.offset() > std::numeric_limits<std::uint64_t>::max() - body.length()) {
    return Invalid("a read behind the end of all numbers");
  }
  return Ok();
}

Status CheckBody(const proto::ViewRequest& body) {
  if (body.job_name().size() > kMaxJobNameBytes) {
    return Invalid("a job name of " + std::to_string(body.job_name().size()) + " bytes");
  }
  return body.has_user() ? Status(Ok()) : Status(Invalid("a view for nobody"));
}

Status CheckBody(const proto::ScrubRequest& body) {
  HF_TRYV(CheckKey(body.key()));
  if (body.key().has_feed() || body.key().has_share() || !body.has_user()) {
    return Invalid("a scrub of what is being made, or for nobody");
  }
  if (body.chunks() == 0 || body.chunks() > kMaxScrubChunks) {
    return Invalid("a scrub of " + std::to_string(body.chunks()) + " chunks; 1 to " +
                   std::to_string(kMaxScrubChunks) + " are read at once");
  }
  if (body.first_chunk() >
      std::numeric_limits<std::uint64_t>::max() / kChunkBytes - body.chunks()) {
    return Invalid("a scrub behind the end of all numbers");
  }
  return Ok();
}

}  // namespace

Result<std::string> EncodePeerFrame(const proto::PeerMessage& message) {
  return EncodeMessage(message, kPeerFrameMagic);
}

Result<proto::PeerMessage> ParsePeerMessage(ByteView payload) {
  proto::PeerMessage message;
  HF_TRYV(ParseMessage(payload, kMaxPeerParts, &message));
  return message;
}

Status CheckHello(const proto::PeerHello& hello) {
  if (hello.protocol_version() != kPeerProtocolVersion) {
    return Error(
        Errc::kVersionMismatch,
        "one node speaks peer protocol version " + std::to_string(hello.protocol_version()) +
            " (Holdfast \"" + hello.software_version().substr(0, 64) + "\"), the other version " +
            std::to_string(kPeerProtocolVersion) + ": bring both to one version of Holdfast");
  }
  if (hello.node_uuid().size() != kUuidBytes) {
    return Invalid("a hello whose node uuid has " + std::to_string(hello.node_uuid().size()) +
                   " bytes");
  }
  if (!hello.wanted_node().empty() && hello.wanted_node().size() != kUuidBytes) {
    return Invalid("a hello that looks for a node uuid of " +
                   std::to_string(hello.wanted_node().size()) + " bytes");
  }
  if (hello.max_requests() == 0) {
    return Invalid("a hello that accepts no requests");
  }
  if (static_cast<std::size_t>(hello.planes_size()) > kMaxPlanes) {
    return Invalid("a hello with " + std::to_string(hello.planes_size()) + " data planes");
  }
  for (const auto& plane : hello.planes()) {
    if (plane.kind().empty() || plane.address().size() > kMaxAddressBytes ||
        plane.kind().size() > kMaxAddressBytes || plane.provider().size() > kMaxAddressBytes) {
      return Invalid("a hello with a data plane that cannot be one");
    }
  }
  return Ok();
}

Status CheckRequest(const proto::PeerRequest& request, const std::string& sender_uuid) {
  if (request.deadline_ms() == 0 ||
      request.deadline_ms() > static_cast<std::uint64_t>(kMaxDeadline.count())) {
    return Invalid("a deadline of " + std::to_string(request.deadline_ms()) + " ms");
  }
  switch (request.body_case()) {
    case proto::PeerRequest::kReport:
      return CheckBody(request.report(), sender_uuid);
    case proto::PeerRequest::kCommand:
      return CheckBody(request.command());
    case proto::PeerRequest::kReadRange:
      return CheckBody(request.read_range());
    case proto::PeerRequest::kFetchSidecar:
      return CheckId(request.fetch_sidecar().id());
    case proto::PeerRequest::kDescribe:
      return CheckKey(request.describe().key());
    case proto::PeerRequest::kFeedNext:
      return CheckBody(request.feed_next());
    case proto::PeerRequest::kView:
      return CheckBody(request.view());
    case proto::PeerRequest::kScrub:
      return CheckBody(request.scrub());
    case proto::PeerRequest::kLend:
      return CheckBody(request.lend());
    case proto::PeerRequest::kDecodeShare:
      return CheckBody(request.decode_share());
    case proto::PeerRequest::BODY_NOT_SET:
      break;
  }
  return Error(Errc::kVersionMismatch,
               "a request of a kind that is not known here: bring the nodes to one version of "
               "Holdfast");
}

AskedFor::AskedFor(const proto::PeerRequest& request)
    : kind(request.body_case()), read_bytes(request.read_range().length()) {}

Status CheckReply(const AskedFor& asked, const proto::PeerReply& reply) {
  // Bodies of requests and of their replies have the same names.
  const auto* wanted = proto::PeerRequest::descriptor()->FindFieldByNumber(asked.kind);
  const auto* given = proto::PeerReply::descriptor()->FindFieldByNumber(reply.body_case());
  if (wanted == nullptr || given == nullptr || wanted->name() != given->name()) {
    return Error(Errc::kCorruption, "a reply of another kind than its request");
  }
  if (reply.has_read_range()) {
    const auto& range = reply.read_range();
    if (range.data().size() != asked.read_bytes ||
        static_cast<std::uint64_t>(range.chunk_crc32c_size()) != ChunkCount(range.data().size())) {
      return Error(Errc::kCorruption,
                   "a read of " + std::to_string(asked.read_bytes) + " bytes was answered with " +
                       std::to_string(range.data().size()) + " bytes and " +
                       std::to_string(range.chunk_crc32c_size()) + " digests");
    }
  }
  return Ok();
}

void AddDigests(proto::ReadRangeReply* reply) {
  reply->clear_chunk_crc32c();
  for (const std::uint32_t crc : ChunkDigests(AsBytes(reply->data()))) {
    reply->add_chunk_crc32c(crc);
  }
}

Status VerifyDigests(const proto::ReadRangeReply& reply) {
  const auto digests = ChunkDigests(AsBytes(reply.data()));
  if (digests.size() != static_cast<std::size_t>(reply.chunk_crc32c_size())) {
    return Error(Errc::kCorruption, "a read with a wrong number of digests");
  }
  for (std::size_t i = 0; i < digests.size(); ++i) {
    if (digests[i] != reply.chunk_crc32c(static_cast<int>(i))) {
      return Error(Errc::kCorruption,
                   "chunk " + std::to_string(i) + " of a read does not match its digest");
    }
  }
  return Ok();
}

proto::PeerError ToPeerError(const Error& error) {
  proto::PeerError out;
  out.set_code(static_cast<std::uint32_t>(error.code));
  out.set_message(error.message.substr(0, kMaxErrorText));
  return out;
}

Error FromPeerError(std::uint32_t code, const std::string& message) {
  return Error(ErrcOf(code), message.substr(0, kMaxErrorText));
}

std::string UuidText(const std::string& uuid) {
  std::string text = ToHex(AsBytes(uuid.substr(0, 4 * kUuidBytes)));
  if (uuid.size() == kUuidBytes) {
    for (const std::size_t at : {20, 16, 12, 8}) {
      text.insert(at, 1, '-');
    }
  }
  return text;
}

Result<std::string> ParseUuid(std::string_view text) {
  std::string digits(text);
  std::erase(digits, '-');
  auto uuid = FromHex(digits);
  if (!uuid.has_value() || uuid.value().size() != kUuidBytes) {
    return Error(Errc::kInvalidArgument,
                 "\"" + std::string(text.substr(0, 80)) +
                     "\" is no uuid; one looks like 01234567-89ab-cdef-0123-456789abcdef");
  }
  return uuid;
}

}  // namespace holdfast::transport
