#include "tests/transport/peer_fixture.h"

#include <filesystem>

#include <boost/asio/write.hpp>

#include "common/with_timeout.h"
#include "transport/certificates.h"

namespace holdfast::transport {

using asio::ip::tcp;
using std::chrono::milliseconds;

std::string Uuid(char letter) {
  return std::string(kUuidBytes, letter);
}

proto::PeerRequest SidecarOf(char job) {
  proto::PeerRequest request;
  request.mutable_fetch_sidecar()->mutable_id()->set_job_uid(Uuid(job));
  request.mutable_fetch_sidecar()->mutable_id()->set_incarnation(1);
  return request;
}

proto::PeerRequest ReadOf(std::uint64_t offset, std::uint32_t length) {
  proto::PeerRequest request;
  auto* read = request.mutable_read_range();
  read->mutable_key()->mutable_id()->set_job_uid(Uuid('j'));
  read->mutable_key()->mutable_id()->set_incarnation(1);
  read->mutable_key()->mutable_id()->set_step(7);
  read->mutable_key()->mutable_image()->set_rank(0);
  read->set_offset(offset);
  read->set_length(length);
  return request;
}

proto::PeerRequest ReportOf(char sender, std::uint64_t epoch, std::uint64_t sequence) {
  proto::PeerRequest request;
  request.mutable_report()->set_job_uid(Uuid('j'));
  auto* report = request.mutable_report()->mutable_report();
  report->set_node_uuid(Uuid(sender));
  report->mutable_stamp()->set_epoch_number(epoch);
  report->mutable_stamp()->set_epoch_token(5);
  report->mutable_stamp()->set_boot(1);
  report->mutable_stamp()->set_sequence(sequence);
  return request;
}

std::string Authority(const std::string& name) {
  std::string folder = testing::TempDir() + "/authority-" + name;
  if (!std::filesystem::exists(folder + "/ca.crt")) {
    std::filesystem::remove_all(folder);
    const auto made = CreateAuthority(folder, AuthorityOptions());
    EXPECT_TRUE(made.has_value()) << made.error().ToString();
  }
  return folder;
}

TlsFiles FilesOf(const std::string& authority, char node) {
  const std::string folder = Authority(authority);
  TlsFiles files;
  files.authority = folder + "/ca.crt";
  files.certificate = folder + "/node-" + UuidText(Uuid(node)) + ".crt";
  files.key = folder + "/node-" + UuidText(Uuid(node)) + ".key";
  if (!std::filesystem::exists(files.certificate)) {
    NodeOptions options;
    options.node_uuid = Uuid(node);
    const auto issued = IssueNodeCertificate(folder, options);
    EXPECT_TRUE(issued.has_value()) << issued.error().ToString();
  }
  return files;
}

std::shared_ptr<const TlsContext> TlsOf(const std::string& authority, char node) {
  auto loaded = TlsContext::Load(FilesOf(authority, node));
  EXPECT_TRUE(loaded.has_value()) << loaded.error().ToString();
  return loaded.value();
}

Node::Node(asio::io_context& io, const Options& options)
    : io_(io),
      context(Uuid(options.name), options.boot, options.tls, options.limits, MakeHooks()),
      server(io.get_executor(), &context, options.server) {}

PeerContext::Hooks Node::MakeHooks() {
  PeerContext::Hooks hooks;
  hooks.handler = [this](const std::shared_ptr<const PeerFacts>&, proto::PeerRequest request) {
    return Handle(std::move(request));
  };
  hooks.on_up = [this](const std::shared_ptr<PeerChannel>& channel) { ups.push_back(channel); };
  hooks.on_down = [this](const std::shared_ptr<PeerChannel>& channel, const Error& why) {
    std::erase(ups, channel);
    downs.push_back(why);
  };
  return hooks;
}

asio::awaitable<Result<proto::PeerReply>> Node::Handle(proto::PeerRequest request) {
  arrived.push_back(request);
  if (hold) {
    auto gate = std::make_shared<asio::steady_timer>(io_, asio::steady_timer::time_point::max());
    held.push_back(gate);
    while (gate->expiry() == asio::steady_timer::time_point::max()) {
      (void)co_await gate->async_wait(asio::as_tuple(asio::use_awaitable));
      if (!deaf && co_await Cancelled()) {
        ++cancelled;
        co_return Error(Errc::kCancelled, "the handler heard it");
      }
    }
  }
  proto::PeerReply reply;
  if (request.has_read_range()) {
    const char letter = static_cast<char>('A' + request.read_range().offset() % 26);
    reply.mutable_read_range()->set_data(std::string(request.read_range().length(), letter));
    AddDigests(reply.mutable_read_range());
  } else if (request.has_report()) {
    reply.mutable_report();
  } else if (request.has_command()) {
    reply.mutable_command();
  } else if (request.has_fetch_sidecar()) {
    // The job's letter comes back, so that answers can be told apart.
    reply.mutable_fetch_sidecar()->set_sidecar(request.fetch_sidecar().id().job_uid());
    reply.mutable_fetch_sidecar()->set_sidecar_crc32c(request.fetch_sidecar().rank());
  }
  co_return reply;
}

void Node::Listen(std::uint16_t port) {
  const Status listening = server.Listen("127.0.0.1", port, false);
  ASSERT_TRUE(listening.has_value()) << listening.error().ToString();
  server.Start();
}

std::uint16_t Node::port() const {
  return ParseEndpoint(server.address()).value().port();
}

void Node::LetGo(std::size_t which) {
  held.at(which)->expires_at(asio::steady_timer::time_point::min());
}

void RawPeer::Connect(std::uint16_t port) {
  socket.connect(tcp::endpoint(asio::ip::make_address("127.0.0.1"), port));
}

void RawPeer::Send(const std::string& bytes) {
  asio::write(socket, asio::buffer(bytes));
}

void RawPeer::SendMessage(const proto::PeerMessage& message) {
  Send(EncodePeerFrame(message).value());
}

void RawPeer::SendHello(char name, std::uint32_t version, std::uint64_t boot) {
  proto::PeerMessage message;
  auto* hello = message.mutable_hello();
  hello->set_protocol_version(version);
  hello->set_software_version("9.9");
  hello->set_node_uuid(Uuid(name));
  hello->set_boot_number(boot);
  hello->set_max_requests(8);
  SendMessage(message);
}

PeerTest::~PeerTest() {
  TaskGroup last(io_.get_executor(), "last", 1);
  std::optional<bool> joined;
  EXPECT_TRUE(last.Spawn(Store(StopAndJoin(&tasks_), &joined)));
  EXPECT_TRUE(RunUntil([&] { return joined.has_value() && last.size() == 0; }));
}

bool PeerTest::RunUntil(const std::function<bool()>& done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    io_.restart();
    io_.run_one_for(milliseconds(100));
  }
  return true;
}

