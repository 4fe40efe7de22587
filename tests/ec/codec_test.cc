// I10: what is encoded comes back bit for bit from any k vectors of a stripe, by whatever ranges.
#include "ec/codec.h"

#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/ec/reference.h"

namespace holdfast::ec {
namespace {

struct Stripe {
  CodeParams code;
  std::vector<Bytes> vectors;  // segments, then rows

  [[nodiscard]] std::vector<Bytes> Segments() const {
    return {vectors.begin(), vectors.begin() + code.data};
  }
};

std::vector<Bytes> Segments(const std::vector<std::size_t>& sizes, std::uint64_t seed) {
  std::vector<Bytes> segments;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    segments.push_back(RandomBytes(sizes[i], seed + i));
  }
  return segments;
}

Stripe Encoded(const CodeParams& code, const std::vector<Bytes>& segments) {
  Stripe stripe{code, segments};
  std::size_t longest = 0;
  for (const Bytes& segment : segments) {
    longest = std::max(longest, segment.size());
  }
  std::vector<Bytes> rows(code.parity, RandomBytes(longest, 99));
  const Status status = Codec::Make(code).value().Encode(Views(segments), MutableViews(rows));
  EXPECT_TRUE(status.has_value());
  stripe.vectors.insert(stripe.vectors.end(), rows.begin(), rows.end());
  return stripe;
}

// Decodes "wanted" from "sources" into buffers full of other bytes, and compares.
void ExpectDecodes(const Stripe& stripe,
                   const Codec& codec,
                   const std::vector<std::uint32_t>& sources,
                   const std::vector<std::uint32_t>& wanted) {
  const auto decoder = codec.MakeDecoder(sources, wanted);
  ASSERT_TRUE(decoder.has_value());
  std::vector<ByteView> from;
  from.reserve(sources.size());
  for (const std::uint32_t index : sources) {
    from.emplace_back(stripe.vectors[index]);
  }
  std::vector<Bytes> outputs;
  outputs.reserve(wanted.size());
  for (const std::uint32_t index : wanted) {
    outputs.push_back(RandomBytes(stripe.vectors[index].size(), 7));
  }
  ASSERT_TRUE(decoder.value().Decode(from, MutableViews(outputs)).has_value());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_EQ(outputs[i], stripe.vectors[wanted[i]])
        << "index " << wanted[i] << " of " << stripe.code.data << "+" << stripe.code.parity;
  }
}

TEST(CodecTest, ParityIsWhatTheSlowReferenceSays) {
  for (std::uint32_t m = 1; m <= 4; ++m) {
    for (std::uint32_t k = 1; k <= 12; ++k) {
      // Lengths around ISA-L's vector sizes, each segment another.
      for (const std::size_t base : {0, 1, 15, 16, 31, 32, 33, 63, 64, 65, 127, 129, 200}) {
        std::vector<std::size_t> sizes;
        for (std::uint32_t j = 0; j < k; ++j) {
          sizes.push_back(base + (j * 37) % 70);
        }
        const auto segments = Segments(sizes, base * 100 + k);
        const Stripe stripe = Encoded({.data = k, .parity = m}, segments);
        for (std::uint32_t r = 0; r < m; ++r) {
          ASSERT_EQ(stripe.vectors[k + r], SlowRow(r, segments)) << k << "+" << m << " " << base;
        }
      }
    }
  }
}

TEST(CodecTest, OneSegmentIsMirrored) {
  const Stripe stripe = Encoded({.data = 1, .parity = 2}, Segments({1000}, 1));
  EXPECT_EQ(stripe.vectors[1], stripe.vectors[0]);
  EXPECT_EQ(stripe.vectors[2], stripe.vectors[0]);
}

TEST(CodecTest, EachRowByItselfIsTheSameRow) {
  // Aligned and not: the XOR path takes aligned ranges only.
  for (const std::size_t shift : {0, 1, 32}) {
    const CodeParams code{.data = 5, .parity = 3};
    const Codec codec = Codec::Make(code).value();
    const auto segments = Segments({4096 + 64, 4096, 96, 4096 + 33, 0}, shift);
    alignas(64) static std::byte room[8][8192];
    std::vector<ByteView> views;
    for (std::size_t j = 0; j < segments.size(); ++j) {
      std::copy(segments[j].begin(), segments[j].end(), room[j] + shift);
      views.emplace_back(room[j] + shift, segments[j].size());
    }
    for (std::uint32_t r = 0; r < code.parity; ++r) {
      const MutableByteView output(room[5] + shift, 4096 + 64);
      ASSERT_TRUE(codec.EncodeRow(r, views, output).has_value());
      const Bytes expected = SlowRow(r, segments);
      ASSERT_TRUE(std::equal(output.begin(), output.end(), expected.begin())) << r << " " << shift;
    }
  }
}

TEST(CodecTest, SegmentsAddedInAnyOrderGiveTheSameParity) {
  const CodeParams code{.data = 4, .parity = 3};
  const Codec codec = Codec::Make(code).value();
  const auto segments = Segments({300, 1, 0, 517}, 3);
  const Stripe stripe = Encoded(code, segments);
  for (const auto& order : {std::vector<std::uint32_t>{0, 1, 2, 3}, {3, 1, 0, 2}, {2, 3, 1, 0}}) {
    std::vector<Bytes> rows(code.parity, Bytes(517));
    for (const std::uint32_t j : order) {
      ASSERT_TRUE(codec.Add(j, segments[j], MutableViews(rows)).has_value());
    }
    for (std::uint32_t r = 0; r < code.parity; ++r) {
      ASSERT_EQ(rows[r], stripe.vectors[code.data + r]);
    }
  }
}

