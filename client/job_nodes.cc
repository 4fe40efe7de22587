#include "client/job_nodes.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>

namespace holdfast::client {
namespace {

constexpr std::size_t kUuidBytes = 16;
constexpr std::size_t kLengthBytes = 2;  // little-endian, before the message

Error NoCard(std::size_t rank, const std::string& why) {
  return Error(Errc::kInvalidArgument, "the card of rank " + std::to_string(rank) + " " + why);
}

Result<proto::NodeCard> ReadCard(ByteView bytes, std::size_t rank) {
  const auto low = std::to_integer<std::size_t>(bytes[0]);
  const std::size_t length = low + 256 * std::to_integer<std::size_t>(bytes[1]);
  proto::NodeCard card;
  if (length == 0 || length > bytes.size() - kLengthBytes ||
      !card.ParseFromArray(bytes.data() + kLengthBytes, static_cast<int>(length)) ||
      card.node_uuid().size() != kUuidBytes) {
    return NoCard(rank, "is none: every rank's own, from hf_make_card, in order of rank");
  }
  return card;
}

}  // namespace

Status WriteCard(const proto::NodeCard& card, MutableByteView out) {
  const std::string text = card.SerializeAsString();
  if (text.size() > out.size() - kLengthBytes) {
    return Error(Errc::kInvalidArgument,
                 "what holdfastd says of its node has " + std::to_string(text.size()) +
                     " bytes; name fewer addresses in peer.advertise");
  }
  std::fill(out.begin(), out.end(), std::byte{0});
  out[0] = static_cast<std::byte>(text.size() % 256);
  out[1] = static_cast<std::byte>(text.size() / 256);
  std::memcpy(out.data() + kLengthBytes, text.data(), text.size());
  return Ok();
}

Result<JobNodes> NodesOfCards(ByteView cards, std::size_t card_bytes) {
  JobNodes nodes;
  std::map<std::string, std::size_t> places;
  const std::size_t count = cards.size() / card_bytes;
  for (std::size_t rank = 0; rank < count; ++rank) {
    HF_TRY(const proto::NodeCard card,
           ReadCard(cards.subspan(rank * card_bytes, card_bytes), rank));
    const auto [place, fresh] = places.emplace(card.node_uuid(), nodes.members.size());
    if (fresh) {
      proto::MemberNode& member = nodes.members.emplace_back();
      member.set_node_uuid(card.node_uuid());
      *member.mutable_endpoints() = card.endpoints();
    }
    nodes.members[place->second].add_ranks(static_cast<std::uint32_t>(rank));
    if (card.known_number() > nodes.known_number) {
      nodes.known_number = card.known_number();
      nodes.known_job_uid = card.known_job_uid();
    }
  }
  if (nodes.members.size() <= 1) {
    nodes.members.clear();
  }
  for (const proto::MemberNode& member : nodes.members) {
    if (member.endpoints().empty()) {
      return NoCard(member.ranks(0),
                    "names no address, and the job has " + std::to_string(nodes.members.size()) +
                        " nodes: set peer.listen in the configuration of every node's holdfastd");
    }
  }
  return nodes;
}

}  // namespace holdfast::client
