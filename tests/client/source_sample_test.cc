// The torn-copy check on its own: which writes it finds, and what it never takes for one (I7).

#include "client/source_sample.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace holdfast::client {
namespace {

class SourceSampleTest : public ::testing::Test {
 protected:
  SourceSampleTest() {
    std::vector<layout::TensorSpec> specs(3);
    const char* const names[] = {"first", "second", "tiny"};
    const std::uint64_t elements[] = {50'000, 30'000, 8};
    for (std::size_t i = 0; i < specs.size(); ++i) {
      specs[i].name = names[i];
      specs[i].dtype = proto::F32;
      specs[i].global_shape = {elements[i]};
      specs[i].local_shape = {elements[i]};
      specs[i].tensor_class = proto::STABLE;
      tensors_.emplace_back(elements[i], static_cast<float>(i) + 0.5F);
    }
    plan_ = CopyPlan::Make(layout::PlanImage(specs).value(), specs, 1'000).value();
    for (const PlannedTensor& tensor : plan_->Tensors()) {
      sources_.push_back(SourceView::Contiguous(tensors_[tensor.spec].data(), tensor.length));
    }
    slot_.resize(plan_->ImageBytes());
  }

  void Copy() {
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      const PlannedTensor& tensor = plan_->Tensors()[i];
      sources_[i].Gather(0, MutableByteView(slot_).subspan(tensor.offset, tensor.length));
    }
  }

  // The name of the tensor that is found to be torn, "" for none.
  std::string Check(const SourceSample& sample) const {
    const auto torn = sample.Check(*plan_, sources_, slot_.data());
    return torn.has_value() ? plan_->Tensors()[*torn].name : "";
  }

  void Update(std::size_t tensor) {
    for (float& value : tensors_[tensor]) {
      value = std::nextafter(value, 1e9F);
    }
  }

  std::vector<std::vector<float>> tensors_;
  std::shared_ptr<const CopyPlan> plan_;
  std::vector<SourceView> sources_;
  std::vector<std::byte> slot_;
};

TEST_F(SourceSampleTest, ACopyThatNobodyDisturbedIsWholeForEverySeed) {
  Copy();
  for (std::uint64_t step = 0; step < 2'000; ++step) {
    SourceSample sample(*plan_, kDefaultSampleFraction, step);
    sample.Take(sources_);
    ASSERT_EQ(Check(sample), "") << step;
  }
}

TEST_F(SourceSampleTest, AnUpdateBeforeTheCopyReachesTheTensorIsFound) {
  SourceSample sample(*plan_, kDefaultSampleFraction, 7);
  sample.Take(sources_);
  Update(1);
  Copy();
  EXPECT_EQ(Check(sample), "second");
}

TEST_F(SourceSampleTest, AnUpdateBehindTheCopyIsFound) {
  SourceSample sample(*plan_, kDefaultSampleFraction, 7);
  sample.Take(sources_);
  Copy();
  Update(0);
  EXPECT_EQ(Check(sample), "first");
}

// Where the value comes back before the end, only the slot tells.
TEST_F(SourceSampleTest, AnUpdateThatIsTakenBackIsFoundInTheSlot) {
  SourceSample sample(*plan_, kDefaultSampleFraction, 7);
  sample.Take(sources_);
  const std::vector<float> before = tensors_[0];
  Update(0);
  Copy();
  tensors_[0] = before;
  sources_[0] = SourceView::Contiguous(tensors_[0].data(), 4 * tensors_[0].size());
  EXPECT_EQ(Check(sample), "first");
}

TEST_F(SourceSampleTest, SmallTensorsAreComparedToTheLastByte) {
  SourceSample sample(*plan_, kDefaultSampleFraction, 7);
  sample.Take(sources_);
  Copy();
  tensors_[2][7] = std::nextafter(tensors_[2][7], 1e9F);
  EXPECT_EQ(Check(sample), "tiny");
}

TEST_F(SourceSampleTest, NumbersAreComparedAsBytes) {
  tensors_[0].assign(tensors_[0].size(), std::numeric_limits<float>::quiet_NaN());
  tensors_[1].assign(tensors_[1].size(), 0.0F);
  SourceSample sample(*plan_, kDefaultSampleFraction, 7);
  sample.Take(sources_);
  Copy();
  EXPECT_EQ(Check(sample), "") << "a NaN is equal to itself";
  tensors_[1].assign(tensors_[1].size(), -0.0F);
  EXPECT_EQ(Check(sample), "second");
}

// A writer of one part of a tensor, missed at one step, is found at another.
TEST_F(SourceSampleTest, ThePlacesMoveFromStepToStep) {
  bool found = false;
  bool missed = false;
  for (std::uint64_t step = 0; step < 2'000 && !(found && missed); ++step) {
    SourceSample sample(*plan_, kDefaultSampleFraction, step);
    sample.Take(sources_);
    Copy();
    for (std::size_t i = 20'000; i < 20'500; ++i) {
      tensors_[0][i] += 1.0F;
    }
    (Check(sample).empty() ? missed : found) = true;
    Copy();
  }
  EXPECT_TRUE(found);
  EXPECT_TRUE(missed) << "the sample is no sample any more";
}

TEST_F(SourceSampleTest, TheSampleStaysAFractionOfTheBytes) {
  const SourceSample sample(*plan_, kDefaultSampleFraction, 3);
  EXPECT_GT(sample.SampledBytes(), 0U);
  EXPECT_LT(sample.SampledBytes(), plan_->ImageBytes() / 100);
}

}  // namespace
}  // namespace holdfast::client
