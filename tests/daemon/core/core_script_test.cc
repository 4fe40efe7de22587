// Every file of scripts/ is a test of its name.  To record the output anew:
//   HOLDFAST_REWRITE=1 bazel run //tests/daemon/core:core_script_test

#include "tests/daemon/core/core_script.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/whole_file.h"

namespace holdfast::daemon {
namespace {

namespace fs = std::filesystem;

constexpr char kFolder[] = "tests/daemon/core/scripts";

// Also those that docs/invariants.md cites.
constexpr const char* kStories[] = {
    "a_node_scoped_tier_gives_no_margin",
    "abandoned_slot_waits_for_its_copies",
    "abandoned_while_the_daemon_digests",
    "absent_tier_is_tried_less_and_less",
    "all_complete_snapshots_are_bad",
    "attempt_numbers_survive_the_coordinator",
    "bad_chunk_in_memory_is_read_from_the_tier",
    "bad_file_on_the_tier_is_passed_over",
    "bad_snapshot_does_not_free_older_ones",
    "bad_static_image_poisons_all_that_share_it",
    "base_from_the_persistent_tier",
    "begins_while_daemon_was_away_count_as_missed",
    "claim_of_a_dead_start_ends_a_drain",
    "coordinator_of_old_incarnation_wakes_up",
    "coordinator_restarts_after_some_ranks_returned",
    "copied_job_file_takes_nobody",
    "daemon_restarts_while_slot_fills",
    "daemon_restarts_while_torn_copy_drains",
    "damaged_file_is_remembered_until_it_loads",
    "damaged_manifest_is_not_forgotten",
    "discarded_id_is_kept_while_it_is_the_safest",
    "discarded_id_never_counts_as_newer",
    "drain_makes_the_newest_durable",
    "failed_attempt_may_choose_the_same_id_again",
    "fallback_does_not_wait_for_ever",
    "fallback_is_the_id_with_the_most_margin",
    "fallback_waits_for_the_late_member",
    "finish_and_drop_give_memory_back",
    "finish_frees_what_was_being_made",
    "flush_gives_way_but_not_for_ever",
    "flushed_files_that_vanish_are_flushed_again",
    "free_is_synced_before_reuse",
    "given_up_flush_leaves_no_files",
    "growth_gives_way_to_a_promise",
    "half_filled_static_image_is_quarantined",
    "half_flushed_snapshot_is_removed",
    "half_loaded_state_never_becomes_complete",
    "half_sealed_id_of_an_old_incarnation_is_abandoned",
    "job_made_in_an_empty_mount_point",
    "layout_change_during_a_copy",
    "layout_change_keeps_old_snapshots",
    "lost_report_is_repaired_by_the_next",
    "lower_epoch_command_after_daemon_restart",
    "lower_epoch_command_changes_nothing",
    "many_ranks_that_never_ask_are_counted",
    "missed_step_is_abandoned_for_all",
    "missing_root_ends_a_drain",
    "new_epoch_keeps_old_snapshots",
    "no_rank_returns_before_all_loaded",
    "nothing_is_freed_while_restoring",
    "old_inventory_does_not_answer_new_attempt",
    "old_publish_does_not_stop_the_new_incarnation",
    "orphan_is_freed_after_its_time",
    "orphan_memory_is_given_back_when_needed",
    "orphan_memory_is_taken_only_where_it_helps",
    "rank_called_dead_comes_back_while_loading",
    "rank_that_left_keeps_nobody_waiting",
    "rank_that_never_asks_is_named",
    "ranks_that_train_without_restore_end_the_wait",
    "refusal_ends_the_restore_for_all",
    "refused_begin_does_not_keep_its_slot",
    "registration_that_does_not_fit_is_refused",
    "remains_of_a_lost_incarnation_are_freed",
    "restart_under_a_tight_budget",
    "retention_never_deletes_base_or_last",
    "same_step_of_two_incarnations_never_mixes",
    "seal_is_repeated_after_a_lost_connection",
    "second_start_waits_for_the_first",
    "several_rotten_shards_cost_no_attempt_each",
    "silent_client_of_a_dead_daemon",
    "silent_former_member_returns_with_newer_id",
    "silent_tier_does_not_hang_a_restore",
    "slot_of_dead_client_is_quarantined",
    "slots_are_made_next_to_the_gpu",
    "slots_count_whole_pages",
    "snapshot_that_kills_its_loaders_is_passed_over",
    "snapshot_that_went_bad_is_abandoned",
    "spoilt_slot_is_not_granted_again",
    "static_image_counts_in_the_admission",
    "static_image_is_compared_after_a_restart",
    "static_image_is_flushed_once",
    "static_image_is_sealed_once_though_seals_are_lost",
    "static_image_is_shared_until_nobody_names_it",
    "static_image_of_an_abandoned_snapshot_stays",
    "static_image_outlives_its_layout_and_the_daemon",
    "static_image_whose_owner_vanished_is_flushed_again",
    "step_choice_outlives_second_restart",
    "step_that_cannot_be_had_is_an_error",
    "the_source_that_failed_least_is_taken",
    "third_slot_never_refuses_a_rank",
    "tier_fails_backs_off_heals",
    "tier_that_is_away_is_not_nothing",
    "torn_slot_drains_before_reuse",
    "trainers_that_have_not_come_back_are_alive",
    "training_after_an_error_goes_on",
    "training_without_restore_keeps_the_newest",
    "twin_trainer_is_refused",
    "two_seals_wait_for_their_digests",
    "two_starts_with_the_same_number",
    "user_returns_to_a_discarded_step",
};

bool Rewriting() {
  return std::getenv("HOLDFAST_REWRITE") != nullptr;  // NOLINT(concurrency-mt-unsafe): one thread
}

fs::path Folder() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  return Rewriting() && workspace != nullptr ? fs::path(workspace) / kFolder : fs::path(kFolder);
}

std::vector<std::string> ScriptNames() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(Folder(), error)) {
    if (entry.path().extension() == ".txt") {
      names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

class CoreScriptTest : public ::testing::TestWithParam<std::string> {};

TEST_P(CoreScriptTest, DoesWhatItsScriptExpects) {
  const fs::path path = Folder() / (GetParam() + ".txt");
  const std::string text = WholeFile(path);
  ASSERT_FALSE(text.empty()) << path;
  const ScriptResult result = RunScriptText(text);
  for (const std::string& failure : result.failures) {
    if (!Rewriting() || failure.find("recorded:") == std::string::npos) {
      ADD_FAILURE() << failure;
    }
  }
  if (Rewriting()) {
    std::ofstream(path) << result.rewritten;
  }
}

INSTANTIATE_TEST_SUITE_P(Scripts,
                         CoreScriptTest,
                         ::testing::ValuesIn(ScriptNames()),
                         [](const auto& script) { return script.param; });

// A script that is lost, or never found its way into the build, would pass unseen.
TEST(CoreScriptFolderTest, HasEveryStoryOfTheCatalogue) {
  EXPECT_THAT(ScriptNames(), ::testing::ElementsAreArray(kStories));
}

}  // namespace
}  // namespace holdfast::daemon
