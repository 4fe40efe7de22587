// A group of four over the real data planes: requests in mutual TLS, and libfabric's tcp, each node
// with an address of its own.  What a taker asks of a maker stays in the process: there is no
// message for it yet.

#include <map>
#include <memory>
#include <string>

#include "common/crc32c.h"
#include "tests/daemon/pipeline/group_fixture.h"
#include "tests/support/bulk_bytes.h"
#include "tests/transport/peer_fixture.h"
#include "transport/fabric_endpoint.h"
#include "transport/peer_client.h"
#include "transport/peer_context.h"
#include "transport/peer_messages.h"
#include "transport/peer_server.h"
#include "transport/rpc_range_reader.h"

namespace holdfast::daemon {
namespace {

using std::chrono::seconds;
using Clock = std::chrono::steady_clock;
using transport::RangeReader;

class ProtectPlanesTest : public GroupTest {
 protected:
  ProtectPlanesTest() {
    ec::CodeParams code;
    code.data = 2;
    code.parity = 2;
    group_ = std::make_unique<TestGroup>(
        code, std::vector<ByteCount>{6 * kMiB, 6 * kMiB - 77, 2 * kMiB + 1, 6 * kMiB});
  }

  static std::string Address(std::uint32_t position) {
    return "127.0.1." + std::to_string(position + 1);
  }

  // Protects all stripes, then decodes each shard that pairs of members can lose.
  void ProtectAndRebuild() {
    TestGroup reference = *group_;
    reference.FillRows();
    ProtectAll(group_.get(), SmallWindows());
    for (std::uint32_t stripe = 0; stripe < 4; ++stripe) {
      for (std::uint32_t row = 0; row < 2; ++row) {
        ASSERT_TRUE(SameBytes(group_->rows[stripe][row].bytes, reference.rows[stripe][row].bytes));
      }
    }
    ShareRows();
    for (std::uint32_t first = 0; first < 4; ++first) {
      const std::uint32_t second = (first + 1) % 4;
      const auto reader = RebuildReader::Make(&cpu_,
                                              group_->digests[first],
                                              group_->group,
                                              first,
                                              Sources(*group_, {first, second}, first),
                                              RebuildOptions());
      std::vector<std::byte> image(group_->images[first].size());
      ShardReadOptions options;
      options.deadline = Clock::now() + seconds(30);
      const Status read = RunToEnd(reader.value()->ReadRange(0, image, options));
      ASSERT_TRUE(read.has_value()) << read.error().ToString();
      EXPECT_TRUE(SameBytes(image, group_->images[first]));
    }
  }

  // The rows are in their owners' memory from now on.
  virtual void ShareRows() {}

  std::unique_ptr<TestGroup> group_;
};

class ProtectOverRpcTest : public ProtectPlanesTest {
 protected:
  // Bytes that a node lends, by what names them.
  struct Lent {
    std::map<std::uint32_t, ByteView> images;                              // by rank
    std::map<std::pair<std::uint32_t, std::uint32_t>, ByteView> parities;  // by stripe and row
    std::map<std::uint32_t, std::shared_ptr<WindowFeed>> feeds;            // by stripe
  };

  struct PeerNode {
    std::unique_ptr<transport::PeerContext> context;
    std::unique_ptr<transport::PeerServer> server;
    Lent lent;
    std::map<std::uint32_t, std::unique_ptr<transport::PeerClient>> clients;  // by position
  };

  ProtectOverRpcTest() {
    for (std::uint32_t position = 0; position < 4; ++position) {
      StartNode(position);
    }
  }

  ~ProtectOverRpcTest() override {
    for (PeerNode& node : nodes_) {
      for (auto& [to, client] : node.clients) {
        EXPECT_TRUE(RunToEnd(StopAndJoin(client.get())));
      }
    }
    for (PeerNode& node : nodes_) {
      EXPECT_TRUE(RunToEnd(StopAndJoin(node.server.get())));
    }
  }

