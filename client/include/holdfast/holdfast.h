/* libholdfast, C ABI: snapshots of one training process into the holdfastd of its node.
 *
 *   hf_connect -> [hf_make_card, hf_set_nodes] -> [rank 0: hf_open_incarnation] -> hf_join
 *     -> hf_set_layout
 *     -> hf_restore_* (once) -> { hf_fence, update, hf_snapshot }* -> hf_drain -> hf_close
 *
 * Conventions
 *   Every function returns HF_OK (0) or an hf_code; hf_last_error() then has one line that says
 * what was wrong, where, and what to do.  No function throws, aborts or prints. "in" pointers are
 * borrowed for the call unless the comment says longer; strings are UTF-8 and end with 0.  Sizes
 * are bytes, times are milliseconds unless the name says otherwise.
 *
 * Threads
 *   One hf_client may be used from several threads, but hf_snapshot, hf_fence and hf_set_layout of
 * one client must not run at the same time as each other: they belong to the training loop.
 *   hf_last_error is thread-local.
 *
 * fork
 *   The child of a fork must not use a client of its parent: an atfork handler closes the socket
 * there and every call answers HF_FORKED.  Slot mappings are not inherited.
 *
 * Versions
 *   hf_abi_version() is raised when a struct or a meaning changes; a caller that was built for
 * another must refuse to run.
 */
#ifndef HOLDFAST_HOLDFAST_H_
#define HOLDFAST_HOLDFAST_H_

#include <stddef.h>
#include <stdint.h>

#include "holdfast/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* NOLINTBEGIN(readability-identifier-naming): C has no namespaces. */

#define HF_ABI_VERSION 6u
#define HF_EXPORT __attribute__((visibility("default")))

typedef struct hf_client hf_client;
typedef struct hf_restore hf_restore;

HF_EXPORT uint32_t hf_abi_version(void);
/* "0.1.0", and which copy engines this library has: "0.1.0 (host)", "0.1.0 (host, cuda 13.0)". */
HF_EXPORT const char* hf_version(void);
/* Text of this thread's last failure; valid until its next call into the library.  Never NULL. */
HF_EXPORT const char* hf_last_error(void);
/* Arms failpoints (common/failpoint.h); for tests and the demo. */
HF_EXPORT int hf_arm_failpoints(const char* specification);

/* ---- connection and identity ------------------------------------------------------------------
 */

typedef struct hf_options {
  uint32_t struct_size;  /* sizeof(hf_options): guards against another header */
  uint32_t copy_threads; /* threads that copy and digest; 0: 1, for GPUs as many as keep up */
  uint32_t slots_wanted; /* slots of the arena for this rank, 2 or more; 0: daemon's default */
  uint32_t small_tensor_bytes; /* STABLE tensors up to this size (on a GPU: up to 64 KiB, if
                                * that is more) are copied inside hf_snapshot */
  uint32_t begin_wait_ms;      /* how long hf_snapshot may wait for a free slot; 0: not at all */
  uint32_t request_timeout_ms; /* for requests that the daemon answers at once; 0: 10,000 */
  double sample_fraction;      /* share of each STABLE tensor's bytes that is read again; 0: 0.01 */
  /* For state on GPUs. */
  uint32_t verify_every; /* digest the state on the device at every so many snapshots; 0: never */
  uint32_t staging_percent; /* of free device memory, for updates that come before the copies end */
  uint64_t gather_bytes;    /* most that is copied at once on a device; 0: 64 MiB */
} hf_options;

/* Fills in the defaults (struct_size, 16 KiB, no wait, 10 s, 0.01, no device digests, 50 %, 64
 * MiB).
 */
HF_EXPORT void hf_options_init(hf_options* options);

/* Connects to the daemon at "socket_path" (NULL "options": the defaults).  HF_UNAVAILABLE where no
 * daemon answers within "timeout_ms", HF_VERSION_MISMATCH, HF_PERMISSION.  Later losses of the
 * connection are repaired in the background for as long as the client lives. */
