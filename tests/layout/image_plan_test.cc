#include <chrono>
#include <functional>

#include <gtest/gtest.h>

#include "layout/dtype.h"
#include "layout/image.h"
#include "tests/layout/samples.h"

namespace holdfast::layout {
namespace {

std::vector<std::string> Names(const proto::Layout& layout) {
  std::vector<std::string> names;
  for (const proto::TensorEntry& entry : layout.tensors()) {
    names.push_back(entry.name());
  }
  return names;
}

// One more box that holds one element.
void AddBox(proto::Part* part, std::uint64_t offset) {
  proto::Box* box = part->add_boxes();
  box->add_offset(offset);
  box->add_length(1);
}

TEST(ImagePlanTest, TensorsLieByFallingElementSizeThenInTheOrderGiven) {
  const proto::Layout layout = MixedLayout();
  EXPECT_EQ(Names(layout),
            (std::vector<std::string>{"spectrum",
                                      "optim.step",
                                      "model.empty",
                                      "model.weight",
                                      "optim.exp_avg",
                                      "model.norm",
                                      "mask \"q\" \\ \n \xc3\xa9",
                                      "vision.embed",
                                      "head.weight"}));
}

TEST(ImagePlanTest, ImagesHaveNoHolesAndDataStartsAtAPage) {
  const proto::Layout layout = MixedLayout();
  for (proto::ImageKind kind : {proto::DYNAMIC, proto::STATIC}) {
    ByteCount at = ImageHeaderBytes(layout, kind);
    EXPECT_GT(at, 0u);
    EXPECT_EQ(at % 4096, 0u);
    for (const proto::TensorEntry& entry : layout.tensors()) {
      if (entry.image() == kind && entry.alias_of().empty()) {
        EXPECT_EQ(entry.offset_bytes(), at) << entry.name();
        EXPECT_EQ(at % ElementBytes(entry.dtype()).value(), 0u) << entry.name();
        at += entry.length_bytes();
      }
    }
    EXPECT_EQ(ImageBytes(layout, kind), at);
  }
}

TEST(ImagePlanTest, AnAliasLiesWhereItsTargetIs) {
  const proto::Layout layout = MixedLayout();
  const proto::TensorEntry& alias = layout.tensors(8);
  const proto::TensorEntry& target = layout.tensors(3);
  ASSERT_EQ(alias.alias_of(), target.name());
  EXPECT_EQ(alias.offset_bytes(), target.offset_bytes());
  EXPECT_EQ(alias.length_bytes(), target.length_bytes());
  EXPECT_EQ(alias.image(), target.image());
}

TEST(ImagePlanTest, NoTensorsAreAnImageOfOnePage) {
  const proto::Layout layout = PlanImage({}).value();
  EXPECT_EQ(layout.dynamic_image_bytes(), 4096u);
  EXPECT_EQ(layout.dynamic_header_bytes(), 4096u);
  EXPECT_EQ(layout.static_image_bytes(), 0u);
  EXPECT_TRUE(ValidateLayout(layout).has_value());
}

TEST(ImagePlanTest, SizesBeyond32BitsArePlanned) {
  const std::vector<TensorSpec> specs = {
      WholeTensor("a", proto::BF16, {1u << 20, 1u << 16}),
      WholeTensor("b", proto::F32, {3, 1ull << 33}),
      WholeTensor("c", proto::U8, {(1ull << 40) + 1}),
  };
  const proto::Layout layout = PlanImage(specs).value();
  EXPECT_EQ(layout.tensors(0).name(), "b");
  EXPECT_EQ(layout.tensors(0).length_bytes(), 12ull << 33);
  EXPECT_EQ(layout.tensors(1).offset_bytes(), 4096 + (12ull << 33));
  EXPECT_EQ(layout.tensors(2).offset_bytes(), 4096 + (12ull << 33) + (2ull << 36));
  EXPECT_EQ(layout.dynamic_image_bytes(), 4096 + (12ull << 33) + (2ull << 36) + (1ull << 40) + 1);
  EXPECT_TRUE(ValidateLayout(layout).has_value());
}

TEST(ImagePlanTest, ImagesOf2To53BytesAreRefusedHoweverTheyAddUp) {
  EXPECT_FALSE(PlanImage(std::vector{WholeTensor("a", proto::F64, {1ull << 50})}).has_value());
  EXPECT_FALSE(PlanImage(std::vector{WholeTensor("a", proto::C128, {1ull << 53})}).has_value());
  std::vector<TensorSpec> specs;
  specs.reserve(10);
  for (int i = 0; i < 9; ++i) {
    specs.push_back(WholeTensor("t" + std::to_string(i), proto::F64, {1ull << 47}));
  }
  EXPECT_EQ(PlanImage(specs).error().code, Errc::kInvalidArgument);
  specs.resize(7);
  EXPECT_TRUE(PlanImage(specs).has_value());
  specs.push_back(WholeTensor("frozen", proto::F64, {1ull << 47}));
  specs.back().tensor_class = proto::CONSTANT;
  specs.back().image = proto::STATIC;
  EXPECT_FALSE(PlanImage(specs).has_value()) << "the two images together";
}

TEST(ImagePlanTest, UnsoundSpecsAreRefusedByName) {
  struct Case {
    const char* what;
    std::function<void(std::vector<TensorSpec>*)> damage;
  };

  const std::vector<Case> cases = {
      {"empty name", [](auto* s) { (*s)[0].name = ""; }},
      {"long name", [](auto* s) { (*s)[0].name = std::string(1025, 'n'); }},
      {"name not UTF-8", [](auto* s) { (*s)[0].name = "a\xff"; }},
      {"reserved name", [](auto* s) { (*s)[0].name = "__metadata__"; }},
      {"name twice", [](auto* s) { (*s)[0].name = (*s)[1].name; }},
      {"alias of that name twice", [](auto* s) { (*s)[8].name = (*s)[1].name; }},
      {"no dtype", [](auto* s) { (*s)[0].dtype = proto::DATA_TYPE_UNSPECIFIED; }},
      {"dtype of the future", [](auto* s) { (*s)[0].dtype = static_cast<proto::DataType>(99); }},
      {"no class", [](auto* s) { (*s)[0].tensor_class = proto::TENSOR_CLASS_UNSPECIFIED; }},
      {"other class", [](auto* s) { (*s)[0].tensor_class = static_cast<proto::TensorClass>(9); }},
      {"other image", [](auto* s) { (*s)[0].image = static_cast<proto::ImageKind>(2); }},
      {"static but not constant", [](auto* s) { (*s)[0].image = proto::STATIC; }},
      {"part", [](auto* s) { (*s)[0].local_shape = {8}; }},
      {"alias of nothing", [](auto* s) { (*s)[8].alias_of = "nobody"; }},
      {"alias of itself", [](auto* s) { (*s)[8].alias_of = (*s)[8].name; }},
      {"alias of other length", [](auto* s) { (*s)[8].alias_of = "model.norm"; }},
      {"alias of an alias",
       [](auto* s) {
         TensorSpec alias = (*s)[8];
         alias.name = "second";
         alias.alias_of = (*s)[8].name;
         s->push_back(alias);
       }},
  };
  for (const Case& c : cases) {
    std::vector<TensorSpec> specs = MixedSpecs();
    c.damage(&specs);
    const auto planned = PlanImage(specs);
    ASSERT_FALSE(planned.has_value()) << c.what;
    EXPECT_EQ(planned.error().code, Errc::kInvalidArgument) << c.what;
    EXPECT_NE(planned.error().message.find("tensor \""), std::string::npos) << c.what;
  }
}

TEST(ImagePlanTest, ALongestNameAndSixteenDimensionsArePlanned) {
  const auto layout =
      PlanImage(std::vector{WholeTensor(std::string(1024, '\x01'), proto::F32, Shape(16, 1))});
  ASSERT_TRUE(layout.has_value());
  EXPECT_EQ(layout.value().dynamic_header_bytes(), 8192u) << "each byte is six in JSON";
}

TEST(ImagePlanTest, HeadersBeyondWhatSafetensorsReadsAreRefused) {
  std::vector<TensorSpec> specs;
  for (int i = 0; i < 20'000; ++i) {
    std::string name(1000, '\x01');
    name += std::to_string(i);
    specs.push_back(WholeTensor(std::move(name), proto::U8, {1}));
  }
  const auto planned = PlanImage(specs);
  ASSERT_FALSE(planned.has_value());
  EXPECT_NE(planned.error().message.find("100,000,000"), std::string::npos);
}

TEST(ImagePlanTest, MoreBoxesThanAShardMayHaveAreRefused) {
  std::vector<TensorSpec> specs;
  for (int i = 0; i < 1001; ++i) {
    TensorSpec spec = WholeTensor("t" + std::to_string(i), proto::U8, {1000});
    for (std::uint64_t k = 0; k < 1000; ++k) {
      AddBox(&spec.part, k);
    }
    specs.push_back(std::move(spec));
  }
  EXPECT_FALSE(PlanImage(specs).has_value());
  specs.pop_back();
  EXPECT_TRUE(PlanImage(specs).has_value());
}

TEST(ImagePlanTest, APlannedLayoutIsValid) {
  EXPECT_TRUE(ValidateLayout(MixedLayout()).has_value());
}

// The registration and every sidecar bring a layout: nothing in it may be believed.
TEST(ImagePlanTest, EveryChangeOfAPlaceIsFound) {
  const std::vector<std::function<void(proto::Layout*)>> changes = {
      [](auto* l) { l->set_dynamic_image_bytes(l->dynamic_image_bytes() + 1); },
      [](auto* l) { l->set_dynamic_header_bytes(8192); },
      [](auto* l) { l->set_dynamic_header_bytes(0); },
      [](auto* l) { l->set_static_image_bytes(0); },
      [](auto* l) { l->set_static_header_bytes(~std::uint64_t{0}); },
      [](auto* l) { l->mutable_tensors()->SwapElements(0, 1); },
      [](auto* l) { l->mutable_tensors()->SwapElements(3, 4); },
      [](auto* l) { l->mutable_tensors()->SwapElements(6, 7); },
      [](auto* l) { l->mutable_tensors()->SwapElements(7, 8); },
      [](auto* l) {
        l->mutable_tensors()->RemoveLast();
        *l->add_tensors() = l->tensors(0);
      },
      [](auto* l) { l->mutable_tensors()->DeleteSubrange(1, 1); },
      [](auto* l) { l->mutable_tensors(1)->set_offset_bytes(0); },
      [](auto* l) { l->mutable_tensors(4)->set_offset_bytes(l->tensors(3).offset_bytes()); },
      [](auto* l) { l->mutable_tensors(1)->set_length_bytes(9); },
      [](auto* l) { l->mutable_tensors(1)->set_length_bytes(~std::uint64_t{0}); },
      [](auto* l) { l->mutable_tensors(2)->set_length_bytes(4); },
      [](auto* l) { l->mutable_tensors(7)->set_image(proto::DYNAMIC); },
      [](auto* l) { l->mutable_tensors(8)->set_image(proto::STATIC); },
      [](auto* l) { l->mutable_tensors(8)->set_offset_bytes(4096); },
      [](auto* l) { l->mutable_tensors(8)->clear_alias_of(); },
      [](auto* l) { l->mutable_tensors(0)->set_dtype(proto::F32); },
      [](auto* l) { l->mutable_tensors(3)->add_local_shape(1ull << 60); },
      [](auto* l) { l->mutable_tensors(3)->mutable_part()->clear_boxes(); },
      [](auto* l) { l->mutable_tensors(3)->mutable_part()->mutable_boxes(0)->clear_offset(); },
      [](auto* l) { l->clear_format_version(); },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    proto::Layout layout = MixedLayout();
    changes[i](&layout);
    const Status status = ValidateLayout(layout);
    ASSERT_FALSE(status.has_value()) << "change " << i;
    EXPECT_EQ(status.error().code, Errc::kInvalidArgument) << "change " << i;
  }
}

TEST(ImagePlanTest, ALayoutOfNewerSoftwareIsAVersionMismatch) {
  proto::Layout layout = MixedLayout();
  layout.set_format_version(2);
  EXPECT_EQ(ValidateLayout(layout).error().code, Errc::kVersionMismatch);
}

TEST(ImagePlanTest, AHundredThousandTensorsArePlannedQuickly) {
  std::vector<TensorSpec> specs;
  specs.reserve(100'000);
  for (int i = 0; i < 100'000; ++i) {
    specs.push_back(WholeTensor("model.layers." + std::to_string(i) + ".self_attn.q_proj.weight",
                                i % 2 == 0 ? proto::BF16 : proto::F32,
                                {4096, 1024}));
  }
  const auto start = std::chrono::steady_clock::now();
  const proto::Layout layout = PlanImage(specs).value();
  const std::string header = BuildImageHeader(layout, proto::DYNAMIC).value();
  const auto planned = std::chrono::steady_clock::now();
  EXPECT_TRUE(ValidateLayout(layout).has_value());
  const auto validated = std::chrono::steady_clock::now();
  const auto read = ReadImageHeader(AsBytes(header), layout.dynamic_image_bytes());
  const auto done = std::chrono::steady_clock::now();
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read.value().size(), specs.size());
  EXPECT_LT(header.size(), 20'000'000u);
  // Generous: sanitizers and a loaded machine.  The times are printed for who wants to know.
  EXPECT_LT(planned - start, std::chrono::seconds(20));
  const auto ms = [](auto d) { return std::chrono::duration<double, std::milli>(d).count(); };
  std::printf("plan and header %.0f ms, validate %.0f ms, read %.0f ms, header %zu bytes\n",
              ms(planned - start),
              ms(validated - planned),
              ms(done - validated),
              header.size());
}

}  // namespace
}  // namespace holdfast::layout
