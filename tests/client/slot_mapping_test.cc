#include "client/slot_mapping.h"

#include <string>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace holdfast::client {
namespace {

transport::OwnedFd File(std::size_t bytes) {
  transport::OwnedFd fd(::memfd_create("slot", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(fd.Get(), static_cast<off_t>(bytes)), 0);
  return fd;
}

TEST(SlotMappingTest, WritesReachTheFileAndTheDescriptorIsClosed) {
  auto fd = File(8192);
  const int number = fd.Get();
  const transport::OwnedFd second(::dup(number));
  {
    const auto slot = SlotMapping::Map(std::move(fd), 8192).value();
    EXPECT_LT(::fcntl(number, F_GETFD), 0);
    ASSERT_FALSE(slot->Populate().has_error());
    slot->Data()[5000] = std::byte{7};
  }
  char byte = 0;
  ASSERT_EQ(::pread(second.Get(), &byte, 1, 5000), 1);
  EXPECT_EQ(byte, 7);
}

TEST(SlotMappingTest, FileThatIsTooShortIsRefused) {
  EXPECT_EQ(SlotMapping::Map(File(4096), 8192).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(SlotMapping::Map(File(4096), 0).error().code, Errc::kInvalidArgument);
  EXPECT_TRUE(SlotMapping::Map(transport::OwnedFd(), 1).has_error());
}

TEST(SlotMappingTest, DescriptorThatIsNoFileIsRefused) {
  EXPECT_EQ(SlotMapping::Map(transport::OwnedFd(::open("/dev/zero", O_RDWR)), 4096).error().code,
            Errc::kInvalidArgument);
}

// I2: a sealed slot cannot be changed by a stray pointer of the trainer.
TEST(SlotMappingTest, ReadOnlyMappingCannotBeWritten) {
  const auto slot = SlotMapping::Map(File(4096), 4096).value();
  ASSERT_FALSE(slot->SetWritable(false).has_error());
  EXPECT_DEATH(slot->Data()[0] = std::byte{1}, "");
  ASSERT_FALSE(slot->SetWritable(true).has_error());
  slot->Data()[0] = std::byte{1};
}

TEST(SlotMappingTest, ForkedChildHasNoMapping) {
  const auto slot = SlotMapping::Map(File(4096), 4096).value();
  const pid_t child = ::fork();
  if (child == 0) {
    // mincore knows mapped memory only.
    unsigned char resident = 0;
    ::_exit(::mincore(slot->Data(), 4096, &resident) == 0 ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace holdfast::client
