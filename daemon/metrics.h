// The Prometheus endpoint.
//
// The io thread hands over a set of samples once a second; the endpoint's own threads serve the
// last set.  A scraper, however slow or many, never touches the daemon's state.
//
// Threads:   Publish on the io thread; scrapes on the library's threads; the samples are under a
//            mutex.
// Ownership: owns the endpoint.
// Errors:    Open: kInvalidArgument or kIoError naming the address; the daemon does not start then,
//            since an endpoint that silently is not there is an alert that never fires.
// Lifecycle: construct -> Open, if an address is configured -> Publish.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/result.h"
#include "daemon/metric_names.h"
#include "daemon/traffic_counters.h"

namespace holdfast::daemon {

struct Sample {
  const MetricName* metric;
  std::string label;  // value of the metric's label
  double value = 0;
  const DurationHistogram* histogram = nullptr;  // copied by Publish
};

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  [[nodiscard]] Status Open(const std::string& address);

  // True where somebody could scrape.
  [[nodiscard]] bool on() const { return endpoint_ != nullptr; }

  void Publish(const std::vector<Sample>& samples);

  // The table of all metrics in Markdown.
  [[nodiscard]] static std::string Documentation();

 private:
  class Store;
  class Endpoint;
  const std::shared_ptr<Store> store_;
  std::unique_ptr<Endpoint> endpoint_;
};

}  // namespace holdfast::daemon
