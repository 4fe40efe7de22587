// Reads of another process's memory over a fabric: ours, and libfabric alone as its ceiling.
//
//   fabric_bench <provider> <reader's address> <lender's address> <bytes> <block> <depth>
//   read    RangeReader::Read of all bytes
//   bare    fi_read with the same blocks and depth, both sides asleep while nothing is there
//   spin    the same without a pause
//   paced <bytes a second>   as "read", under a bandwidth budget
// Each answers: seconds, bytes.  The lenders are two processes that lend the same mapping; the one
// that is not asked is stopped, since the bare one never rests.
#include <array>
#include <csignal>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bare_fabric.h"
#include "bench/commands.h"
#include "bench/pages.h"
#include "common/task_group.h"
#include "transport/fabric_endpoint.h"

namespace holdfast::bench {
namespace {

namespace asio = boost::asio;

struct Given {
  std::string provider;
  std::string reader;
  std::string lender;
  ByteCount bytes = 0;
  std::uint64_t block = 0;
  std::uint64_t depth = 0;
};

transport::FabricOptions OptionsOf(const Given& given, const std::string& address) {
  transport::FabricOptions options;
  options.providers = {given.provider};
  options.bind_address = address;
  options.block_bytes = given.block;
  options.reads_per_peer = given.depth;
  return options;
}

// A child that runs "lend", which writes its region to the descriptor and then serves for ever.
class LenderProcess {
 public:
  template <class Lend>
  explicit LenderProcess(Lend lend) {
    int ends[2] = {-1, -1};
    if (pipe(ends) != 0) {
      return;
    }
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      lend(ends[1]);
      _exit(1);
    }
    close(ends[1]);
    char part[1024];
    for (ssize_t n = 0;
         text_.find('\n') == std::string::npos && (n = read(ends[0], part, sizeof part)) > 0;) {
      text_.append(part, static_cast<std::size_t>(n));
    }
    close(ends[0]);
    Rest();
  }

  ~LenderProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  LenderProcess(const LenderProcess&) = delete;
  LenderProcess& operator=(const LenderProcess&) = delete;

  void Work() const { kill(pid_, SIGCONT); }

  void Rest() const { kill(pid_, SIGSTOP); }

  // What it wrote, without the end of line.
  [[nodiscard]] std::string text() const { return text_.substr(0, text_.find('\n')); }

 private:
  pid_t pid_ = -1;
  std::string text_;
};

void Write(int descriptor, const std::string& text) {
  (void)!write(descriptor, text.data(), text.size());
}

void LendOurs(const Given& given, MutableByteView memory, int descriptor) {
  asio::io_context io{1};
  auto endpoint =
      transport::FabricEndpoint::OpenBlocking(io.get_executor(), OptionsOf(given, given.lender));
  if (!endpoint.has_value()) {
    return Write(descriptor, endpoint.error().ToString() + "\n");
  }
  const auto lent = endpoint.value()->LendBlocking(memory);
  if (!lent.has_value()) {
    return Write(descriptor, lent.error().ToString() + "\n");
  }
  const std::string bytes = transport::ToProto(lent.value().region()).SerializeAsString();
  Write(descriptor, ToHex(AsBytes(bytes)) + "\n");
  for (;;) {
    pause();
  }
}

void LendBare(const Given& given, MutableByteView memory, bool sleeps, int descriptor) {
  auto bare = BareFabric::Open(given.provider, given.lender, sleeps);
  if (!bare.has_value()) {
    return Write(descriptor, bare.error().ToString() + "\n");
  }
  const auto region = bare.value()->Lend(memory);
  if (!region.has_value()) {
    return Write(descriptor, region.error().ToString() + "\n");
  }
  Write(descriptor,
        ToHex(AsBytes(region.value().address)) + " " + std::to_string(region.value().key) + " " +
            std::to_string(region.value().base) + "\n");
  bare.value()->Serve();
}

class FabricBench {
 public:
  explicit FabricBench(Given given) : given_(std::move(given)) {}

  Status Prepare() {
    HF_TRY(source_, Pages::Shared(given_.bytes));
    FillRandom(source_.Bytes(), 3);
    HF_TRY(into_, Pages::Shared(given_.bytes));
    // Before any thread of this process.
    ours_ = std::make_unique<LenderProcess>(
        [this](int descriptor) { LendOurs(given_, source_.Bytes(), descriptor); });
    for (const bool sleeps : {false, true}) {
      bare_lenders_[sleeps] = std::make_unique<LenderProcess>([this, sleeps](int descriptor) {
        LendBare(given_, source_.Bytes(), sleeps, descriptor);
      });
    }
    HF_TRYV(PrepareOurs());
    HF_TRYV(PrepareBare(false));
    return PrepareBare(true);
  }

