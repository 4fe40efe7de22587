#include "tests/daemon/test_trainer.h"

#include <algorithm>

namespace holdfast::tests {
namespace {

float ValueAt(std::int64_t step, std::size_t index, float scale) {
  return scale * static_cast<float>(step) + static_cast<float>(index % 1'000);
}

void Fill(std::vector<float>* tensor, std::int64_t step, float scale) {
  for (std::size_t i = 0; i < tensor->size(); ++i) {
    (*tensor)[i] = ValueAt(step, i, scale);
  }
}

bool IsFilled(const std::vector<float>& tensor, std::int64_t step, float scale) {
  for (std::size_t i = 0; i < tensor.size(); ++i) {
    if (tensor[i] != ValueAt(step, i, scale)) {
      return false;
    }
  }
  return true;
}

// Stands for a step at which nobody trains.
constexpr std::int64_t kBase = 1'000'000;

}  // namespace

TestTrainer::TestTrainer(std::size_t elements)
    : weights_(elements), moments_(elements), base_(elements) {
  Fill(&base_, kBase, 1.0F);
}

bool TestTrainer::Ok(const Outcome& outcome) {
  if (!outcome.ok()) {
    error_ = std::to_string(outcome.code) + " " + outcome.message;
  }
  return outcome.ok();
}

std::string TestTrainer::Join(const std::string& socket,
                              const std::string& job,
                              const std::string& root,
                              std::uint32_t keep_last) {
  hf_options options = DefaultOptions();
  options.request_timeout_ms = 10'000;
  std::vector<hf_tier> tiers;
  if (!root.empty()) {
    hf_tier tier{};
    tier.root = root.c_str();
    tier.every_steps = 1;
    tier.keep_last = keep_last;
    tiers.push_back(tier);
  }
  hf_incarnation incarnation{};
  if (!Ok(Client::Connect(socket, options, 30'000, &client_)) ||
      !Ok(client_.OpenIncarnation(job, 1, tiers, &incarnation)) ||
      !Ok(client_.Join(job, incarnation, 0, 1))) {
    return error_;
  }
  const std::uint64_t shape[] = {weights_.size()};
  std::vector<hf_tensor> tensors(3);
  const char* names[] = {"weights", "moments", "base"};
  for (std::size_t i = 0; i < 3; ++i) {
    tensors[i].name = names[i];
    tensors[i].dtype = HF_F32;
    tensors[i].tensor_class = i == 2 ? HF_CONSTANT : HF_STABLE;
    tensors[i].global_ndim = 1;
    tensors[i].local_ndim = 1;
    tensors[i].global_shape = shape;
    tensors[i].local_shape = shape;
  }
  if (!Ok(client_.SetLayout(tensors))) {
    return error_;
  }
  return "";
}

void TestTrainer::Train(std::int64_t step) {
  Fill(&weights_, step, 1.0F);
  Fill(&moments_, step, 0.5F);
}

bool TestTrainer::Begin(std::int64_t step) {
  hf_begin begin{};
  if (!Ok(client_.Snapshot(
          step, {weights_.data(), moments_.data(), base_.data()}, {}, {}, &begin))) {
    return false;
  }
  if (begin.started == 0) {
    error_ = begin.reason;
  }
  return begin.started != 0;
}

bool TestTrainer::SnapshotAndWait(std::int64_t step, std::uint32_t timeout_ms) {
  Train(step);
  // Without a slot the step is skipped, which the caller sees.
  (void)client_.WaitReady(2'000);
  hf_begin begin{};
  if (!Ok(client_.Snapshot(
          step, {weights_.data(), moments_.data(), base_.data()}, {}, {}, &begin))) {
    return false;
  }
  if (!Ok(client_.Fence())) {
    return false;
  }
  if (begin.started == 0) {
    error_ = begin.reason;
    return false;
  }
  return Ok(client_.WaitSealed(step, timeout_ms));
}

std::optional<std::int64_t> TestTrainer::TrainUntilDurable(std::int64_t step) {
  const std::int64_t last = step + 3;
  while (!SnapshotAndWait(step)) {
    if (++step > last) {
      return std::nullopt;
    }
  }
  hf_drained drained{};
  if (!Ok(client_.Drain(30'000, &drained))) {
    return std::nullopt;
  }
  if (drained.durable == 0) {
    error_ = drained.reason;
    return std::nullopt;
  }
  return step;
}

std::optional<std::int64_t> TestTrainer::Restore(std::uint32_t timeout_ms) {
  std::uint32_t attempt = 0;
  for (int tries = 0; tries < 10; ++tries) {
    holdfast::Restore restore;
    if (!Ok(client_.BeginRestore(-1, attempt, timeout_ms, &restore))) {
      return std::nullopt;
    }
    const hf_restore_choice choice = restore.Choice();
    attempt = choice.attempt;
    source_ = choice.source == nullptr ? "" : choice.source;
    bool loaded = true;
    if (choice.has_choice != 0) {
      const std::uint64_t bytes = weights_.size() * sizeof(float);
      std::fill(base_.begin(), base_.end(), 0.0F);
      loaded = Ok(restore.Load(
          {0, 1, 2}, {weights_.data(), moments_.data(), base_.data()}, {bytes, bytes, bytes}, 2));
    }
    bool committed = false;
    if (!Ok(restore.Finish(loaded ? nullptr : error_.c_str(), timeout_ms, &committed))) {
      return std::nullopt;
    }
    if (committed) {
      return choice.has_choice != 0 ? choice.step : -1;
    }
  }
  error_ = "no attempt was committed";
  return std::nullopt;
}

bool TestTrainer::Holds(std::int64_t step) const {
  return IsFilled(weights_, step, 1.0F) && IsFilled(moments_, step, 0.5F) &&
         IsFilled(base_, kBase, 1.0F);
}

}  // namespace holdfast::tests
