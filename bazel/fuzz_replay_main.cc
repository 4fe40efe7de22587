// Runs a fuzz target over its corpus without libFuzzer: every build and sanitizer replays it.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

// Gives the target an exact-size allocation, so that ASan sees a read one byte too far.
void RunOnce(const std::vector<char>& bytes, std::size_t size) {
  const std::vector<std::uint8_t> input(bytes.begin(),
                                        bytes.begin() + static_cast<std::ptrdiff_t>(size));
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::size_t kCuts = 16;
  RunOnce({}, 0);
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "cannot read %s\n", argv[i]);
      return 1;
    }
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    RunOnce(bytes, bytes.size());
    // Truncations find most parser mistakes and cost nothing.
    for (std::size_t cut = 1; cut < kCuts; ++cut) {
      RunOnce(bytes, bytes.size() * cut / kCuts);
    }
  }
  std::printf("replayed %d corpus files\n", argc - 1);
  return 0;
}