HF_EXPORT int hf_connect(const char* socket_path,
                         const hf_options* options,
                         uint32_t timeout_ms,
                         hf_client** out);

/* Ends the copy threads (waiting for copies under way), closes the connection, frees the client.
 * What is sealed stays in the daemon.  NULL is allowed. */
HF_EXPORT void hf_close(hf_client* client);

typedef struct hf_tier {
  const char* root;       /* absolute path of a persistent folder */
  uint32_t node_scope;    /* 0: a file system that all nodes share; 1: a local disk */
  uint64_t every_steps;   /* flush complete snapshots whose step is a multiple; 0: not by steps */
  uint64_t every_seconds; /* flush at most this long after the last one; 0: not by time */
  uint32_t keep_last;     /* durable snapshots to keep, at least 1 */
  uint64_t keep_every_steps; /* of these steps every one is kept; 0: none */
} hf_tier;

typedef struct hf_incarnation {
  uint8_t job_uid[16];
  uint64_t number;
  uint64_t token;
} hf_incarnation;

/* Of a job on several nodes every rank must know which daemon serves which rank, and rank 0's
 * daemon what the others remember of the job.  Each rank makes a card; the caller hands the cards
 * of all ranks to all ranks (an allgather); each rank passes them on.  Without, this node serves
 * all. */
#define HF_CARD_BYTES 1024u

typedef struct hf_card {
  uint8_t bytes[HF_CARD_BYTES]; /* opaque */
} hf_card;

/* What this rank's daemon says of its node and of the job. */
HF_EXPORT int hf_make_card(hf_client* client, const char* job_name, hf_card* out);

/* Before hf_open_incarnation and hf_join.  "cards"[i] is rank i's, "count" the world size; "tiers"
 * as rank 0 opens with.  HF_INVALID_ARGUMENT: the ranks are on several nodes, and a daemon has no
 * peers (peer.listen). */
HF_EXPORT int hf_set_nodes(
    hf_client* client, const hf_card* cards, size_t count, const hf_tier* tiers, size_t tier_count);

/* Rank 0 only: starts a new incarnation of the job and fences all older ones.  The caller hands
 * "out" to all ranks through the job's own store.  While other processes train the job on this node
 * it waits for their end, then fails (already exists, with their numbers); "take_over" not 0:
 * fences them although they live. */
HF_EXPORT int hf_open_incarnation(hf_client* client,
                                  const char* job_name,
                                  uint32_t world_size,
                                  const hf_tier* tiers,
                                  size_t tier_count,
                                  uint32_t take_over,
                                  hf_incarnation* out);

/* Makes this client rank "rank" of that incarnation.  Needed before hf_set_layout. */
HF_EXPORT int hf_join(hf_client* client,
                      const char* job_name,
                      const hf_incarnation* incarnation,
                      uint32_t rank,
                      uint32_t world_size);

/* ---- layout -----------------------------------------------------------------------------------
 */

typedef struct hf_tensor {
  const char* name;      /* unique, 1 to 1024 bytes */
  uint32_t dtype;        /* hf_dtype */
  uint32_t tensor_class; /* hf_class */
  uint32_t global_ndim;
  uint32_t local_ndim;
  const uint64_t* global_shape; /* [global_ndim] elements */
  const uint64_t* local_shape;  /* [local_ndim] elements, of what this rank holds */
  uint32_t box_count;           /* 0: the whole tensor */
  uint32_t opaque;              /* 1: the part cannot be expressed */
  const uint64_t* boxes; /* [box_count][2][global_ndim]: offsets, then lengths, of each box */
  uint32_t has_flat_range;
  uint32_t replica_id;
  uint64_t flat_offset; /* elements of the concatenated boxes */
  uint64_t flat_length;
  const char* alias_of; /* a tensor listed before whose storage this is entirely; or NULL */
  uint32_t on_device;   /* 0: host memory; 1: memory of CUDA device "device" */
  int32_t device;
} hf_tensor;

