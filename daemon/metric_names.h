// Every metric of the daemon: name, type, unit, labels, meaning.  The endpoint and the documents
// are made from this table; a metric that is not in it cannot be published.
//
// Threads: constants.
#pragma once

#include <string_view>

namespace holdfast::daemon {

enum class MetricType { kCounter, kGauge, kHistogram };

struct MetricName {
  std::string_view name;
  MetricType type;
  std::string_view unit;
  std::string_view label;  // empty: none
  std::string_view help;
};

inline constexpr MetricName kUpInfo{"holdfast_info",
                                    MetricType::kGauge,
                                    "1",
                                    "version",
                                    "Always 1; the label is the version of the daemon."};
inline constexpr MetricName kUptime{
    "holdfast_uptime_seconds", MetricType::kGauge, "seconds", "", "Since this daemon started."};
inline constexpr MetricName kBoots{
    "holdfast_boot_number",
    MetricType::kGauge,
    "count",
    "",
    "Starts of a daemon on this state folder; rises when it crashes."};
inline constexpr MetricName kResident{"holdfast_resident_bytes",
                                      MetricType::kGauge,
                                      "bytes",
                                      "",
                                      "Memory of the process without the arena's files."};
inline constexpr MetricName kSessions{
    "holdfast_sessions", MetricType::kGauge, "count", "", "Connected clients."};
inline constexpr MetricName kJobsLive{
    "holdfast_jobs_live", MetricType::kGauge, "count", "", "Jobs with a connected rank."};
inline constexpr MetricName kSealed{"holdfast_snapshots_sealed_total",
                                    MetricType::kCounter,
                                    "count",
                                    "",
                                    "Shards sealed on this node."};
inline constexpr MetricName kMissed{
    "holdfast_snapshots_missed_total",
    MetricType::kCounter,
    "count",
    "reason",
    "Steps that a rank skipped (no_slot: no slot, or the daemon was away) or gave up (torn)."};
inline constexpr MetricName kComplete{"holdfast_snapshots_complete_total",
                                      MetricType::kCounter,
                                      "count",
                                      "",
                                      "Snapshots that every rank sealed."};
inline constexpr MetricName kAbandoned{"holdfast_snapshots_abandoned_total",
                                       MetricType::kCounter,
                                       "count",
                                       "",
                                       "Snapshots given up because a rank missed them."};
inline constexpr MetricName kSealSeconds{"holdfast_seal_seconds",
                                         MetricType::kHistogram,
                                         "seconds",
                                         "",
                                         "From a client's seal request to the synced answer."};
inline constexpr MetricName kArenaBytes{"holdfast_arena_bytes",
                                        MetricType::kGauge,
                                        "bytes",
                                        "state",
                                        "Memory of the arena: budget, used, quarantined."};
inline constexpr MetricName kArenaSlots{"holdfast_arena_slots",
                                        MetricType::kGauge,
                                        "count",
                                        "state",
                                        "Slots of the arena: free, filling, sealed."};
inline constexpr MetricName kCatalogSeconds{"holdfast_catalog_sync_seconds",
                                            MetricType::kHistogram,
                                            "seconds",
                                            "",
                                            "One synced write of the catalog."};
inline constexpr MetricName kCatalogFailures{"holdfast_catalog_failures_total",
                                             MetricType::kCounter,
                                             "count",
                                             "",
                                             "Writes of the catalog that failed."};
inline constexpr MetricName kCatalogHealthy{
    "holdfast_catalog_healthy",
    MetricType::kGauge,
    "0 or 1",
    "",
    "0 while the catalog cannot be written, or a write hangs: nothing seals."};
inline constexpr MetricName kFlushBytes{"holdfast_flush_bytes_total",
                                        MetricType::kCounter,
                                        "bytes",
                                        "root",
                                        "Bytes of images written to a root."};
inline constexpr MetricName kFlushSeconds{"holdfast_flush_seconds_total",
                                          MetricType::kCounter,
                                          "seconds",
                                          "root",
                                          "Time spent in finished flushes."};
inline constexpr MetricName kFlushes{
    "holdfast_flushes_total", MetricType::kCounter, "count", "root", "Shards flushed."};
inline constexpr MetricName kFlushFailures{
    "holdfast_flush_failures_total", MetricType::kCounter, "count", "root", "Flushes that failed."};
inline constexpr MetricName kTierTimeouts{"holdfast_tier_timeouts_total",
                                          MetricType::kCounter,
                                          "count",
                                          "root",
                                          "Calls into a root that did not end in time."};
inline constexpr MetricName kTierHealthy{"holdfast_tier_healthy",
                                         MetricType::kGauge,
                                         "0 or 1",
                                         "root",
                                         "0 while calls into a root fail or hang."};
inline constexpr MetricName kRestores{"holdfast_restore_requests_total",
                                      MetricType::kCounter,
                                      "count",
                                      "",
                                      "Ranks that asked for a restore, each attempt."};
inline constexpr MetricName kRestoreFailures{"holdfast_restore_failures_total",
                                             MetricType::kCounter,
                                             "count",
                                             "",
                                             "Loads that a rank reported as failed."};
inline constexpr MetricName kMismatches{"holdfast_digest_mismatches_total",
                                        MetricType::kCounter,
                                        "count",
                                        "",
                                        "Chunks or shards that did not match their digest."};
inline constexpr MetricName kPoisoned{"holdfast_slots_poisoned_total",
                                      MetricType::kCounter,
                                      "count",
                                      "",
                                      "Slots whose file a client cut under the daemon."};
inline constexpr MetricName kPrepareFailures{"holdfast_slot_prepare_failures_total",
                                             MetricType::kCounter,
                                             "count",
                                             "",
                                             "Slots that could not be made (memory is short)."};
inline constexpr MetricName kCompleteStep{"holdfast_complete_step",
                                          MetricType::kGauge,
                                          "step",
                                          "job",
                                          "Newest snapshot that all ranks have, of jobs with one."};
inline constexpr MetricName kProtectedStep{
    "holdfast_protected_step",
    MetricType::kGauge,
    "step",
    "job",
    "Newest snapshot with all its parity, of jobs that have one and several nodes."};
inline constexpr MetricName kMargin{"holdfast_margin",
                                    MetricType::kGauge,
                                    "nodes",
                                    "job",
                                    "Of each group, that may still be lost with that snapshot."};
inline constexpr MetricName kRows{
    "holdfast_parity_rows_total", MetricType::kCounter, "count", "", "Rows of parity made here."};
inline constexpr MetricName kRowBytes{
    "holdfast_parity_bytes_total", MetricType::kCounter, "bytes", "", "Of them."};
inline constexpr MetricName kRowsFailed{"holdfast_parity_failures_total",
                                        MetricType::kCounter,
                                        "count",
                                        "",
                                        "Rows that could not be made; each is tried again."};
inline constexpr MetricName kShardsBrought{"holdfast_shards_brought_total",
                                           MetricType::kCounter,
                                           "count",
                                           "",
                                           "Shards pulled from other nodes or rebuilt here."};
inline constexpr MetricName kShardSeconds{
    "holdfast_shards_brought_seconds_total", MetricType::kCounter, "seconds", "", "They took."};
inline constexpr MetricName kPeersConnected{"holdfast_peers_connected",
                                            MetricType::kGauge,
                                            "count",
                                            "",
                                            "Other nodes whose daemon is connected."};
inline constexpr MetricName kPeerMessages{"holdfast_peer_messages_total",
                                          MetricType::kCounter,
                                          "count",
                                          "kind",
                                          "Reports and commands sent to other nodes."};
inline constexpr MetricName kPeerUnanswered{
    "holdfast_peer_messages_unanswered_total",
    MetricType::kCounter,
    "count",
    "",
    "Of them, those that were refused, or not answered in time; they are repeated."};
inline constexpr MetricName kPeerReadBytes{"holdfast_peer_read_bytes_total",
                                           MetricType::kCounter,
                                           "bytes",
                                           "plane",
                                           "Of images and rows that came from other nodes."};
inline constexpr MetricName kPeerFabricFallbacks{
    "holdfast_peer_fabric_fallbacks_total",
    MetricType::kCounter,
    "count",
    "",
    "Times that a node's fabric was given up for a while, and its connection used."};
inline constexpr MetricName kPeerLent{"holdfast_peer_lent",
                                      MetricType::kGauge,
                                      "count",
                                      "",
                                      "Images, rows and rings that are lent over the fabric now."};
inline constexpr MetricName kPeerRefused{"holdfast_peer_refusals_total",
                                         MetricType::kCounter,
                                         "count",
                                         "reason",
                                         "What peers did that they may not."};

inline constexpr MetricName kCertificateEnd{
    "holdfast_peer_certificate_end_seconds",
    MetricType::kGauge,
    "seconds",
    "",
    "Unix time from which peers refuse this node's certificate; 0: it has none."};

inline constexpr const MetricName* kAllMetrics[] = {
    &kUpInfo,        &kUptime,         &kBoots,           &kResident,
    &kSessions,      &kJobsLive,       &kSealed,          &kMissed,
    &kComplete,      &kAbandoned,      &kSealSeconds,     &kArenaBytes,
    &kArenaSlots,    &kCatalogSeconds, &kCatalogFailures, &kCatalogHealthy,
    &kFlushBytes,    &kFlushSeconds,   &kFlushes,         &kFlushFailures,
    &kTierTimeouts,  &kTierHealthy,    &kRestores,        &kRestoreFailures,
    &kMismatches,    &kPoisoned,       &kPrepareFailures, &kPeersConnected,
    &kPeerMessages,  &kPeerUnanswered, &kPeerReadBytes,   &kPeerFabricFallbacks,
    &kPeerLent,      &kPeerRefused,    &kCompleteStep,    &kProtectedStep,
    &kMargin,        &kRows,           &kRowBytes,        &kRowsFailed,
    &kShardsBrought, &kShardSeconds,   &kCertificateEnd};

}  // namespace holdfast::daemon