  template <class Stoppable>
  static boost::asio::awaitable<bool> StopAndJoin(Stoppable* what) {
    what->Stop();
    co_return co_await what->Join(seconds(10));
  }

  void StartNode(std::uint32_t position) {
    const char name = static_cast<char>('a' + position);
    transport::PeerContext::Hooks hooks;
    hooks.handler = [this, position](const std::shared_ptr<const transport::PeerFacts>&,
                                     proto::PeerRequest request) {
      return Answer(&nodes_[position].lent, std::move(request));
    };
    PeerNode& node = nodes_[position];
    node.context = std::make_unique<transport::PeerContext>(transport::Uuid(name),
                                                            1,
                                                            transport::TlsOf("ca", name),
                                                            transport::PeerLimits(),
                                                            std::move(hooks));
    node.server = std::make_unique<transport::PeerServer>(io_.get_executor(), node.context.get());
    const Status listening = node.server->Listen(Address(position), 0, false);
    ASSERT_TRUE(listening.has_value()) << listening.error().ToString();
    node.server->Start();
    node.lent.images[position] = group_->images[position];
  }

  static boost::asio::awaitable<Result<proto::PeerReply>> Answer(Lent* lent,
                                                                 proto::PeerRequest request) {
    const proto::ReadRangeRequest& read = request.read_range();
    ByteView bytes;
    if (read.key().has_image()) {
      bytes = lent->images.at(read.key().image().rank());
    } else {
      const proto::StoredParity& parity = read.key().parity();
      const auto whole = lent->parities.find({parity.stripe(), parity.row()});
      bytes =
          whole != lent->parities.end() ? whole->second : lent->feeds.at(parity.stripe())->memory();
    }
    if (read.offset() > bytes.size() || read.length() > bytes.size() - read.offset()) {
      co_return Error(Errc::kNotFound, "no such bytes");
    }
    proto::PeerReply reply;
    reply.mutable_read_range()->set_data(
        std::string(AsText(bytes.subspan(read.offset(), read.length()))));
    transport::AddDigests(reply.mutable_read_range());
    co_return reply;
  }

  transport::PeerClient* Client(std::uint32_t from, std::uint32_t to) {
    auto& client = nodes_[from].clients[to];
    if (client == nullptr) {
      transport::PeerAddress address;
      address.node_uuid = nodes_[to].context->node_uuid();
      address.endpoints = {nodes_[to].server->address()};
      address.bind = Address(from);
      client = std::make_unique<transport::PeerClient>(
          io_.get_executor(), nodes_[from].context.get(), address);
      EXPECT_TRUE(client->Start().has_value());
      EXPECT_TRUE(RunToEnd(client->WaitConnected(seconds(10))).has_value());
    }
    return client.get();
  }

  static proto::StoredKey Key() {
    proto::StoredKey key;
    key.mutable_id()->set_job_uid(std::string(16, 'j'));
    key.mutable_id()->set_incarnation(1);
    key.mutable_id()->set_step(7);
    return key;
  }

  std::shared_ptr<RangeReader> ImageBytes(const TestGroup& group,
                                          std::uint32_t reader,
                                          std::uint32_t holder) override {
    proto::StoredKey key = Key();
    key.mutable_image()->set_rank(holder);
    return std::make_shared<transport::RpcRangeReader>(
        Client(reader, holder), key, group.images[holder].size(), "rank " + std::to_string(holder));
  }

  std::shared_ptr<RangeReader> ParityBytes(std::uint32_t reader,
                                           std::uint32_t holder,
                                           std::uint32_t stripe,
                                           std::uint32_t row,
                                           ByteCount length) {
    proto::StoredKey key = Key();
    key.mutable_parity()->set_stripe(stripe);
    key.mutable_parity()->set_row(row);
    return std::make_shared<transport::RpcRangeReader>(
        Client(reader, holder), key, length, "node " + std::to_string(holder));
  }

