// Every failpoint of the sources with the passages at which a real process is killed there.  A test
// compares the names with the sources, so that a new one cannot be forgotten.
#pragma once

namespace holdfast::tests {

struct KillPoint {
  const char* name;  // of the case
  const char* failpoint;
  int passage;
};

// Passed by the daemon while a trainer trains, with one snapshot kept on the root.
inline constexpr KillPoint kDaemonKillPoints[] = {
    {"FirstRecord", "catalog.before_apply", 1},
    {"ThirdRecord", "catalog.before_apply", 3},
    {"AfterThirdRecord", "catalog.after_apply", 3},
    {"AfterEighthRecord", "catalog.after_apply", 8},
    {"InsideFourthWrite", "catalog.apply.before", 4},
    {"InsideSixthWriteAfterIt", "catalog.apply.after", 6},
    {"FirstSeal", "seal.before_record", 1},
    {"ThirdSeal", "seal.before_record", 3},
    {"AfterFirstSeal", "seal.after_record", 1},
    {"AfterThirdSeal", "seal.after_record", 3},
    {"BeforeFlush", "flush.before_image", 1},
    {"BeforeImage", "flush.image", 1},
    {"BeforeImageLink", "flush.before_image_link", 1},
    {"BeforeSecondImageLink", "flush.before_image_link", 2},
    {"BeforeSidecar", "flush.before_sidecar", 1},
    {"BeforeSecondSidecar", "flush.before_sidecar", 2},
    {"AfterFlush", "flush.after_image", 1},
    {"AfterSecondFlush", "flush.after_image", 2},
    {"BeforePublish", "flush.before_publish", 1},
    {"BeforeManifest", "publish.before_manifest", 1},
    {"BeforeManifestLink", "publish.before_link", 1},
    {"BeforeSecondManifestLink", "publish.before_link", 2},
    {"AfterManifest", "publish.after_manifest", 1},
    {"AfterTrashRename", "delete.after_rename", 1},
    {"BeforeTrashTree", "delete.before_tree", 1},
    {"SlotNamed", "arena.create.named", 1},
    {"SlotFill", "arena.create.fill", 2},
    {"SlotFilled", "arena.create.filled", 1},
    {"SecondSlot", "slot.prepare", 2},
    {"FirstConnection", "session.accepted", 1},
};

// Passed by the daemon while it opens a shard on a root for its trainer.
inline constexpr const char* kDaemonRestoreKillPoint = "restore.before_load";

// Passed by the daemon between telling two ranks the choice: tests/python/test_ranks.py kills
// there.
inline constexpr const char* kDaemonChoiceKillPoint = "restore.before_choice";

// Passed by daemons of two nodes that serve one job: tests/python/test_nodes.py kills each of them
// there.
inline constexpr const char* kNodesKillPoints[] = {"peer.before_send", "peer.before_answer"};

// Passed by the trainer: while it restores, then while it trains.
inline constexpr KillPoint kTrainerKillPoints[] = {
    {"InRestore", "client.restore.chunk", 2},
    {"BeforeLoaded", "client.before_loaded", 1},
    {"InCopy", "client.copy.chunk", 2},
    {"InLaterCopy", "client.copy.chunk", 8},
    {"BeforeSeal", "client.before_seal", 1},
    {"BeforeThirdSeal", "client.before_seal", 3},
    {"AfterSealSent", "client.after_seal_sent", 1},
    {"AfterThirdSealSent", "client.after_seal_sent", 3},
};

// Passed by what protects and rebuilds: tests/daemon/pipeline/protect_kill_test.cc kills a process
// that runs it there, tests/python/test_parity_kills.py the daemons of four nodes.
inline constexpr KillPoint kPeerKillPoints[] = {
    {"BeforeWindow", "protect.before_window", 1},
    {"BeforeThirdWindow", "protect.before_window", 3},
    {"BeforeEncode", "protect.before_encode", 1},
    {"BeforeLend", "protect.before_lend", 2},
    {"BeforeStripeDone", "protect.before_done", 1},
    {"BeforePull", "pull.before_window", 1},
    {"BeforeSecondPull", "pull.before_window", 2},
    {"BeforePulled", "pull.before_done", 1},
    {"BeforeShare", "share.before_window", 1},
    {"BeforeDecode", "rebuild.before_window", 1},
    {"BeforeSecondDecode", "rebuild.before_window", 2},
    {"BeforeShardDone", "rebuild.before_done", 1},
    {"BeforeRowDone", "rebuild.before_row_done", 1},
};

}  // namespace holdfast::tests
