// Erasure coding in memory: parity of mapped shared memory by ec/, and bare ISA-L on the same bytes
// as its ceiling.
//
//   code_bench <k> <m> <segment bytes> <window bytes>
//   encode <threads>     our codec, all rows, window by window
//   isal <threads>       ec_encode_data alone, the same windows
//   row <threads>        our codec, row 0 only
//   isal_row <threads>   ec_encode_data alone, row 0 only
//   add <threads>        our codec, one segment after the other into rows of zeros
//   decode <threads>     our codec, m lost segments (k of them if k < m) from the others
//   isal_decode <threads>   ec_encode_data alone, as many rows
// Each answers: seconds, bytes of segments that were read or, for decode, of sources.  Threads take
// parts of the segments, so that all of them together code the same bytes once.
#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <isa-l/erasure_code.h>

#include "bench/commands.h"
#include "bench/pages.h"
#include "ec/codec.h"
#include "ec/matrix.h"

namespace holdfast::bench {
namespace {

using Windows = std::vector<ByteView>;
using Outputs = std::vector<MutableByteView>;

class CodeBench {
 public:
  Status Prepare(const ec::CodeParams& code, ByteCount segment, ByteCount window) {
    code_ = code;
    segment_ = segment;
    window_ = window;
    HF_TRY(pages_, Pages::Shared(segment * code.Members()));
    FillRandom(pages_.Bytes(), 1);
    HF_TRY(auto codec, ec::Codec::Make(code));
    codec_.push_back(std::move(codec));
    HF_TRY(const ec::Matrix parity, ec::ParityMatrix(code));
    tables_ = TablesOf(parity);
    lost_.resize(std::min(code.data, code.parity));
    std::iota(lost_.begin(), lost_.end(), 0u);
    sources_.resize(code.data);
    std::iota(sources_.begin(), sources_.end(), static_cast<std::uint32_t>(lost_.size()));
    HF_TRY(auto decoder, codec_[0].MakeDecoder(sources_, lost_));
    decoder_.push_back(std::move(decoder));
    HF_TRY(const ec::Matrix recovery, ec::RecoveryMatrix(code, sources_, lost_));
    decode_tables_ = TablesOf(recovery);
    return codec_[0].Encode(In(0, segment_, Segments()), Out(0, segment_, Rows()));
  }

  Status Encode(std::size_t begin, std::size_t end) {
    return codec_[0].Encode(In(begin, end, Segments()), Out(begin, end, Rows()));
  }

  Status EncodeRow(std::size_t begin, std::size_t end) {
    return codec_[0].EncodeRow(0, In(begin, end, Segments()), Out(begin, end, Rows())[0]);
  }

  Status Add(std::size_t begin, std::size_t end) {
    const Outputs rows = Out(begin, end, Rows());
    for (const MutableByteView row : rows) {
      std::fill(row.begin(), row.end(), std::byte{0});
    }
    const Windows segments = In(begin, end, Segments());
    for (std::uint32_t i = 0; i < code_.data; ++i) {
      HF_TRYV(codec_[0].Add(i, segments[i], rows));
    }
    return Ok();
  }

  Status Decode(std::size_t begin, std::size_t end) {
    return decoder_[0].Decode(In(begin, end, sources_), Out(begin, end, lost_));
  }

  Status Bare(std::size_t begin, std::size_t end, std::size_t rows) {
    return Isal(tables_, In(begin, end, Segments()), Out(begin, end, Rows()), rows);
  }

  Status BareDecode(std::size_t begin, std::size_t end) {
    return Isal(decode_tables_, In(begin, end, sources_), Out(begin, end, lost_), lost_.size());
  }

  // Runs "step" on every window, shared out to threads.
  Result<Numbers> Run(std::size_t threads,
                      const std::function<Status(std::size_t, std::size_t)>& step) {
    std::vector<Status> results(threads, Ok());
    const std::size_t windows = (segment_ + window_ - 1) / window_;
    const auto work = [&](std::size_t t) {
      for (std::size_t w = windows * t / threads; w < windows * (t + 1) / threads; ++w) {
        Status done = step(w * window_, std::min<std::size_t>(segment_, (w + 1) * window_));
        if (!done) {
          results[t] = std::move(done);
        }
      }
    };
    const Stopwatch watch;
    std::vector<std::thread> others;
    for (std::size_t t = 1; t < threads; ++t) {
      others.emplace_back(work, t);
    }
    work(0);
    for (std::thread& other : others) {
      other.join();
    }
    const double seconds = watch.Seconds();
    for (Status& result : results) {
      HF_TRYV(std::move(result));
    }
    return Numbers{seconds, static_cast<double>(segment_ * code_.data)};
  }

