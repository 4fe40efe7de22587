#include "client/restore.h"

#include <cstring>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "tests/client/trainer.h"

namespace holdfast::client {
namespace {

using Body = proto::ClientMessage::BodyCase;
using Verdict = FakeDaemon::Verdict;

class RestoreTest : public TrainerTest {
 protected:
  void SetUp() override {
    image_ = state_.ReferenceImage();
    Serve(image_, image_);
  }

  // The daemon offers "bytes" with the digests of "digested".
  void Serve(const std::string& bytes, const std::string& digested) {
    fd_ = transport::OwnedFd(::memfd_create("image", MFD_CLOEXEC));
    ASSERT_EQ(::write(fd_.Get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    answer_ = RestoreAnswer(state_, digested);
    answer_.mutable_restore()->add_passed_over("step 12: torn (tensor \"w\")");
    daemon_.SetHook([this](const proto::ClientMessage& message) {
      if (!message.has_restore()) {
        return Verdict::kDefault;
      }
      daemon_.Answer(message, answer_, answer_.restore().has_fd() ? fd_.Get() : -1);
      return Verdict::kHandled;
    });
  }

  Status LoadAll(Restore* restore, std::uint32_t threads) {
    loaded_.clear();
    std::vector<LoadTarget> targets;
    const auto& layout = restore->Choice().sidecar().layout();
    for (int i = 0; i < layout.tensors_size(); ++i) {
      auto& memory = loaded_.emplace_back(layout.tensors(i).length_bytes());
      targets.push_back(LoadTarget{static_cast<std::uint32_t>(i), memory.data(), memory.size()});
    }
    return restore->Load(targets, threads);
  }

  void ExpectLoaded() {
    const auto& layout = state_.layout;
    for (int i = 0; i < layout.tensors_size(); ++i) {
      const auto& entry = layout.tensors(i);
      EXPECT_EQ(std::memcmp(loaded_[static_cast<std::size_t>(i)].data(),
                            image_.data() + entry.offset_bytes(),
                            entry.length_bytes()),
                0);
    }
  }

  std::string image_;
  transport::OwnedFd fd_;
  proto::ServerMessage answer_;
  std::vector<std::vector<std::byte>> loaded_;
};

TEST_F(RestoreTest, TensorsComeBackBitForBitAndTheRestoreCommits) {
  Begin();
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  EXPECT_EQ(restore->Choice().id().step(), 11);
  ASSERT_FALSE(LoadAll(restore.get(), 2).has_error());
  ExpectLoaded();
  EXPECT_TRUE(restore->Finish("", In(kLong)).value());
  EXPECT_TRUE(daemon_.Received(Body::kLoaded)[0].loaded().ok());
}

TEST_F(RestoreTest, RestoreBeforeALayoutRegistersTheRankFirst) {
  Connect(Options());
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong));
  ASSERT_TRUE(restore.has_value()) << restore.error().ToString();
  EXPECT_EQ(daemon_.Received(Body::kRegister)[0].register_().layout().tensors_size(), 0);
  ASSERT_FALSE(session_->SetLayout(state_.specs).has_error());
  ASSERT_FALSE(session_->WaitReady(In(kLong)).has_error());
}

TEST_F(RestoreTest, WishIsSentAsItIs) {
  Begin();
  RestoreWish wish;
  wish.named_step = 100;
  wish.include_discarded = true;
  wish.after_attempt = 3;
  const auto restore = Restore::Begin(session_.get(), wish, In(kLong)).value();
  const auto request = daemon_.Received(Body::kRestore)[0].restore();
  EXPECT_TRUE(request.has_named_step());
  EXPECT_EQ(request.named_step(), 100);
  EXPECT_TRUE(request.include_discarded());
  EXPECT_EQ(request.after_attempt(), 3U);
}

TEST_F(RestoreTest, SidecarIsJsonWithOriginalFieldNames) {
  Begin();
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  const std::string json = *restore->SidecarJson().value();
  EXPECT_NE(json.find("\"layout_hash\""), std::string::npos);
  EXPECT_NE(json.find("\"local_shape\""), std::string::npos);
}

// I5
TEST_F(RestoreTest, FlippedByteIsFoundAndTheSourceIsReportedBad) {
  std::string damaged = image_;
  damaged[kChunkBytes + 17] ^= 4;
  Serve(damaged, image_);
  Begin();
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  EXPECT_EQ(LoadAll(restore.get(), 2).error().code, Errc::kCorruption);
  // Even if the caller says that all is well.
  EXPECT_FALSE(restore->Finish("", In(kLong)).value());
  const auto loaded = daemon_.Received(Body::kLoaded)[0].loaded();
  EXPECT_FALSE(loaded.ok());
  EXPECT_TRUE(loaded.source_is_bad());
  ASSERT_EQ(loaded.bad_chunks_size(), 1);
  EXPECT_EQ(loaded.bad_chunks(0), 1U);
}

TEST_F(RestoreTest, SidecarThatIsNotSoundMakesTheSourceBad) {
  Begin();
  answer_.mutable_restore()
      ->mutable_sidecar()
      ->mutable_layout()
      ->mutable_tensors(0)
      ->set_offset_bytes(1);
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  EXPECT_EQ(restore->SidecarJson().error().code, Errc::kCorruption);
  EXPECT_EQ(restore->Load({}, 1).error().code, Errc::kCorruption);
  EXPECT_FALSE(restore->Finish("cannot be used", In(kLong)).value());
  EXPECT_TRUE(daemon_.Received(Body::kLoaded)[0].loaded().source_is_bad());
}

// I11: the attempt ends as bad, and the next one comes.
TEST_F(RestoreTest, CutImageMakesTheSourceBadWhateverTheCallerSays) {
  Serve(image_.substr(0, image_.size() - 1), image_);
  Begin();
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  EXPECT_EQ(restore->Choice().attempt(), 1U);
  EXPECT_EQ(LoadAll(restore.get(), 1).error().code, Errc::kCorruption);
  EXPECT_FALSE(restore->Finish("", In(kLong)).value());
  const auto loaded = daemon_.Received(Body::kLoaded)[0].loaded();
  EXPECT_FALSE(loaded.ok());
  EXPECT_TRUE(loaded.source_is_bad());
  EXPECT_FALSE(loaded.failure().empty());
}

TEST_F(RestoreTest, RefusalTravelsToTheOtherRanksAndItsAnswerIsNoError) {
  Begin();
  daemon_.SetHook([this](const proto::ClientMessage& message) {
    if (message.has_restore()) {
      daemon_.Answer(message, answer_, fd_.Get());
      return Verdict::kHandled;
    }
    if (message.has_loaded()) {
      daemon_.AnswerError(message, Errc::kInvalidArgument, "rank 0: does not fit");
      return Verdict::kHandled;
    }
    return Verdict::kDefault;
  });
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  ASSERT_FALSE(restore->Refuse("does not fit", In(kLong)).has_error());
  const auto loaded = daemon_.Received(Body::kLoaded)[0].loaded();
  EXPECT_TRUE(loaded.fatal());
  EXPECT_FALSE(loaded.ok());
  EXPECT_FALSE(loaded.source_is_bad());
  EXPECT_EQ(loaded.failure(), "does not fit");
  const auto other = Restore::Begin(session_.get(), {}, In(kLong)).value();
  EXPECT_EQ(other->Finish("", In(kLong)).error().message, "rank 0: does not fit");
}

TEST_F(RestoreTest, NothingToRestoreIsNoError) {
  Begin();
  answer_.mutable_restore()->set_has_choice(false);
  answer_.mutable_restore()->set_has_fd(false);
  answer_.mutable_restore()->clear_sidecar();
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  EXPECT_FALSE(restore->Choice().has_choice());
  EXPECT_TRUE(restore->Load({}, 1).has_error());
  EXPECT_TRUE(restore->Finish("", In(kLong)).value());
}

TEST_F(RestoreTest, AttemptThatIsDroppedCountsAsFailed) {
  Begin();
  { const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value(); }
  ASSERT_TRUE(daemon_.WaitReceived(Body::kLoaded, 1));
  EXPECT_FALSE(daemon_.Received(Body::kLoaded)[0].loaded().ok());
}

TEST_F(RestoreTest, DaemonThatRestartsBetweenChoiceAndLoadedIsToldAgain) {
  Begin();
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  daemon_.Die();
  ASSERT_FALSE(LoadAll(restore.get(), 2).has_error()) << "the descriptor needs no daemon";
  ExpectLoaded();
  daemon_.Revive();
  EXPECT_TRUE(restore->Finish("", In(kLong)).value());
}

TEST_F(RestoreTest, LoadedThatWasCutOffIsSentAgain) {
  Begin();
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  daemon_.SetHook([&](const proto::ClientMessage& message) {
    return message.has_loaded() && ++seen_ == 1 ? Verdict::kCut : Verdict::kDefault;
  });
  EXPECT_TRUE(restore->Finish("", In(kLong)).value());
  EXPECT_EQ(seen_.load(), 2);
}

TEST_F(RestoreTest, ChoiceThatDoesNotComeIsATimeout) {
  Begin();
  daemon_.SetHook([](const proto::ClientMessage&) { return Verdict::kHandled; });
  EXPECT_EQ(Restore::Begin(session_.get(), {}, In(30)).error().code, Errc::kTimeout);
}

TEST_F(RestoreTest, TargetThatIsNotTheTensorsSizeIsRefusedByName) {
  Begin();
  const auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  std::byte byte{};
  const LoadTarget wrong{0, &byte, 1};
  const Status status = restore->Load({&wrong, 1}, 1);
  ASSERT_TRUE(status.has_error());
  EXPECT_NE(status.error().message.find("\"weight\""), std::string::npos);
  const LoadTarget outside{99, &byte, 1};
  EXPECT_EQ(restore->Load({&outside, 1}, 1).error().code, Errc::kInvalidArgument);
}

// A shard with frozen tensors: its second image comes with an event of its own.
class RestoreStaticTest : public RestoreTest {
 protected:
  void SetUp() override {
    state_ = MakePlainState({{"adapter", 300}, {"base", 600'000}});
    state_.specs[1].tensor_class = proto::CONSTANT;
    state_.specs[1].image = proto::STATIC;
    state_.layout = layout::PlanImage(state_.specs).value();
    state_.hash = layout::LayoutHash(state_.layout);
    const auto plan = CopyPlan::Make(state_.layout, state_.specs, 0).value();
    image_ = Filled(*plan, proto::DYNAMIC);
    static_image_ = Filled(*plan->Frozen(), proto::STATIC);
    Serve(image_, image_);
    AddStatic(static_image_);
  }

  std::string Filled(const CopyPlan& plan, proto::ImageKind kind) {
    const auto slot = MakeSlot(state_.layout, kind);
    for (const PlannedTensor& tensor : plan.Tensors()) {
      std::memcpy(slot->Data() + tensor.offset, state_.pointers[tensor.spec], tensor.length);
    }
    return BytesOf(*slot);
  }

  void AddStatic(const std::string& bytes) {
    auto* image = answer_.mutable_restore()->mutable_sidecar()->add_images();
    image->set_kind(proto::STATIC);
    image->set_length_bytes(static_image_.size());
    image->set_chunk_bytes(static_cast<std::uint32_t>(kChunkBytes));
    for (const std::uint32_t crc : ChunkDigests(AsBytes(static_image_))) {
      image->add_chunk_crc32c(crc);
    }
    static_fd_ = transport::OwnedFd(::memfd_create("static", MFD_CLOEXEC));
    ASSERT_EQ(::write(static_fd_.Get(), bytes.data(), bytes.size()),
              static_cast<ssize_t>(bytes.size()));
    daemon_.SetHook([this](const proto::ClientMessage& message) {
      if (!message.has_restore()) {
        return Verdict::kDefault;
      }
      if (static_fd_.Valid()) {
        proto::ServerMessage event;
        event.mutable_restore_image()->set_attempt(static_attempt_);
        event.mutable_restore_image()->set_has_fd(true);
        daemon_.Send(event, static_fd_.Get());
      }
      daemon_.Answer(message, answer_, fd_.Get());
      return Verdict::kHandled;
    });
  }

  std::string static_image_;
  transport::OwnedFd static_fd_;
  std::uint32_t static_attempt_ = 1;
};

TEST_F(RestoreStaticTest, TensorsComeFromTheImageThatHasThem) {
  Connect(Options());
  auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  ASSERT_FALSE(LoadAll(restore.get(), 2).has_error());
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(std::memcmp(loaded_[i].data(), state_.pointers[i], loaded_[i].size()), 0) << i;
  }
}

// I5: and Finish says whose bytes they were.
TEST_F(RestoreStaticTest, AFlippedBitOfTheSharedImageIsFoundAndNamed) {
  std::string bad = static_image_;
  bad[bad.size() - 1] ^= 1;
  ASSERT_EQ(::pwrite(static_fd_.Get(), bad.data(), bad.size(), 0),
            static_cast<ssize_t>(bad.size()));
  Connect(Options());
  auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  EXPECT_EQ(LoadAll(restore.get(), 2).error().code, Errc::kCorruption);
  (void)restore->Finish("bad", In(100));
  ASSERT_TRUE(daemon_.WaitReceived(Body::kLoaded, 1));
  const auto loaded = daemon_.Received(Body::kLoaded)[0].loaded();
  EXPECT_TRUE(loaded.source_is_bad());
  EXPECT_EQ(loaded.bad_image(), proto::STATIC);
}

TEST_F(RestoreStaticTest, ASharedImageThatDoesNotComeIsABadSource) {
  static_attempt_ = 7;  // of another attempt
  Connect(Options());
  auto restore = Restore::Begin(session_.get(), {}, In(kLong)).value();
  EXPECT_EQ(LoadAll(restore.get(), 2).error().code, Errc::kCorruption);
}

}  // namespace
}  // namespace holdfast::client