  Result<Numbers> Read(BandwidthBudget* budget) {
    transport::ReadOptions options;
    options.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    options.budget = budget;
    options.depth = given_.depth;
    ours_->Work();
    std::optional<Status> done;
    const Stopwatch watch;
    (void)tasks_.Spawn(Store(options, &done));
    io_.restart();
    io_.run();
    const double seconds = watch.Seconds();
    ours_->Rest();
    HF_TRYV(std::move(*done));
    return Answer(seconds);
  }

  Result<Numbers> ReadBare(bool sleeps) {
    bare_lenders_[sleeps]->Work();
    const Stopwatch watch;
    const Status done = bare_[sleeps]->Read(into_.Bytes(), given_.block, given_.depth);
    const double seconds = watch.Seconds();
    bare_lenders_[sleeps]->Rest();
    HF_TRYV(done);
    return Answer(seconds);
  }

 private:
  Status PrepareOurs() {
    HF_TRY(endpoint_,
           transport::FabricEndpoint::OpenBlocking(io_.get_executor(),
                                                   OptionsOf(given_, given_.reader)));
    const auto bytes = FromHex(ours_->text());
    proto::FabricRegion message;
    if (!bytes.has_value() || !message.ParseFromString(bytes.value())) {
      return Error(Errc::kIoError, ours_->text());
    }
    HF_TRY(const transport::FabricRegion region, transport::FromProto(message));
    HF_TRY(auto target, endpoint_->PrepareBlocking(into_.Bytes()));
    target_.emplace(std::move(target));
    HF_TRY(reader_, endpoint_->Reader(region, "lender"));
    return Ok();
  }

  Status PrepareBare(bool sleeps) {
    HF_TRY(bare_[sleeps], BareFabric::Open(given_.provider, given_.reader, sleeps));
    const std::string text = bare_lenders_[sleeps]->text();
    const std::size_t first = text.find(' ');
    const std::size_t second = text.find(' ', first + 1);
    const auto address = FromHex(text.substr(0, first));
    if (!address.has_value() || second == std::string::npos) {
      return Error(Errc::kIoError, text);
    }
    BareRegion region;
    region.address = address.value();
    region.key = std::stoull(text.substr(first + 1, second - first - 1));
    region.base = std::stoull(text.substr(second + 1));
    return bare_[sleeps]->Connect(region);
  }

  asio::awaitable<void> Store(transport::ReadOptions options, std::optional<Status>* done) {
    done->emplace(co_await reader_->Read(0, into_.Bytes(), options));
  }

  // What came is what was lent; and the next measurement must bring it anew.
  Result<Numbers> Answer(double seconds) {
    const MutableByteView into = into_.Bytes();
    if (std::memcmp(into.data(), source_.Bytes().data(), into.size()) != 0) {
      return Error(Errc::kCorruption, "other bytes came than were lent");
    }
    for (std::size_t i = 0; i < into.size(); i += kMiB) {
      into[i] = ~into[i];
    }
    return Numbers{seconds, static_cast<double>(into.size())};
  }

  const Given given_;
  Pages source_;
  Pages into_;
  std::unique_ptr<LenderProcess> ours_;
  std::array<std::unique_ptr<LenderProcess>, 2> bare_lenders_;  // by "sleeps"
  asio::io_context io_{1};
  TaskGroup tasks_{io_.get_executor(), "bench", 1};
  std::unique_ptr<transport::FabricEndpoint> endpoint_;
  std::optional<transport::FabricTarget> target_;
  std::unique_ptr<transport::RangeReader> reader_;
  std::array<std::unique_ptr<BareFabric>, 2> bare_;
};

int Main(const Arguments& arguments) {
  if (arguments.size() != 6) {
    return Refuse(Error(Errc::kInvalidArgument, "six arguments are needed"));
  }
  const auto bytes = NumberAt(arguments, 3, kMiB, 64 * kGiB);
  const auto block = NumberAt(arguments, 4, 1, 4 * kMiB);
  const auto depth = NumberAt(arguments, 5, 1, 256);
  for (const auto* number : {&bytes, &block, &depth}) {
    if (!number->has_value()) {
      return Refuse(number->error());
    }
  }
  FabricBench bench(
      Given{arguments[0], arguments[1], arguments[2], bytes.value(), block.value(), depth.value()});
  const Status prepared = bench.Prepare();
  if (!prepared) {
    return Refuse(prepared.error());
  }
  Commands commands;
  commands.Add("read", [&](const Arguments&) { return bench.Read(nullptr); });
  commands.Add("bare", [&](const Arguments&) { return bench.ReadBare(true); });
  commands.Add("spin", [&](const Arguments&) { return bench.ReadBare(false); });
  commands.Add("paced", [&](const Arguments& given) -> Result<Numbers> {
    HF_TRY(const std::uint64_t rate, NumberAt(given, 0, 1, ~std::uint64_t{0}));
    BandwidthBudget budget(rate);
    return bench.Read(&budget);
  });
  return commands.Serve();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  return holdfast::bench::Main(holdfast::bench::ArgumentsOf(argc, argv));
}