TEST(CodecTest, ASegmentAddedTwiceIsTakenOut) {
  const Codec codec = Codec::Make({.data = 4, .parity = 2}).value();
  std::vector<Bytes> rows(2, Bytes(300));
  const Bytes segment = RandomBytes(257, 1);
  ASSERT_TRUE(codec.Add(2, segment, MutableViews(rows)).has_value());
  ASSERT_NE(rows[1], Bytes(300));
  ASSERT_TRUE(codec.Add(2, segment, MutableViews(rows)).has_value());
  EXPECT_EQ(rows[0], Bytes(300));
  EXPECT_EQ(rows[1], Bytes(300));
}

// I10, exhaustive: every loss of up to m vectors, from every k of the others.
TEST(CodecTest, EveryLossDecodesFromEveryChoiceOfSources) {
  const std::vector<std::size_t> sizes = {97, 0, 64, 97, 1, 33, 96};
  for (std::uint32_t m = 1; m <= 3; ++m) {
    for (std::uint32_t k = 1; k + m <= 8; ++k) {
      const CodeParams code{.data = k, .parity = m};
      const Codec codec = Codec::Make(code).value();
      const Stripe stripe = Encoded(code, Segments({sizes.begin(), sizes.begin() + k}, k + m));
      for (std::uint32_t lost = 1; lost <= m; ++lost) {
        ForEachChoice(code.Members(), lost, [&](const std::vector<std::uint32_t>& wanted) {
          const auto left = Others(code.Members(), wanted);
          ForEachChoice(static_cast<std::uint32_t>(left.size()),
                        k,
                        [&](const std::vector<std::uint32_t>& choice) {
                          std::vector<std::uint32_t> sources;
                          sources.reserve(choice.size());
                          for (const std::uint32_t i : choice) {
                            sources.push_back(left[i]);
                          }
                          ExpectDecodes(stripe, codec, sources, wanted);
                        });
        });
        ASSERT_FALSE(HasFatalFailure());
      }
    }
  }
}

TEST(CodecTest, RandomLossesDecodeUpToTheLargestCodes) {
  constexpr unsigned kSeed = 7351;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  std::mt19937 random(kSeed);
  for (int round = 0; round < 400; ++round) {
    const bool large = round % 8 == 0;
    const std::uint32_t m = 1 + random() % (large ? kMaxParity : 4);
    const std::uint32_t k = 1 + random() % ((large ? kMaxMembers : 16) - m);
    const CodeParams code{.data = k, .parity = m};
    std::vector<std::size_t> sizes;
    for (std::uint32_t j = 0; j < k; ++j) {
      sizes.push_back(random() % 2 == 0 ? 700 : random() % 701);
    }
    const Stripe stripe = Encoded(code, Segments(sizes, random()));
    std::vector<std::uint32_t> order = Others(code.Members(), {});
    std::shuffle(order.begin(), order.end(), random);
    const std::uint32_t lost = 1 + random() % m;
    ExpectDecodes(stripe,
                  Codec::Make(code).value(),
                  {order.begin() + m, order.end()},
                  {order.begin(), order.begin() + lost});
    ASSERT_FALSE(HasFatalFailure()) << k << "+" << m << " round " << round;
  }
}

// A lost range comes back from the same range of the others: nobody has to read whole segments.
TEST(CodecTest, ARangeOfALostVectorNeedsThatRangeOnly) {
  const CodeParams code{.data = 3, .parity = 2};
  const Stripe stripe = Encoded(code, Segments({500, 260, 100}, 11));
  const auto window = [](ByteView bytes, std::size_t begin, std::size_t end) {
    const std::size_t from = std::min(begin, bytes.size());
    return bytes.subspan(from, std::min(end, bytes.size()) - from);
  };
  const std::vector<std::uint32_t> sources = {0, 3, 4};
  const Decoder decoder =
      Codec::Make(code).value().MakeDecoder(sources, std::vector<std::uint32_t>{1, 2}).value();
  for (std::size_t begin = 0; begin < 500; begin += 7) {
    for (const std::size_t length : {1, 3, 64, 100, 300}) {
      const std::size_t end = std::min<std::size_t>(500, begin + length);
      std::vector<ByteView> from;
      from.reserve(sources.size());
      for (const std::uint32_t index : sources) {
        from.push_back(window(stripe.vectors[index], begin, end));
      }
      const ByteView lost1 = window(stripe.vectors[1], begin, end);
      const ByteView lost2 = window(stripe.vectors[2], begin, end);
      std::vector<Bytes> outputs = {Bytes(lost1.size()), Bytes(lost2.size())};
      ASSERT_TRUE(decoder.Decode(from, MutableViews(outputs)).has_value());
      ASSERT_TRUE(std::equal(lost1.begin(), lost1.end(), outputs[0].begin()));
      ASSERT_TRUE(std::equal(lost2.begin(), lost2.end(), outputs[1].begin()));
    }
  }
}

}  // namespace
}  // namespace holdfast::ec
