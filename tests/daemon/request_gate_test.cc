// What a request must pass before the core hears of it.

#include "daemon/request_gate.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>
#include <unistd.h>

#include "layout/image.h"
#include "storage_tiers/posix_file_system.h"
#include "tests/common/run_coroutine.h"
#include "tests/support/temp_folder.h"

namespace holdfast::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kOwnUid = 1000;
constexpr std::uint32_t kOtherUid = 2000;

class RequestGateTest : public ::testing::Test {
 protected:
  RequestGateTest() {
    fs::create_directories(folder_ + "/allowed/team");
    fs::create_directories(folder_ + "/private");
    RequestRules rules;
    rules.own_uid = kOwnUid;
    rules.client_roots = {folder_ + "/allowed"};
    gate_ = std::make_unique<RequestGate>(rules, &layouts_, &tiers_, &cpu_);
  }

  static TierSet::MakeFileSystem Maker() {
    return [] { return std::make_unique<storage_tiers::PosixFileSystem>(); };
  }

  static proto::ClientMessage Open(const std::string& root) {
    proto::ClientMessage message;
    proto::TierPolicy* tier = message.mutable_open_incarnation()->add_tiers();
    tier->set_root(root);
    tier->set_scope(proto::SHARED);
    return message;
  }

  static proto::ClientMessage Register() {
    std::vector<layout::TensorSpec> specs(1);
    specs[0].name = "weights";
    specs[0].dtype = proto::F32;
    specs[0].global_shape = {100};
    specs[0].local_shape = {100};
    specs[0].tensor_class = proto::STABLE;
    proto::ClientMessage message;
    *message.mutable_register_()->mutable_layout() = layout::PlanImage(specs).value();
    message.mutable_register_()->set_layout_hash(layout::LayoutHash(message.register_().layout()));
    return message;
  }

  Result<std::optional<LayoutFacts>> Admit(std::uint32_t uid, proto::ClientMessage* message) {
    return tests::RunCoroutine(io_, gate_->Admit(1, uid, message));
  }

  TempFolder temp_{TempFolder::Where::kTestTmpdir};
  const std::string folder_ = temp_.path();
  boost::asio::io_context io_{1};
  WorkerPool cpu_{"cpu", 1};
  LayoutStore layouts_;
  TierSet tiers_{io_.get_executor(), TierOptions(), 4, Maker()};
  std::unique_ptr<RequestGate> gate_;
};

TEST_F(RequestGateTest, ALayoutIsTakenOutStagedAndReducedToItsFacts) {
  proto::ClientMessage message = Register();
  const std::string hash = message.register_().layout_hash();
  const std::uint64_t bytes = message.register_().layout().dynamic_image_bytes();
  const auto facts = Admit(kOtherUid, &message);
  ASSERT_TRUE(facts.has_value()) << facts.error().ToString();
  EXPECT_EQ(facts.value()->hash, hash);
  EXPECT_EQ(facts.value()->image_bytes, bytes);
  EXPECT_FALSE(message.register_().has_layout());
  EXPECT_NE(layouts_.Find(hash), nullptr);
}

TEST_F(RequestGateTest, ALayoutThatDoesNotHoldOrHasAnotherHashIsNotStaged) {
  proto::ClientMessage other_hash = Register();
  other_hash.mutable_register_()->set_layout_hash(std::string(16, 'x'));
  EXPECT_EQ(Admit(kOwnUid, &other_hash).error().code, Errc::kInvalidArgument);
  proto::ClientMessage broken = Register();
  broken.mutable_register_()->mutable_layout()->mutable_tensors(0)->set_offset_bytes(3);
  EXPECT_EQ(Admit(kOwnUid, &broken).error().code, Errc::kInvalidArgument);
  proto::ClientMessage none = Register();
  none.mutable_register_()->clear_layout();
  EXPECT_FALSE(Admit(kOwnUid, &none).has_value());
  EXPECT_EQ(layouts_.size(), 0U);
}

TEST_F(RequestGateTest, ARootGetsItsOneSpelling) {
  proto::ClientMessage message = Open(folder_ + "//private/");
  ASSERT_TRUE(Admit(kOwnUid, &message).has_value());
  EXPECT_EQ(message.open_incarnation().tiers(0).root(), folder_ + "/private");
  // The nodes of the other ranks hear of it here.
  proto::ClientMessage member = Register();
  member.mutable_register_()->add_tiers()->set_root(folder_ + "//private/");
  member.mutable_register_()->mutable_tiers(0)->set_scope(proto::SHARED);
  ASSERT_TRUE(Admit(kOwnUid, &member).has_value());
  EXPECT_EQ(member.register_().tiers(0).root(), folder_ + "/private");
  member.mutable_register_()->mutable_tiers(0)->set_root("relative");
  EXPECT_EQ(Admit(kOwnUid, &member).error().code, Errc::kInvalidArgument);
  for (const char* const bad : {"relative", "", "/a/../b", "/a/./b"}) {
    proto::ClientMessage wrong = Open(bad);
    EXPECT_EQ(Admit(kOwnUid, &wrong).error().code, Errc::kInvalidArgument) << bad;
  }
}

// Design section 11: the daemon writes with its own rights, so others may only name what the
// operator allowed.
TEST_F(RequestGateTest, AnotherUserMayNameOnlyAllowedRoots) {
  proto::ClientMessage inside = Open(folder_ + "/allowed/team");
  EXPECT_TRUE(Admit(kOtherUid, &inside).has_value());
  proto::ClientMessage outside = Open(folder_ + "/private");
  EXPECT_EQ(Admit(kOtherUid, &outside).error().code, Errc::kPermission);
  proto::ClientMessage beside = Open(folder_ + "/allowed-not");
  EXPECT_EQ(Admit(kOtherUid, &beside).error().code, Errc::kPermission);
}

TEST_F(RequestGateTest, ALinkThatLeadsOutOfTheAllowedRootsIsRefused) {
  fs::create_directory_symlink(folder_ + "/private", folder_ + "/allowed/link");
  proto::ClientMessage message = Open(folder_ + "/allowed/link");
  EXPECT_EQ(Admit(kOtherUid, &message).error().code, Errc::kPermission);
}

TEST_F(RequestGateTest, ARemovalNamesARootByTheSameRules) {
  proto::ClientMessage message;
  message.mutable_remove()->set_root(folder_ + "/private");
  EXPECT_EQ(Admit(kOtherUid, &message).error().code, Errc::kPermission);
  EXPECT_TRUE(Admit(kOwnUid, &message).has_value());
  message.mutable_remove()->clear_root();
  EXPECT_TRUE(Admit(kOtherUid, &message).has_value()) << "from memory: no root is named";
}

}  // namespace
}  // namespace holdfast::daemon