namespace {

asio::awaitable<bool> ReadInto(tcp::socket* socket, FrameDecoder* decoder) {
  const MutableByteView room = decoder->Space();
  const auto buffer = asio::buffer(room.data(), room.size());
  const auto [error, count] =
      co_await socket->async_read_some(buffer, asio::as_tuple(asio::use_awaitable));
  decoder->Commit(count);
  co_return !error;
}

}  // namespace

std::vector<proto::PeerMessage> PeerTest::Hear(
    RawPeer* peer, const std::function<bool(const std::vector<proto::PeerMessage>&)>& enough) {
  std::vector<proto::PeerMessage> heard;
  FrameDecoder decoder(kMaxFramePayloadBytes, kPeerFrameMagic);
  while (enough == nullptr || !enough(heard)) {
    const auto payload = decoder.Next();
    if (!payload.has_value()) {
      ADD_FAILURE() << payload.error().ToString();
      break;
    }
    if (payload.value().has_value()) {
      heard.push_back(ParsePeerMessage(*payload.value()).value());
      continue;
    }
    if (!RunToEnd(ReadInto(&peer->socket, &decoder))) {
      break;
    }
  }
  return heard;
}

void PeerTest::End(Node* node) {
  EXPECT_TRUE(RunToEnd(StopAndJoin(&node->server)));
  EXPECT_EQ(node->server.connections(), 0U);
  EXPECT_EQ(node->server.strangers(), 0U);
}

void PeerTest::End(PeerClient* client) {
  EXPECT_TRUE(RunToEnd(StopAndJoin(client)));
  EXPECT_EQ(client->channel(), nullptr);
}

std::unique_ptr<PeerClient> PeerTest::Connected(Node* from, Node* to) {
  PeerAddress address;
  address.node_uuid = to->context.node_uuid();
  address.endpoints = {to->server.address()};
  auto client = std::make_unique<PeerClient>(io_.get_executor(), &from->context, address);
  EXPECT_TRUE(client->Start().has_value());
  const Status connected = RunToEnd(client->WaitConnected(std::chrono::seconds(10)));
  EXPECT_TRUE(connected.has_value()) << connected.error().ToString();
  EXPECT_TRUE(RunUntil([to] { return !to->ups.empty(); }));
  return client;
}

}  // namespace holdfast::transport
