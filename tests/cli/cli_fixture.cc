#include "tests/cli/cli_fixture.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "cli/app.h"
#include "cli/interrupt.h"
#include "common/bytes.h"
#include "common/crc32c.h"
#include "layout/image.h"

namespace holdfast::cli {
namespace {

constexpr std::uint64_t kElements = 384ull * 1024;  // 1.5 MiB of F32

layout::TensorSpec Tensor(const std::string& name) {
  layout::TensorSpec spec;
  spec.name = name;
  spec.dtype = proto::F32;
  spec.global_shape = {kElements};
  spec.local_shape = {kElements};
  spec.tensor_class = proto::STABLE;
  return spec;
}

class FixedChannel final : public AdminChannel {
 public:
  FixedChannel(const std::function<Result<AdminReply>(const proto::ClientMessage&)>& answer,
               std::vector<proto::ClientMessage>* requests)
      : answer_(answer), requests_(requests) {}

  Result<AdminReply> Call(proto::ClientMessage request,
                          proto::ServerMessage::BodyCase /*expected*/,
                          std::chrono::milliseconds /*timeout*/) override {
    requests_->push_back(request);
    return answer_(request);
  }

 private:
  const std::function<Result<AdminReply>(const proto::ClientMessage&)>& answer_;
  std::vector<proto::ClientMessage>* requests_;
};

}  // namespace

std::string TestJobUid() {
  return std::string(16, '\x11');
}

TestShard MakeShard(std::uint64_t incarnation,
                    std::int64_t step,
                    std::uint32_t rank,
                    std::uint32_t world_size) {
  layout::TensorSpec tied = Tensor("tied");
  tied.alias_of = "model.w";
  const std::vector<layout::TensorSpec> specs = {Tensor("model.w"), Tensor("optim.m"), tied};
  TestShard shard;
  proto::Sidecar& sidecar = shard.sidecar;
  *sidecar.mutable_layout() = layout::PlanImage(specs).value();
  shard.image = layout::BuildImageHeader(sidecar.layout(), proto::DYNAMIC).value();
  shard.image.resize(sidecar.layout().dynamic_image_bytes());
  for (std::size_t i = sidecar.layout().dynamic_header_bytes(); i < shard.image.size(); ++i) {
    shard.image[i] = static_cast<char>(i * 7 + i / 4096 + static_cast<std::size_t>(step) + rank);
  }
  sidecar.set_format_version(1);
  sidecar.mutable_id()->set_job_uid(TestJobUid());
  sidecar.mutable_id()->set_incarnation(incarnation);
  sidecar.mutable_id()->set_step(step);
  sidecar.set_job_name(kTestJob);
  sidecar.set_rank(rank);
  sidecar.set_world_size(world_size);
  sidecar.set_layout_hash(layout::LayoutHash(sidecar.layout()));
  sidecar.set_node_uuid(std::string(16, '\x22'));
  sidecar.set_sealed_unix_ms(1'700'000'000'000);
  proto::ImageDigest* digest = sidecar.add_images();
  digest->set_kind(proto::DYNAMIC);
  digest->set_length_bytes(shard.image.size());
  digest->set_chunk_bytes(kChunkBytes);
  for (const std::uint32_t crc : ChunkDigests(AsBytes(shard.image))) {
    digest->add_chunk_crc32c(crc);
  }
  proto::StateItem* item = sidecar.add_state();
  item->set_name("scheduler");
  item->set_json(R"({"lr": 0.1000000000000000055, "epoch": 3})");
  item = sidecar.add_state();
  item->set_name("rng");
  item->set_pickle(std::string("\x80\x04N.", 4));
  return shard;
}

CliTest::CliTest() {
  SetInterrupted(false);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets variables
  const char* folder = std::getenv("TEST_TMPDIR");
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  base_ = std::string(folder == nullptr ? "/tmp" : folder) + "/" + info->test_suite_name() + "." +
          info->name();
  std::filesystem::remove_all(base_);
  std::filesystem::create_directories(base_);
}

std::string CliTest::MakeFolder(const std::string& name) {
  std::string path = base_ + "/" + name;
  std::filesystem::create_directories(path);
  // What a catalog asks of its folder.
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

void CliTest::WriteSnapshot(const std::string& root, std::uint64_t incarnation, std::int64_t step) {
  constexpr std::uint32_t kWorld = 2;
  storage_tiers::PersistentTier tier(posix_, root, storage_tiers::TierScope::kShared);
  ASSERT_TRUE(tier.EnsureJob(kTestJob, TestJobUid()));
  if (tier.HighestIncarnation(kTestJob).value() < incarnation) {
    proto::IncarnationFile record;
    record.set_format_version(1);
    record.set_job_uid(TestJobUid());
    record.set_number(incarnation);
    record.set_token(99);
    record.set_world_size(kWorld);
    record.mutable_decision()->set_decided(true);
    record.mutable_decision()->set_committed(true);
    ASSERT_TRUE(tier.ClaimIncarnation(kTestJob, record));
  }
  proto::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_job_name(kTestJob);
  manifest.set_world_size(kWorld);
  for (std::uint32_t rank = 0; rank < kWorld; ++rank) {
    const TestShard shard = MakeShard(incarnation, step, rank, kWorld);
    *manifest.mutable_id() = shard.sidecar.id();
    const std::vector<storage_tiers::ShardImage> images = {{proto::DYNAMIC, AsBytes(shard.image)}};
    const auto files = tier.FlushShard(shard.sidecar, images, {});
    ASSERT_TRUE(files) << files.error().ToString();
    for (const proto::ManifestFile& file : files.value()) {
      *manifest.add_files() = file;
    }
  }
  const std::uint64_t highest = tier.HighestIncarnation(kTestJob).value();
  const Status published = tier.PublishManifest(manifest, highest);
  ASSERT_TRUE(published) << published.error().ToString();
}

RunResult CliTest::Run(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"holdfast"};
  for (const std::string& argument : arguments) {
    argv.push_back(argument.c_str());
  }
  std::ostringstream out;
  std::ostringstream err;
  std::istringstream in(input_);
  const ConnectFunction connect =
      [this](const std::vector<std::string>& sockets) -> Result<std::unique_ptr<AdminChannel>> {
    if (connect_error_) {
      return *connect_error_;
    }
    if (!daemon_) {
      return ConnectToDaemon(sockets);
    }
    return std::unique_ptr<AdminChannel>(std::make_unique<FixedChannel>(daemon_, &requests_));
  };
  Context context{
      .console = {.out = out,
                  .err = err,
                  .in = in,
                  .in_is_terminal = in_is_terminal_,
                  .err_is_terminal = err_is_terminal_},
      .environment = {.holdfast_socket = holdfast_socket_, .xdg_state_home = base_, .home = ""},
      .socket = {},
      .fs = *fs_,
      .connect = connect};
  const ExitCode exit = RunApp(static_cast<int>(argv.size()), argv.data(), std::move(context));
  return {static_cast<int>(exit), out.str(), err.str()};
}

void WriteFile(const std::string& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

void FlipByte(const std::string& path, std::uint64_t offset) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(offset));
  const char old = static_cast<char>(file.get());
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(static_cast<char>(old ^ 1));
}

std::vector<std::string> Names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace holdfast::cli
