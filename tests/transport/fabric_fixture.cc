#include "tests/transport/fabric_fixture.h"

#include <csignal>
#include <filesystem>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/check.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX has no header for it

namespace holdfast::transport {

namespace asio = boost::asio;

namespace {

// What shm leaves behind when its process is killed: 16 MiB each, by the name in the greeting.
void RemoveShared(const std::string& greeting) {
  const std::size_t begin = greeting.find("holdfast-");
  const std::string name = begin == std::string::npos
                               ? std::string()
                               : greeting.substr(begin, greeting.find(':', begin) - begin);
  std::error_code ignored;
  for (const auto& file : std::filesystem::directory_iterator("/dev/shm", ignored)) {
    if (!name.empty() && file.path().filename().string().starts_with(name + ":")) {
      std::filesystem::remove(file.path(), ignored);
    }
  }
}

}  // namespace

Lender::Lender(const std::string& provider, const std::string& address, ByteCount bytes) {
  int in[2];
  int out[2];
  HOLDFAST_CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  std::string program = "tests/transport/fabric_lender";
  std::string name = provider;
  std::string where = address;
  std::string size = std::to_string(bytes);
  char* arguments[] = {program.data(), name.data(), where.data(), size.data(), nullptr};
  HOLDFAST_CHECK(posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  to_ = in[1];
  from_ = out[0];
  greeting_ = Hear();
}

Lender::~Lender() {
  close(to_);
  close(from_);
  KillAndWait();
}

void Lender::KillAndWait() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  RemoveShared(greeting_);
}

int Lender::Quit() {
  Say("quit\n");
  int status = -1;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return status;
}

void Lender::Signal(int number) const {
  HOLDFAST_CHECK(kill(pid_, number) == 0);
}

void Lender::Say(const std::string& line) const {
  HOLDFAST_CHECK(write(to_, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
}

std::string Lender::Hear() {
  std::string line;
  for (char c = 0; read(from_, &c, 1) == 1 && c != '\n';) {
    line += c;
  }
  return line;
}

FabricRegion Lender::Lend() {
  Say("lend\n");
  const std::string line = Hear();
  proto::FabricRegion message;
  const auto bytes = FromHex(line);
  EXPECT_TRUE(bytes.has_value() && message.ParseFromString(bytes.value())) << line;
  return FromProto(message).value();
}

void Lender::Drop() {
  Say("drop\n");
  EXPECT_EQ(Hear(), "ok");
}

FabricTest::~FabricTest() {
  tasks_.Stop();
  EXPECT_TRUE(RunUntil([this] { return tasks_.size() == 0; }));
}

FabricOptions FabricTest::OptionsOf(const std::string& provider) const {
  FabricOptions options;
  options.providers = {provider};
  options.bind_address = "127.0.1.1";
  return options;
}

void FabricTest::Open(FabricOptions options) {
  auto opened = FabricEndpoint::OpenBlocking(io_.get_executor(), std::move(options));
  ASSERT_TRUE(opened.has_value()) << opened.error().ToString();
  endpoint_ = std::move(opened).value();
}

std::unique_ptr<RangeReader> FabricTest::ReaderOf(const FabricRegion& region) {
  auto reader = endpoint_->Reader(region, "node 0123");
  EXPECT_TRUE(reader.has_value()) << reader.error().ToString();
  return std::move(reader).value();
}

namespace {

asio::awaitable<void> Store(asio::awaitable<Status> work, std::optional<Status>* out) {
  co_await asio::this_coro::throw_if_cancelled(false);
  out->emplace(co_await std::move(work));
}

}  // namespace

void FabricTest::StartRead(RangeReader* reader,
                           ByteCount offset,
                           MutableByteView into,
                           std::chrono::milliseconds limit,
                           std::optional<Status>* out) {
  ReadOptions options;
  options.deadline = std::chrono::steady_clock::now() + limit;
  ASSERT_TRUE(tasks_.Spawn(Store(reader->Read(offset, into, options), out)));
}

Status FabricTest::ReadAll(RangeReader* reader,
                           ByteCount offset,
                           MutableByteView into,
                           std::chrono::milliseconds limit) {
  std::optional<Status> out;
  StartRead(reader, offset, into, limit, &out);
  EXPECT_TRUE(RunUntil([&out] { return out.has_value(); }));
  return std::move(*out);
}

bool FabricTest::RunUntil(const std::function<bool()>& done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    io_.restart();
    io_.run_one_for(std::chrono::milliseconds(20));
  }
  return true;
}

}  // namespace holdfast::transport
