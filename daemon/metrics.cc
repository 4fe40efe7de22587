#include "daemon/metrics.h"

#include <exception>
#include <limits>
#include <map>
#include <utility>

#include <prometheus/client_metric.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include "common/mutex.h"

namespace holdfast::daemon {
namespace {

std::string_view TypeText(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return "counter";
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kHistogram:
      return "histogram";
  }
  return "gauge";
}

prometheus::MetricType TypeOf(MetricType type) {
  switch (type) {
    case MetricType::kCounter:
      return prometheus::MetricType::Counter;
    case MetricType::kGauge:
      return prometheus::MetricType::Gauge;
    case MetricType::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

void FillHistogram(const DurationHistogram& from, prometheus::ClientMetric::Histogram* to) {
  to->sample_count = from.count();
  to->sample_sum = from.sum();
  for (std::size_t i = 0; i < DurationHistogram::kBounds.size(); ++i) {
    prometheus::ClientMetric::Bucket bucket;
    bucket.cumulative_count = from.buckets()[i];
    bucket.upper_bound = DurationHistogram::kBounds[i];
    to->bucket.push_back(bucket);
  }
  prometheus::ClientMetric::Bucket all;
  all.cumulative_count = from.count();
  all.upper_bound = std::numeric_limits<double>::infinity();
  to->bucket.push_back(all);
}

prometheus::ClientMetric MetricOf(const Sample& sample) {
  prometheus::ClientMetric metric;
  if (!sample.metric->label.empty()) {
    prometheus::ClientMetric::Label label;
    label.name = std::string(sample.metric->label);
    label.value = sample.label;
    metric.label.push_back(std::move(label));
  }
  if (sample.histogram != nullptr) {
    FillHistogram(*sample.histogram, &metric.histogram);
  } else if (sample.metric->type == MetricType::kCounter) {
    metric.counter.value = sample.value;
  } else {
    metric.gauge.value = sample.value;
  }
  return metric;
}

}  // namespace

// The last set of samples, as the library wants them.
class Metrics::Store : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override {
    MutexLock lock(mutex_);
    return families_;
  }

  void Set(std::vector<prometheus::MetricFamily> families) {
    MutexLock lock(mutex_);
    families_.swap(families);
  }

 private:
  mutable Mutex mutex_;
  std::vector<prometheus::MetricFamily> families_ HF_GUARDED_BY(mutex_);
};

class Metrics::Endpoint {
 public:
  explicit Endpoint(const std::string& address) : exposer_(address, 1) {}

  void Serve(const std::shared_ptr<Store>& store) { exposer_.RegisterCollectable(store); }

 private:
  prometheus::Exposer exposer_;
};

Metrics::Metrics() : store_(std::make_shared<Store>()) {}

Metrics::~Metrics() = default;

Status Metrics::Open(const std::string& address) {
  try {
    endpoint_ = std::make_unique<Endpoint>(address);
    endpoint_->Serve(store_);
  } catch (const std::exception& e) {
    endpoint_.reset();
    return Error(Errc::kIoError,
                 "metrics on " + address + ": " + e.what() +
                     "; is the port taken? Set daemon.metrics to another, or to off");
  }
  return Ok();
}

void Metrics::Publish(const std::vector<Sample>& samples) {
  std::map<const MetricName*, prometheus::MetricFamily> by_name;
  for (const Sample& sample : samples) {
    prometheus::MetricFamily& family = by_name[sample.metric];
    family.name = std::string(sample.metric->name);
    family.help = std::string(sample.metric->help);
    family.type = TypeOf(sample.metric->type);
    family.metric.push_back(MetricOf(sample));
  }
  std::vector<prometheus::MetricFamily> families;
  families.reserve(by_name.size());
  for (const MetricName* metric : kAllMetrics) {
    const auto found = by_name.find(metric);
    if (found != by_name.end()) {
      families.push_back(std::move(found->second));
    }
  }
  store_->Set(std::move(families));
}

std::string Metrics::Documentation() {
  std::string text =
      "| metric | type | unit | label | meaning |\n| --- | --- | --- | --- | --- |\n";
  for (const MetricName* metric : kAllMetrics) {
    text += "| `" + std::string(metric->name) + "` | " + std::string(TypeText(metric->type)) +
            " | " + std::string(metric->unit) + " | " + std::string(metric->label) + " | " +
            std::string(metric->help) + " |\n";
  }
  return text;
}

}  // namespace holdfast::daemon
