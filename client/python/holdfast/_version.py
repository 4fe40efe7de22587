"""The version of this package and of the native library that it was made for."""

__version__ = "0.1.0"

#: Must equal hf_abi_version() of the library, else nothing is called.
ABI_VERSION = 6