/* Stands for host memory where an array has a device number for each tensor. */
#define HF_HOST (-1)

/* Registers a layout with the daemon (again whenever names, shapes or types change; snapshots of
 * the old layout stay).  HF_NO_SPACE says how much memory is needed and how much is free.  Slots
 * are made in the background: a snapshot before the first is ready is skipped.
 * HF_INVALID_ARGUMENT while a copy is under way: hf_fence comes first.
 * HF_UNAVAILABLE at once while no daemon is connected, HF_TIMEOUT after request_timeout_ms. */
HF_EXPORT int hf_set_layout(hf_client* client, const hf_tensor* tensors, size_t count);

/* The same, waiting "wait_ms" at most, for the training loop.  After HF_TIMEOUT the registration
 * goes on in the background: the same call again joins it. */
HF_EXPORT int hf_set_layout_within(hf_client* client,
                                   const hf_tensor* tensors,
                                   size_t count,
                                   uint32_t wait_ms);

/* Tensors of the layout in force, by index, that must be all zero in every snapshot: one where they
 * are not is torn.  For checks that a device answers later than hf_snapshot may wait.  Replaces the
 * list before; hf_set_layout empties it.  HF_INVALID_ARGUMENT for an index without bytes of its own
 * (an alias, an empty tensor, HF_CONSTANT). */
HF_EXPORT int hf_expect_zero(hf_client* client, const uint32_t* indices, size_t count);

/* Whether a slot is granted and ready, waiting up to "timeout_ms" for it. */
HF_EXPORT int hf_wait_ready(hf_client* client, uint32_t timeout_ms);

/* ---- snapshot and fence -----------------------------------------------------------------------
 */

typedef struct hf_state_item {
  const char* name;
  const char* json;   /* a JSON document, or NULL */
  const void* pickle; /* used where json is NULL */
  size_t pickle_bytes;
} hf_state_item;

typedef struct hf_strides {
  uint32_t tensor;        /* index in the layout */
  uint32_t ndim;          /* local_ndim of that tensor */
  const int64_t* strides; /* [ndim] elements, not negative */
} hf_strides;

/* A stream on which the trainer works: a cudaStream_t of the runtime or driver API, NULL for the
 * default stream.  It must live until the fence has returned. */
typedef struct hf_stream {
  int32_t device;
  uint32_t reserved; /* 0 */
  void* stream;
} hf_stream;

typedef struct hf_begin {
  uint32_t started;      /* 1: copies are under way; 0: skipped, counted, reported as missed */
  char reason[256];      /* why it was skipped */
  uint64_t bytes;        /* that it copies: of the tensors that are not HF_CONSTANT */
  uint64_t static_bytes; /* and of the HF_CONSTANT ones: 0 but for the first of their layout */
} hf_begin;

/* Takes snapshot "step" (0 or more, higher than the last).  "pointers"[i] is where tensor i of the
 * layout starts now (NULL for aliases and empty tensors); tensors not named in "strides" are
 * contiguous.  STAGED and small tensors are copied before this returns; the memory of the others
 * must stay valid and unwritten until hf_fence has returned.  "streams" has one stream for each
 * device that holds tensors: what was given to it before counts as written, and tensors on that
 * device must be contiguous.  The caller's thread never waits for a device; a stream that is being
 * captured into a CUDA graph is an error.  Returns HF_OK also where it was skipped; HF_FENCED when
 * a newer incarnation exists. */
HF_EXPORT int hf_snapshot(hf_client* client,
                          int64_t step,
                          const void* const* pointers,
                          size_t count,
                          const hf_strides* strides,
                          size_t strides_count,
                          const hf_stream* streams,
                          size_t stream_count,
                          const hf_state_item* state,
                          size_t state_count,
                          hf_begin* out);

/* Says that there is no snapshot of "step", because no layout is in force: counted as skipped,
 * reported as missed. */
HF_EXPORT int hf_skip(hf_client* client, int64_t step, const char* reason);

