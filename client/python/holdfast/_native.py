"""ctypes declarations of client/include/holdfast/holdfast.h, and where the native files are found.

An installed wheel has the library in holdfast/_lib and the programs holdfastd and holdfast in
holdfast/_bin; in a checkout HOLDFAST_LIBRARY names the library and HOLDFAST_BIN the folder of the
programs.
Nothing here is compiled; what guards against another header is hf_abi_version() and the size of
hf_options that the library itself fills in.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pathlib
from ctypes import POINTER, c_char, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t
from ctypes import c_uint8, c_uint32, c_uint64, c_void_p

from holdfast._version import ABI_VERSION
from holdfast.errors import LibraryNotFoundError, VersionMismatchError

_PACKAGE = pathlib.Path(__file__).resolve().parent


#: hf_restore_flags.
INCLUDE_DISCARDED = 1
OVERWRITTEN = 2


class Options(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("copy_threads", c_uint32),
        ("slots_wanted", c_uint32),
        ("small_tensor_bytes", c_uint32),
        ("begin_wait_ms", c_uint32),
        ("request_timeout_ms", c_uint32),
        ("sample_fraction", c_double),
        ("verify_every", c_uint32),
        ("staging_percent", c_uint32),
        ("gather_bytes", c_uint64),
    ]


class TierStruct(ctypes.Structure):
    _fields_ = [
        ("root", c_char_p),
        ("node_scope", c_uint32),
        ("every_steps", c_uint64),
        ("every_seconds", c_uint64),
        ("keep_last", c_uint32),
        ("keep_every_steps", c_uint64),
    ]


class IncarnationStruct(ctypes.Structure):
    _fields_ = [("job_uid", c_uint8 * 16), ("number", c_uint64), ("token", c_uint64)]


class CardStruct(ctypes.Structure):
    _fields_ = [("bytes", c_uint8 * 1024)]


class TensorStruct(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("dtype", c_uint32),
        ("tensor_class", c_uint32),
        ("global_ndim", c_uint32),
        ("local_ndim", c_uint32),
        # Addresses in an array that the caller keeps.
        ("global_shape", c_void_p),
        ("local_shape", c_void_p),
        ("box_count", c_uint32),
        ("opaque", c_uint32),
        ("boxes", c_void_p),
        ("has_flat_range", c_uint32),
        ("replica_id", c_uint32),
        ("flat_offset", c_uint64),
        ("flat_length", c_uint64),
        ("alias_of", c_char_p),
        ("on_device", c_uint32),
        ("device", c_int32),
    ]


class StateItemStruct(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("json", c_char_p),
        ("pickle", c_char_p),  # any bytes: the length says where it ends
        ("pickle_bytes", c_size_t),
    ]


class StridesStruct(ctypes.Structure):
    _fields_ = [("tensor", c_uint32), ("ndim", c_uint32), ("strides", POINTER(c_int64))]


class StreamStruct(ctypes.Structure):
    _fields_ = [("device", c_int32), ("reserved", c_uint32), ("stream", c_void_p)]


class BeginStruct(ctypes.Structure):
    _fields_ = [
        ("started", c_uint32),
        ("reason", c_char * 256),
        ("bytes", c_uint64),
        ("static_bytes", c_uint64),
    ]


class StatsStruct(ctypes.Structure):
    _fields_ = [
        ("begun", c_uint64),
        ("sealed", c_uint64),
        ("skipped", c_uint64),
        ("torn", c_uint64),
        ("failed", c_uint64),
        ("copied_bytes", c_uint64),
        ("copy_ns", c_uint64),
        ("fence_wait_ns", c_uint64),
        ("snapshot_ns", c_uint64),
        ("last_copy_ns", c_uint64),
        ("last_fence_wait_ns", c_uint64),
        ("last_snapshot_ns", c_uint64),
        ("reconnects", c_uint64),
        ("last_begun_step", c_int64),
        ("last_sealed_step", c_int64),
        ("last_complete_step", c_int64),
        ("last_durable_step", c_int64),
        ("device_wait_ns", c_uint64),
        ("last_device_wait_ns", c_uint64),
        ("pinned_slots", c_uint64),
        ("unpinned_slots", c_uint64),
        ("static_copied_bytes", c_uint64),
        ("image_bytes", c_uint64),
        ("static_bytes", c_uint64),
        ("unpinned_bytes", c_uint64),
        ("unpinned_copy_ns", c_uint64),
        ("connected", c_uint32),
        ("fenced", c_uint32),
        ("note", ctypes.c_char * 256),
    ]


class ChoiceStruct(ctypes.Structure):
    _fields_ = [
        ("attempt", c_uint32),
        ("has_choice", c_uint32),
        ("incarnation", c_uint64),
        ("step", c_int64),
        ("source", c_char_p),
        ("log", c_char_p),
    ]


class DrainedStruct(ctypes.Structure):
    _fields_ = [
        ("incarnation", c_uint64),
        ("step", c_int64),
        ("durable", c_uint32),
        ("reason", c_char * 256),
    ]


class FlushingStruct(ctypes.Structure):
    _fields_ = [
        ("root", c_char * 256),
        ("last_error", c_char * 256),
        ("incarnation", c_uint64),
        ("step", c_int64),
        ("bytes", c_uint64),
        ("done_bytes", c_uint64),
    ]


# name: (arguments, result).  hf_client and hf_restore are opaque: plain pointers here.
_FUNCTIONS: dict[str, tuple[list[type], type | None]] = {
    "hf_abi_version": ([], c_uint32),
    "hf_version": ([], c_char_p),
    "hf_last_error": ([], c_char_p),
    "hf_arm_failpoints": ([c_char_p], c_int),
    "hf_options_init": ([POINTER(Options)], None),
    "hf_connect": ([c_char_p, POINTER(Options), c_uint32, POINTER(c_void_p)], c_int),
    "hf_close": ([c_void_p], None),
    "hf_open_incarnation": (
        [c_void_p, c_char_p, c_uint32, POINTER(TierStruct), c_size_t, c_uint32,
         POINTER(IncarnationStruct)],
        c_int,
    ),
    "hf_make_card": ([c_void_p, c_char_p, POINTER(CardStruct)], c_int),
    "hf_set_nodes": (
        [c_void_p, POINTER(CardStruct), c_size_t, POINTER(TierStruct), c_size_t], c_int
    ),
    "hf_join": ([c_void_p, c_char_p, POINTER(IncarnationStruct), c_uint32, c_uint32], c_int),
    "hf_set_layout": ([c_void_p, POINTER(TensorStruct), c_size_t], c_int),
    "hf_set_layout_within": ([c_void_p, POINTER(TensorStruct), c_size_t, c_uint32], c_int),
    "hf_expect_zero": ([c_void_p, POINTER(c_uint32), c_size_t], c_int),
    "hf_skip": ([c_void_p, c_int64, c_char_p], c_int),
    "hf_wait_ready": ([c_void_p, c_uint32], c_int),
    # "pointers" is an address here: that of an array the caller keeps between snapshots.
    "hf_snapshot": (
        [c_void_p, c_int64, c_void_p, c_size_t, POINTER(StridesStruct), c_size_t,
         POINTER(StreamStruct), c_size_t, POINTER(StateItemStruct), c_size_t,
         POINTER(BeginStruct)],
        c_int,
    ),
    "hf_not_constant": ([c_void_p, POINTER(c_uint32), c_size_t, POINTER(c_size_t)], c_int),
    "hf_fence": ([c_void_p, POINTER(StreamStruct), c_size_t], c_int),
    "hf_wait_sealed": ([c_void_p, c_int64, c_uint32], c_int),
    "hf_get_stats": ([c_void_p, POINTER(StatsStruct)], c_int),
    "hf_why_away": ([c_void_p, c_char_p, c_size_t], c_int),
    "hf_restore_begin": (
        [c_void_p, c_int64, c_uint32, c_uint32, c_uint32, POINTER(c_void_p),
         POINTER(ChoiceStruct)],
        c_int,
    ),
    "hf_restore_sidecar": ([c_void_p, POINTER(c_void_p), POINTER(c_size_t)], c_int),
    "hf_restore_load": (
        [c_void_p, POINTER(c_uint32), POINTER(c_void_p), POINTER(c_uint64), POINTER(c_int32),
         c_size_t, c_uint32],
        c_int,
    ),
    "hf_restore_finish": ([c_void_p, c_char_p, c_uint32, POINTER(c_uint32)], c_int),
    "hf_restore_refuse": ([c_void_p, c_char_p, c_uint32], c_int),
    "hf_restore_free": ([c_void_p], None),
    "hf_drain": ([c_void_p, c_uint32, POINTER(DrainedStruct)], c_int),
    "hf_flush_progress": (
        [c_void_p, POINTER(FlushingStruct), c_uint32, POINTER(c_uint32)], c_int
    ),
    "hf_finish": ([c_void_p, POINTER(c_uint64)], c_int),
}


def library_path() -> pathlib.Path:
    """Where libholdfast.so is: HOLDFAST_LIBRARY, which must exist if it is set, or the package."""
    named = os.environ.get("HOLDFAST_LIBRARY")
    path = pathlib.Path(named) if named else _PACKAGE / "_lib" / "libholdfast.so"
    if not path.is_file():
        source = "HOLDFAST_LIBRARY names" if named else "this package should hold"
        raise LibraryNotFoundError(
            f"{source} {path}, which is no file: install the holdfast wheel, or set "
            "HOLDFAST_LIBRARY to a built libholdfast.so"
        )
    return path


def program_path(name: str) -> pathlib.Path:
    """Where the program "holdfastd" or "holdfast" is: in HOLDFAST_BIN or the package."""
    named = os.environ.get("HOLDFAST_BIN")
    path = (pathlib.Path(named) if named else _PACKAGE / "_bin") / name
    if not (path.is_file() and os.access(path, os.X_OK)):
        source = "in the folder that HOLDFAST_BIN names" if named else "in this package"
        raise LibraryNotFoundError(
            f"no program {path} {source}: install the holdfast wheel, or set HOLDFAST_BIN to the "
            "folder with holdfastd and holdfast"
        )
    return path


@functools.lru_cache(maxsize=None)
def library() -> ctypes.CDLL:
    """The loaded library, with every function declared and its version checked."""
    path = library_path()
    try:
        loaded = ctypes.CDLL(os.fspath(path))
        for name, (arguments, result) in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.argtypes = arguments
            function.restype = result
    except (OSError, AttributeError) as error:
        raise LibraryNotFoundError(f"cannot load {path}: {error}") from error
    found = int(loaded.hf_abi_version())
    if found != ABI_VERSION:
        raise VersionMismatchError(
            f"{path} has ABI version {found}, this package needs {ABI_VERSION}: install both from "
            "one release"
        )
    options = Options()
    loaded.hf_options_init(ctypes.byref(options))
    if options.struct_size != ctypes.sizeof(Options):
        raise VersionMismatchError(
            f"{path}: hf_options has {options.struct_size} bytes, this package's has "
            f"{ctypes.sizeof(Options)}: install both from one release"
        )
    return loaded
