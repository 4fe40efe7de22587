/* Numbers of the C ABI: answers, element types, and when a tensor is copied.  Part of holdfast.h.
 */
#ifndef HOLDFAST_TYPES_H_
#define HOLDFAST_TYPES_H_

/* NOLINTBEGIN(readability-identifier-naming): C has no namespaces. */

/* The values of holdfast::Errc, and two that only a client can meet. */
typedef enum hf_code {
  HF_OK = 0,
  HF_INVALID_ARGUMENT = 1,
  HF_NOT_FOUND = 2,
  HF_ALREADY_EXISTS = 3,
  HF_CORRUPTION = 4,
  HF_IO_ERROR = 5,
  HF_NO_SPACE = 6,
  HF_UNAVAILABLE = 7,
  HF_TIMEOUT = 8,
  HF_CANCELLED = 9,
  HF_FENCED = 10,
  HF_ABANDONED = 11,
  HF_VERSION_MISMATCH = 12,
  HF_PERMISSION = 13,
  HF_INTERNAL = 14,
  HF_TORN = 100,  /* the state was written while it was copied: that snapshot is given up */
  HF_FORKED = 101 /* this process is a fork of the one that made the client */
} hf_code;

/* Element types: the values of holdfast.proto.DataType in proto/manifest.proto. */
typedef enum hf_dtype {
  HF_BOOL = 1,
  HF_U8 = 2,
  HF_I8 = 3,
  HF_I16 = 4,
  HF_U16 = 5,
  HF_I32 = 6,
  HF_U32 = 7,
  HF_I64 = 8,
  HF_U64 = 9,
  HF_F16 = 10,
  HF_BF16 = 11,
  HF_F32 = 12,
  HF_F64 = 13,
  HF_F8_E4M3 = 14,
  HF_F8_E5M2 = 15,
  HF_F8_E8M0 = 16,
  HF_C64 = 17,
  HF_C128 = 18,
  HF_F8_E4M3FNUZ = 19,
  HF_F8_E5M2FNUZ = 20,
  HF_F4_X2 = 21
} hf_dtype;

/* When a tensor is copied: the values of holdfast.proto.TensorClass. */
typedef enum hf_class {
  HF_STABLE = 1,  /* only the optimizer update writes it: copied behind training, sampled */
  HF_STAGED = 2,  /* anything may write it: copied inside hf_snapshot */
  HF_CONSTANT = 3 /* never written: copied once for each layout, shared by its snapshots, sampled */
} hf_class;

/* NOLINTEND(readability-identifier-naming) */

#endif /* HOLDFAST_TYPES_H_ */