/* Waits until the snapshot under way is copied and its sample checked; at once where there is none.
 * Never needs the daemon.  HF_TORN: the sources were written meanwhile (hf_last_error names the
 * tensor); that snapshot is given up, training may go on.
 * For tensors on devices it waits on the host only until every copy is issued; the streams of
 * hf_snapshot, and "streams" beside them, then wait on the device.  How such a snapshot ended is
 * told by a later hf_fence. */
HF_EXPORT int hf_fence(hf_client* client, const hf_stream* streams, size_t stream_count);

/* Up to "capacity" indices, rising, and the number of HF_CONSTANT tensors that were found written
 * since they were copied.  That snapshot is torn, all later ones are skipped until another layout
 * is set, with another class for them (the same one again: what they hold now is copied anew). */
HF_EXPORT int hf_not_constant(hf_client* client, uint32_t* indices, size_t capacity, size_t* count);

/* Waits until no sealing is under way any more for steps up to "step".  HF_ABANDONED if that step
 * was given up, HF_TIMEOUT. */
HF_EXPORT int hf_wait_sealed(hf_client* client, int64_t step, uint32_t timeout_ms);

typedef struct hf_stats {
  uint64_t begun, sealed, skipped, torn, failed; /* snapshots */
  uint64_t copied_bytes;
  uint64_t copy_ns, fence_wait_ns, snapshot_ns; /* sums */
  uint64_t last_copy_ns, last_fence_wait_ns, last_snapshot_ns;
  uint64_t reconnects;
  int64_t last_begun_step, last_sealed_step; /* -1: none */
  int64_t last_complete_step,
      last_durable_step;                        /* of this incarnation, as far as heard; -1: none */
  uint64_t device_wait_ns, last_device_wait_ns; /* updates stood still on the GPU for copies */
  uint64_t pinned_slots,
      unpinned_slots;           /* unpinned: copies from GPUs take a multiple of the time */
  uint64_t static_copied_bytes; /* of HF_CONSTANT tensors; copied_bytes has the others */
  uint64_t image_bytes;         /* of the layout in force: what each snapshot takes */
  uint64_t static_bytes;        /* of it: what all of them share; 0: nothing */
  uint64_t unpinned_bytes,      /* copied from GPUs into memory that could not be pinned, */
      unpinned_copy_ns;         /* and how long that took */
  uint32_t connected;           /* 1: a daemon answers now */
  uint32_t fenced;              /* 1: a newer incarnation exists */
  char note[256]; /* why copies or the restore are slow, or checked less than asked, one
                     reason a line; empty: they are not */
} hf_stats;

HF_EXPORT int hf_get_stats(hf_client* client, hf_stats* out);

/* Why no daemon serves this client, cut to fit: "holdfastd is away", with the reason where one is
 * there and does not take the client back.  Empty: one serves it, or it is fenced. */
HF_EXPORT int hf_why_away(hf_client* client, char* reason, size_t reason_bytes);

/* ---- restore ----------------------------------------------------------------------------------
 */

typedef struct hf_restore_choice {
  uint32_t attempt;
  uint32_t has_choice; /* 0: there is nothing to restore */
  uint64_t incarnation;
  int64_t step;
  const char* source; /* "arena" or "persistent <root>"; lives as long as the hf_restore */
  const char* log;    /* newer snapshots that could not be had, one a line; lives as long */
} hf_restore_choice;

typedef enum hf_restore_flags {
  HF_RESTORE_INCLUDE_DISCARDED = 1, /* a discarded snapshot of that step may be chosen */
  HF_RESTORE_OVERWRITTEN = 2 /* a failed attempt wrote into the initial state: where no snapshot is
                                left, an error on all ranks instead of a start from nothing */
} hf_restore_flags;

/* Waits for the common choice of all ranks: every rank calls it.  "named_step" -1: the newest that
 * every rank can get back; else that step, or HF_NOT_FOUND.  "after_attempt": 0 at first, then the
 * attempt that hf_restore_finish ended without commit.  Free "*out" with hf_restore_free.
 * A source that cannot be used (a cut file) is told by the calls on "*out", which must be finished
 * like any other.  HF_UNAVAILABLE names ranks that did not ask. */
