// Registers a layout of very many tensors with a real daemon, and reads the header that it wrote.
//
//   registration_bench <socket> <arena> <tensors>
//   register    a new layout each time, until the daemon has admitted it; then waits, not counted,
//               for the first slot
//   header      the image's header, from a slot's file to a list of tensors
// Each answers: seconds.
#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "bench/commands.h"
#include "common/bytes.h"
#include "holdfast/client.h"
#include "layout/image_header.h"
#include "transport/owned_fd.h"

namespace holdfast::bench {
namespace {

constexpr std::uint32_t kTimeoutMs = 120'000;
constexpr std::uint64_t kShape[] = {256};
constexpr ByteCount kTensorBytes = ByteCount{256} * 4;

Status FromOutcome(const Outcome& outcome) {
  if (outcome.ok()) {
    return Ok();
  }
  return Error(Errc::kInternal, outcome.message);
}

Status ReadFully(int fd, MutableByteView to) {
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t count = ::pread(fd, to.data() + done, to.size() - done, static_cast<off_t>(done));
    if (count <= 0) {
      return ErrnoError(count == 0 ? EIO : errno, "read of a slot");
    }
    done += static_cast<std::size_t>(count);
  }
  return Ok();
}

class RegistrationBench {
 public:
  RegistrationBench(std::string arena, std::size_t tensors)
      : arena_(std::move(arena)), count_(tensors) {}

  Status Join(const std::string& socket) {
    hf_options options = DefaultOptions();
    options.slots_wanted = 2;
    options.request_timeout_ms = kTimeoutMs;
    hf_incarnation incarnation{};
    HF_TRYV(FromOutcome(Client::Connect(socket, options, kTimeoutMs, &client_)));
    HF_TRYV(FromOutcome(client_.OpenIncarnation("registration", 1, {}, &incarnation)));
    return FromOutcome(client_.Join("registration", incarnation, 0, 1));
  }

  Result<Numbers> Register() {
    NameTensors(++generation_);
    std::vector<hf_tensor> tensors(count_);
    for (std::size_t i = 0; i < count_; ++i) {
      tensors[i].name = names_[i].c_str();
      tensors[i].dtype = HF_F32;
      tensors[i].tensor_class = HF_STABLE;
      tensors[i].global_ndim = 1;
      tensors[i].local_ndim = 1;
      tensors[i].global_shape = kShape;
      tensors[i].local_shape = kShape;
    }
    const Stopwatch watch;
    HF_TRYV(FromOutcome(client_.SetLayout(tensors)));
    const double seconds = watch.Seconds();
    HF_TRYV(FromOutcome(client_.WaitReady(kTimeoutMs)));
    return Numbers{seconds};
  }

  Result<Numbers> ReadHeader() {
    std::error_code failed;
    for (const auto& entry : std::filesystem::directory_iterator(arena_ + "/slots", failed)) {
      const Stopwatch watch;
      HF_TRY(const bool found, HasOurTensors(entry.path().string()));
      if (found) {
        return Numbers{watch.Seconds()};
      }
    }
    return Error(Errc::kNotFound, "no slot in " + arena_ + " has the newest layout");
  }

 private:
  void NameTensors(std::uint64_t generation) {
    names_.clear();
    for (std::size_t i = 0; i < count_; ++i) {
      names_.push_back("run" + std::to_string(generation) + ".layers." + std::to_string(i / 10) +
                       ".mlp.experts." + std::to_string(i % 10) + ".down_proj.weight");
    }
  }

  Result<bool> HasOurTensors(const std::string& path) const {
    transport::OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.Valid()) {
      return ErrnoError(errno, "open " + path);
    }
    std::vector<std::byte> head(layout::kHeaderLengthBytes);
    HF_TRYV(ReadFully(fd.Get(), head));
    const ByteCount data = count_ * kTensorBytes;
    const ByteCount json = LoadLe64(head.data());
    if (json > layout::kMaxHeaderJsonBytes) {
      return false;  // a slot that has no header yet
    }
    const auto bytes =
        layout::HeaderBytesFromPrefix(head, layout::kHeaderLengthBytes + json + data);
    if (!bytes) {
      return false;
    }
    head.resize(bytes.value());
    HF_TRYV(ReadFully(fd.Get(), head));
    const auto tensors = layout::ReadImageHeader(head, bytes.value() + data);
    return tensors && tensors.value().size() == count_ &&
           tensors.value().front().name == names_.front();
  }

  const std::string arena_;
  const std::size_t count_;
  Client client_;
  std::uint64_t generation_ = 0;
  std::vector<std::string> names_;
};

int Main(const Arguments& arguments) {
  const auto tensors = NumberAt(arguments, 2, 1, 1'000'000);
  if (!tensors) {
    return Refuse(tensors.error());
  }
  RegistrationBench bench(arguments[1], tensors.value());
  const Status joined = bench.Join(arguments[0]);
  if (!joined) {
    return Refuse(joined.error());
  }
  Commands commands;
  commands.Add("register", [&](const Arguments&) { return bench.Register(); });
  commands.Add("header", [&](const Arguments&) { return bench.ReadHeader(); });
  return commands.Serve();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  return holdfast::bench::Main(holdfast::bench::ArgumentsOf(argc, argv));
}