 private:
  using Indices = std::vector<std::uint32_t>;

  [[nodiscard]] Indices Segments() const {
    Indices indices(code_.data);
    std::iota(indices.begin(), indices.end(), 0u);
    return indices;
  }

  [[nodiscard]] Indices Rows() const {
    Indices indices(code_.parity);
    std::iota(indices.begin(), indices.end(), code_.data);
    return indices;
  }

  [[nodiscard]] Outputs Out(std::size_t begin, std::size_t end, const Indices& indices) const {
    Outputs outputs;
    for (const std::uint32_t index : indices) {
      outputs.push_back(pages_.Bytes().subspan(index * segment_ + begin, end - begin));
    }
    return outputs;
  }

  [[nodiscard]] Windows In(std::size_t begin, std::size_t end, const Indices& indices) const {
    const Outputs views = Out(begin, end, indices);
    return {views.begin(), views.end()};
  }

  [[nodiscard]] std::vector<unsigned char> TablesOf(ec::Matrix matrix) const {
    std::vector<unsigned char> tables(matrix.size() * 32);
    ec_init_tables(static_cast<int>(code_.data),
                   static_cast<int>(matrix.size() / code_.data),
                   matrix.data(),
                   tables.data());
    return tables;
  }

  static Status Isal(std::vector<unsigned char>& tables,
                     const Windows& in,
                     const Outputs& out,
                     std::size_t rows) {
    std::array<unsigned char*, ec::kMaxMembers> from{};
    std::array<unsigned char*, ec::kMaxMembers> to{};
    for (std::size_t i = 0; i < in.size(); ++i) {
      from[i] = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(in[i].data()));
    }
    for (std::size_t i = 0; i < rows; ++i) {
      to[i] = reinterpret_cast<unsigned char*>(out[i].data());
    }
    ec_encode_data(static_cast<int>(in[0].size()),
                   static_cast<int>(in.size()),
                   static_cast<int>(rows),
                   tables.data(),
                   from.data(),
                   to.data());
    return Ok();
  }

  ec::CodeParams code_;
  ByteCount segment_ = 0;
  ByteCount window_ = 0;
  Pages pages_;                       // the vectors of one stripe, one after the other
  std::vector<ec::Codec> codec_;      // one, once prepared
  std::vector<ec::Decoder> decoder_;  // one, once prepared
  Indices lost_;
  Indices sources_;
  std::vector<unsigned char> tables_;
  std::vector<unsigned char> decode_tables_;
};

int Main(const Arguments& arguments) {
  const auto k = NumberAt(arguments, 0, 1, ec::kMaxMembers - 1);
  const auto m = NumberAt(arguments, 1, 1, ec::kMaxParity);
  const auto segment = NumberAt(arguments, 2, kMiB, kGiB * 64);
  const auto window = NumberAt(arguments, 3, 1, kGiB);
  for (const auto* number : {&k, &m, &segment, &window}) {
    if (!number->has_value()) {
      return Refuse(number->error());
    }
  }
  CodeBench bench;
  const ec::CodeParams code{.data = static_cast<std::uint32_t>(k.value()),
                            .parity = static_cast<std::uint32_t>(m.value())};
  const Status prepared = bench.Prepare(code, segment.value(), window.value());
  if (!prepared) {
    return Refuse(prepared.error());
  }
  Commands commands;
  const auto add = [&](const char* name, std::function<Status(std::size_t, std::size_t)> step) {
    commands.Add(name, [&bench, step](const Arguments& given) -> Result<Numbers> {
      HF_TRY(const std::uint64_t threads, NumberAt(given, 0, 1, 256));
      return bench.Run(threads, step);
    });
  };
  add("encode", [&](std::size_t a, std::size_t b) { return bench.Encode(a, b); });
  add("row", [&](std::size_t a, std::size_t b) { return bench.EncodeRow(a, b); });
  add("add", [&](std::size_t a, std::size_t b) { return bench.Add(a, b); });
  add("decode", [&](std::size_t a, std::size_t b) { return bench.Decode(a, b); });
  add("isal", [&](std::size_t a, std::size_t b) { return bench.Bare(a, b, code.parity); });
  add("isal_row", [&](std::size_t a, std::size_t b) { return bench.Bare(a, b, 1); });
  add("isal_decode", [&](std::size_t a, std::size_t b) { return bench.BareDecode(a, b); });
  return commands.Serve();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  return holdfast::bench::Main(holdfast::bench::ArgumentsOf(argc, argv));
}
