#include "client/copy_plan.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace holdfast::client {
namespace {

constexpr ByteCount kSmall = 100;

layout::TensorSpec Spec(const std::string& name,
                        std::uint64_t elements,
                        proto::TensorClass tensor_class = proto::STABLE) {
  layout::TensorSpec spec;
  spec.name = name;
  spec.dtype = proto::F32;
  spec.global_shape = {elements};
  spec.local_shape = {elements};
  spec.tensor_class = tensor_class;
  return spec;
}

class CopyPlanTest : public ::testing::Test {
 protected:
  void Make(const std::vector<layout::TensorSpec>& specs) {
    layout_ = layout::PlanImage(specs).value();
    auto plan = CopyPlan::Make(layout_, specs, kSmall);
    ASSERT_TRUE(plan.has_value()) << plan.error().ToString();
    plan_ = plan.value();
  }

  const PlannedTensor& Find(const std::string& name) const {
    for (const PlannedTensor& tensor : plan_->Tensors()) {
      if (tensor.name == name) {
        return tensor;
      }
    }
    ADD_FAILURE() << name;
    return plan_->Tensors().front();
  }

  proto::Layout layout_;
  std::shared_ptr<const CopyPlan> plan_;
};

// I7: what forward may change, and what is small, is copied before snapshot() returns.
TEST_F(CopyPlanTest, LargeStableTensorsAreLazyAndAllOthersStaged) {
  Make({Spec("large", 1'000),
        Spec("constant", 1'000, proto::CONSTANT),
        Spec("edge", kSmall / 4),
        Spec("over", kSmall / 4 + 1),
        Spec("buffer", 1'000, proto::STAGED)});
  EXPECT_EQ(Find("large").mode, CopyMode::kLazy);
  EXPECT_EQ(Find("constant").mode, CopyMode::kLazy);
  EXPECT_EQ(Find("edge").mode, CopyMode::kStaged);
  EXPECT_EQ(Find("over").mode, CopyMode::kLazy);
  EXPECT_EQ(Find("buffer").mode, CopyMode::kStaged);
  EXPECT_TRUE(Find("edge").checked);
  EXPECT_FALSE(Find("buffer").checked);
}

// Each copy to the host costs the link microseconds: 64 KiB take as long as none.
TEST_F(CopyPlanTest, OnADeviceTensorsUpTo64KiBAreGathered) {
  const std::vector<layout::TensorSpec> specs = {
      Spec("edge", 16 * kKiB), Spec("over", 16 * kKiB + 1), Spec("host", 16 * kKiB)};
  layout_ = layout::PlanImage(specs).value();
  const std::vector<std::int32_t> devices = {0, 0, kHostDevice};
  plan_ = CopyPlan::Make(layout_, specs, kSmall, devices, kSmallOnDevice).value();
  EXPECT_EQ(Find("edge").mode, CopyMode::kStaged);
  EXPECT_EQ(Find("over").mode, CopyMode::kLazy);
  EXPECT_EQ(Find("host").mode, CopyMode::kLazy);
}

TEST_F(CopyPlanTest, TensorsCoverTheImageBehindTheHeaderWithoutHoles) {
  Make({Spec("b", 7), Spec("empty", 0), Spec("a", 1'001), Spec("c", 1)});
  ByteCount end = plan_->HeaderBytes();
  for (std::size_t i = 0; i < plan_->Tensors().size(); ++i) {
    const PlannedTensor& tensor = plan_->Tensors()[i];
    EXPECT_EQ(tensor.offset, end);
    end += tensor.length;
    EXPECT_EQ(plan_->TensorAt(tensor.offset), i);
    EXPECT_EQ(plan_->TensorAt(end - 1), i);
  }
  EXPECT_EQ(end, plan_->ImageBytes());
  EXPECT_EQ(plan_->Tensors().size(), 3U);
  EXPECT_EQ(plan_->SpecCount(), 4U);
}

TEST_F(CopyPlanTest, SpecsOfAnotherLayoutAreRefused) {
  Make({Spec("a", 10), Spec("b", 20)});
  const std::vector<layout::TensorSpec> others = {Spec("a", 10), Spec("x", 20)};
  const auto plan = CopyPlan::Make(layout_, others, kSmall);
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, Errc::kInvalidArgument);
  EXPECT_NE(plan.error().message.find("\"b\""), std::string::npos);
}

TEST_F(CopyPlanTest, ALayoutWithAHoleIsRefused) {
  const std::vector<layout::TensorSpec> specs = {Spec("a", 10), Spec("b", 20)};
  proto::Layout shifted = layout::PlanImage(specs).value();
  shifted.mutable_tensors(1)->set_offset_bytes(shifted.tensors(1).offset_bytes() + 4);
  EXPECT_FALSE(CopyPlan::Make(shifted, specs, kSmall).has_value());
  proto::Layout short_one = layout::PlanImage(specs).value();
  short_one.mutable_tensors()->RemoveLast();
  EXPECT_FALSE(CopyPlan::Make(short_one, specs, kSmall).has_value());
}

// An engine keeps an equal plan: a pointer must never be taken for that of another tensor.
TEST_F(CopyPlanTest, PlansAreEqualOnlyWhereEachPointerMeansTheSameTensor) {
  layout::TensorSpec tied = Spec("tied", 1'000);
  tied.alias_of = "a";
  layout::TensorSpec frozen = Spec("frozen", 1'000, proto::CONSTANT);
  frozen.image = proto::STATIC;
  const std::vector<layout::TensorSpec> specs = {Spec("a", 1'000), tied, Spec("b", 10), frozen};
  const std::vector<layout::TensorSpec> moved = {specs[0], specs[2], tied, frozen};
  const auto plan_of = [](const std::vector<layout::TensorSpec>& of,
                          const std::vector<std::int32_t>& devices) {
    return CopyPlan::Make(layout::PlanImage(of).value(), of, kSmall, devices, kSmallOnDevice)
        .value();
  };
  const auto plan = plan_of(specs, {});
  EXPECT_TRUE(*plan == *plan_of(specs, {}));
  EXPECT_TRUE(*plan == *plan_of(specs, {kHostDevice, kHostDevice, kHostDevice, kHostDevice}));
  EXPECT_FALSE(*plan == *plan_of(moved, {})) << "one layout, other pointers";
  EXPECT_FALSE(*plan == *plan_of(specs, {0, 0, kHostDevice, kHostDevice}));
  EXPECT_FALSE(*plan == *plan_of(specs, {kHostDevice, kHostDevice, kHostDevice, 1}))
      << "only the frozen one is elsewhere";
  EXPECT_FALSE(*plan == *plan_of({specs[0], tied, specs[2]}, {}));
}

TEST_F(CopyPlanTest, PointersAndStridesThatDoNotFitAreRefused) {
  Make({Spec("a", 10), Spec("empty", 0)});
  const std::vector<float> data(40);
  const std::vector<const void*> good = {data.data(), nullptr};
  EXPECT_TRUE(MakeSources(*plan_, good, {}).has_value()) << "an empty tensor needs no pointer";
  const std::vector<const void*> missing = {nullptr, nullptr};
  EXPECT_FALSE(MakeSources(*plan_, missing, {}).has_value());
  const std::vector<const void*> few = {data.data()};
  EXPECT_FALSE(MakeSources(*plan_, few, {}).has_value());
  const std::vector<TensorStrides> unknown = {{2, {1}}};
  EXPECT_FALSE(MakeSources(*plan_, good, unknown).has_value());
  const std::vector<TensorStrides> twice = {{0, {2}}, {0, {3}}};
  EXPECT_FALSE(MakeSources(*plan_, good, twice).has_value());
  const std::vector<TensorStrides> wrong_rank = {{0, {2, 1}}};
  EXPECT_FALSE(MakeSources(*plan_, good, wrong_rank).has_value());
  const std::vector<TensorStrides> every_second = {{0, {2}}};
  EXPECT_TRUE(MakeSources(*plan_, good, every_second).has_value());
}

}  // namespace
}  // namespace holdfast::client
