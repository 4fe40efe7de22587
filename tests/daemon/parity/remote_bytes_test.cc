// Sidecars from other nodes, whose layouts are fetched once.

#include "daemon/parity/remote_bytes.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "layout/image.h"
#include "tests/common/run_coroutine.h"
#include "tests/daemon/pipeline/pipeline_node.h"
#include "tests/layout/samples.h"

namespace holdfast::daemon {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Another node, with the sidecar of a shard.
class RemoteBytesTest : public PipelineNodeTest {
 protected:
  RemoteBytesTest() : PipelineNodeTest(TierOptions()) {
    remote_ = std::make_unique<RemoteBytes>(
        *context_,
        &pool_,
        nullptr,
        std::string(16, 'r'),
        [this](std::string, proto::PeerRequest request, milliseconds) {
          return Answer(std::move(request));
        },
        &plane_);
  }

  asio::awaitable<Result<proto::PeerReply>> Answer(proto::PeerRequest request) {
    asked_.push_back(request.fetch_sidecar().without_layout() ? "sidecar" : "layout");
    proto::Sidecar sent = its_;
    if (request.fetch_sidecar().without_layout() && !always_whole_) {
      sent.clear_layout();
    }
    if (damage_ != nullptr) {
      damage_(&sent);
    }
    proto::PeerReply reply;
    reply.mutable_fetch_sidecar()->set_sidecar(raw_.value_or(sent.SerializeAsString()));
    reply.mutable_fetch_sidecar()->set_sidecar_crc32c(
        Crc32c(0, AsBytes(reply.fetch_sidecar().sidecar())));
    co_return reply;
  }

  Result<proto::Sidecar> Sidecar() {
    return tests::RunCoroutine(
        io_,
        remote_->Sidecar(
            kNode, its_.id().job_uid(), KeyOf(its_.id()), static_cast<Rank>(its_.rank())));
  }

  Result<SharedLayout> LayoutOf(const proto::Sidecar& sidecar) {
    return tests::RunCoroutine(io_, remote_->LayoutOf(kNode, sidecar));
  }

  const std::string kNode = std::string(16, 'n');
  proto::Sidecar its_ = layout::SampleSidecar();
  bool always_whole_ = false;  // as software that does not know the question
  void (*damage_)(proto::Sidecar*) = nullptr;
  std::optional<std::string> raw_;
  std::vector<std::string> asked_;
  DataPlane plane_{io_.get_executor()};
  std::unique_ptr<RemoteBytes> remote_;
};

TEST_F(RemoteBytesTest, ALayoutIsFetchedWhereItIsNotKnownAndOnlyThere) {
  for (int snapshot = 0; snapshot < 3; ++snapshot) {
    const auto sidecar = Sidecar();
    ASSERT_TRUE(sidecar.has_value()) << sidecar.error().ToString();
    EXPECT_FALSE(sidecar.value().has_layout());
    const auto layout = LayoutOf(sidecar.value());
    ASSERT_TRUE(layout.has_value()) << layout.error().ToString();
    EXPECT_EQ(layout::LayoutHash(*layout.value()), its_.layout_hash());
    layouts_.StageForeign(its_.layout_hash(), layout.value());
    its_.mutable_id()->set_step(its_.id().step() + 1);
  }
  EXPECT_THAT(asked_, ElementsAre("sidecar", "layout", "sidecar", "sidecar"));
}

TEST_F(RemoteBytesTest, ASidecarThatComesWithItsLayoutAllTheSameIsAsGood) {
  always_whole_ = true;
  const auto sidecar = Sidecar();
  ASSERT_TRUE(sidecar.has_value());
  EXPECT_FALSE(sidecar.value().has_layout());
  EXPECT_TRUE(LayoutOf(sidecar.value()).has_value());
}

// I5: what is known by its hash must still be the layout of images of these lengths.
TEST_F(RemoteBytesTest, AKnownLayoutOfOtherLengthsIsRefused) {
  layouts_.StageForeign(its_.layout_hash(), std::make_shared<const proto::Layout>(its_.layout()));
  proto::Sidecar longer = its_;
  longer.mutable_images(0)->set_length_bytes(longer.images(0).length_bytes() + 1);
  const auto layout = LayoutOf(longer);
  ASSERT_FALSE(layout.has_value());
  EXPECT_THAT(layout.error().message, HasSubstr("its layout's have"));
}

TEST_F(RemoteBytesTest, ALayoutThatIsNotTheNamedOneIsRefused) {
  const proto::Sidecar named = Sidecar().value();
  damage_ = [](proto::Sidecar* sent) {
    sent->mutable_layout()->mutable_tensors(0)->set_name("another");
  };
  EXPECT_THAT(LayoutOf(named).error().message, HasSubstr("names another layout"));
  // Of a layout that changed between the two questions.
  damage_ = [](proto::Sidecar* sent) {
    sent->mutable_layout()->mutable_tensors(0)->set_name("another");
    sent->set_layout_hash(layout::LayoutHash(sent->layout()));
  };
  EXPECT_EQ(LayoutOf(named).error().code, Errc::kCorruption);
  damage_ = [](proto::Sidecar* sent) { sent->clear_layout(); };
  EXPECT_EQ(LayoutOf(named).error().code, Errc::kCorruption);
}

TEST_F(RemoteBytesTest, TheSidecarOfAnotherShardIsRefused) {
  damage_ = [](proto::Sidecar* sent) { sent->set_rank(0); };
  EXPECT_THAT(Sidecar().error().message, HasSubstr("is another's"));
  damage_ = [](proto::Sidecar* sent) { sent->mutable_id()->set_step(sent->id().step() + 1); };
  EXPECT_THAT(Sidecar().error().message, HasSubstr("is another's"));
}

// Two bytes on the wire would be dozens here.
TEST_F(RemoteBytesTest, ASidecarOfMillionsOfEmptyPiecesIsNotParsed) {
  raw_.emplace();
  for (int piece = 0; piece < 3'100'000; ++piece) {
    raw_->push_back(static_cast<char>(proto::Sidecar::kStateFieldNumber << 3 | 2));
    raw_->push_back(0);
  }
  EXPECT_EQ(Sidecar().error().code, Errc::kCorruption);
  EXPECT_EQ(LayoutOf(its_).error().code, Errc::kCorruption);
}

}  // namespace
}  // namespace holdfast::daemon