  std::shared_ptr<RangeReader> RowBytes(const TestGroup& group,
                                        std::uint32_t reader,
                                        std::uint32_t stripe,
                                        std::uint32_t row) override {
    return ParityBytes(reader,
                       group.group->stripes.RowOwner(stripe, row),
                       stripe,
                       row,
                       group.rows[stripe][row].bytes.size());
  }

  std::shared_ptr<RangeReader> RingBytes(const TestGroup& group,
                                         std::uint32_t stripe,
                                         std::uint32_t row,
                                         const StripeRun& run) override {
    const std::uint32_t maker = group.group->stripes.FirstOwner(stripe);
    nodes_[maker].lent.feeds[stripe] = run.feed;
    const std::uint32_t taker = group.group->stripes.RowOwner(stripe, row);
    return ParityBytes(taker, maker, stripe, row, run.feed->memory().size());
  }

  void ShareRows() override {
    for (std::uint32_t stripe = 0; stripe < 4; ++stripe) {
      for (std::uint32_t row = 0; row < 2; ++row) {
        const std::uint32_t owner = group_->group->stripes.RowOwner(stripe, row);
        nodes_[owner].lent.parities[{stripe, row}] = group_->rows[stripe][row].bytes;
      }
    }
  }

  PeerNode nodes_[4];
};

TEST_F(ProtectOverRpcTest, FourNodesInMutualTlsProtectAndRebuild) {
  ProtectAndRebuild();
}

class ProtectOverFabricTest : public ProtectPlanesTest {
 protected:
  void SetUp() override {
    for (std::uint32_t position = 0; position < 4; ++position) {
      transport::FabricOptions options;
      options.providers = {"tcp;ofi_rxm"};
      options.bind_address = Address(position);
      options.connect_limit = std::chrono::seconds(30);  // other tests have the processors too
      auto opened = transport::FabricEndpoint::OpenBlocking(io_.get_executor(), options);
      ASSERT_TRUE(opened.has_value()) << opened.error().ToString();
      endpoints_.push_back(std::move(opened).value());
    }
  }

  // Lends and reads over two endpoints, as two nodes do it.
  std::shared_ptr<RangeReader> Over(std::uint32_t reader, std::uint32_t holder, ByteView bytes) {
    if (bytes.empty()) {
      return std::make_shared<FaultRangeReader>(bytes);
    }
    lent_.push_back(endpoints_[holder]->LendBlocking(bytes).value());
    return endpoints_[reader]
        ->Reader(lent_.back().region(), "node " + std::to_string(holder))
        .value();
  }

  std::shared_ptr<RangeReader> ImageBytes(const TestGroup& group,
                                          std::uint32_t reader,
                                          std::uint32_t holder) override {
    return Over(reader, holder, group.images[holder]);
  }

  std::shared_ptr<RangeReader> RowBytes(const TestGroup& group,
                                        std::uint32_t reader,
                                        std::uint32_t stripe,
                                        std::uint32_t row) override {
    return Over(reader, group.group->stripes.RowOwner(stripe, row), group.rows[stripe][row].bytes);
  }

  std::shared_ptr<RangeReader> RingBytes(const TestGroup& group,
                                         std::uint32_t stripe,
                                         std::uint32_t row,
                                         const StripeRun& run) override {
    feeds_.push_back(run.feed);
    return Over(group.group->stripes.RowOwner(stripe, row),
                group.group->stripes.FirstOwner(stripe),
                run.feed->memory());
  }

  std::vector<std::shared_ptr<WindowFeed>> feeds_;  // as long as their memory is lent
  std::vector<std::unique_ptr<transport::FabricEndpoint>> endpoints_;
  std::vector<transport::FabricMemory> lent_;
};

TEST_F(ProtectOverFabricTest, FourNodesOverTcpProtectAndRebuild) {
  ProtectAndRebuild();
}

}  // namespace
}  // namespace holdfast::daemon
