#include "client/copy_cuda/slot_registration.h"

#include "client/copy_cuda/runtime.h"

namespace holdfast::client {

Result<std::unique_ptr<SlotPin>> SlotRegistration::Make(const SlotMapping& slot,
                                                        std::int32_t device) {
  const BesideCaptures guard;
  HF_TRYV(CudaStatus(cudaSetDevice(device), "cudaSetDevice"));
  const Status registered = CudaStatus(
      cudaHostRegister(slot.Data(), slot.Size(), cudaHostRegisterPortable), "cudaHostRegister");
  if (registered.has_error()) {
    static_cast<void>(cudaGetLastError());
    return registered.error();
  }
  return std::unique_ptr<SlotPin>(new SlotRegistration(slot.Data(), device));
}

SlotRegistration::~SlotRegistration() {
  const TrainerThread guard;
  static_cast<void>(cudaSetDevice(device_));
  static_cast<void>(cudaHostUnregister(data_));
}

}  // namespace holdfast::client