HF_EXPORT int hf_restore_begin(hf_client* client,
                               int64_t named_step,
                               uint32_t flags, /* of hf_restore_flags */
                               uint32_t after_attempt,
                               uint32_t timeout_ms,
                               hf_restore** out,
                               hf_restore_choice* choice);

/* The sidecar (proto/manifest.proto Sidecar) in protobuf's JSON mapping with original field names:
 * tensors with names, types, shapes, places and the state items.  Lives as long as the hf_restore.
 */
HF_EXPORT int hf_restore_sidecar(hf_restore* restore, const char** json, size_t* json_bytes);

/* Copies tensors out of the image: tensor "indices"[i] of the sidecar's layout to
 * "destinations"[i], contiguous, "lengths"[i] bytes (must equal the tensor's), in the memory of
 * "devices"[i] (NULL: all in host memory).  Copies to devices have ended when it returns, and no
 * byte reaches a device before its chunk was checked.  "threads" 0: one, to devices three for every
 * four processors, at most 24; but at least eight read a file, whatever is asked for: most of the
 * time they wait for it.  Every chunk read is checked against its digest; on HF_CORRUPTION the
 * destinations hold rubbish and the attempt must be finished as bad. */
HF_EXPORT int hf_restore_load(hf_restore* restore,
                              const uint32_t* indices,
                              void* const* destinations,
                              const uint64_t* lengths,
                              const int32_t* devices,
                              size_t count,
                              uint32_t threads);

/* Tells the daemon whether this rank has loaded, and waits for all ranks.  "*committed" = 1:
 * training may go on; 0: call hf_restore_begin again with this attempt.  Pass "failure" NULL for
 * success. A failure after HF_CORRUPTION marks the source as bad by itself.
 * HF_INVALID_ARGUMENT: another rank has refused, the text has its words; the restore is over. */
HF_EXPORT int hf_restore_finish(hf_restore* restore,
                                const char* failure,
                                uint32_t timeout_ms,
                                uint32_t* committed);

/* Instead of hf_restore_finish: no snapshot can help this rank (its objects do not fit, say).  The
 * restore ends on all ranks with "reason" as its error. */
HF_EXPORT int hf_restore_refuse(hf_restore* restore, const char* reason, uint32_t timeout_ms);

HF_EXPORT void hf_restore_free(hf_restore* restore);

/* ---- end --------------------------------------------------------------------------------------
 */

typedef struct hf_drained {
  uint64_t incarnation;
  int64_t step;     /* newest sealed snapshot, -1: none */
  uint32_t durable; /* 1: on every persistent tier of the job */
  char reason[256]; /* why it is not */
} hf_drained;

/* Waits until the newest snapshot is durable on every tier of the job (complete, where it has
 * none). */
HF_EXPORT int hf_drain(hf_client* client, uint32_t timeout_ms, hf_drained* out);

typedef struct hf_flushing {
  char root[256];       /* of the persistent tier; cut to fit */
  char last_error[256]; /* empty: the last call into it succeeded */
  uint64_t incarnation; /* of the snapshot that is to become durable there now */
  int64_t step;         /* of it; -1: none is under way */
  uint64_t bytes;       /* of this node's shards of it */
  uint64_t done_bytes;  /* of these: written */
} hf_flushing;

/* How far the way to each of the *count tiers of the job is: fills up to "capacity" entries.  For
 * another thread than the one that waits in hf_drain. */
HF_EXPORT int hf_flush_progress(hf_client*, hf_flushing* out, uint32_t capacity, uint32_t* count);

/* Releases the job's memory on this node.  Durable snapshots stay. */
HF_EXPORT int hf_finish(hf_client* client, uint64_t* freed_bytes);

/* NOLINTEND(readability-identifier-naming) */

#ifdef __cplusplus
}
#endif

#endif /* HOLDFAST_HOLDFAST_H_ */
