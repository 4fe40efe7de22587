#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "storage_tiers/slot_file_quarantine.h"
#include "tests/storage_tiers/arena_test_support.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

// A made-up /proc, in which the file in question has a true device and inode.
class ProcScanTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteFile(folder_.path() + "/file", "x");
    struct stat status = {};
    ASSERT_EQ(::stat((folder_.path() + "/file").c_str(), &status), 0);
    identity_ = {status.st_dev, status.st_ino};
    std::filesystem::create_directories(proc_ + "/self/ns");
    SetNamespace("pid:[4026531836]");
    // What is not a process is passed over.
    WriteFile(proc_ + "/meminfo", "MemTotal: 1 kB\n");
  }

  void SetNamespace(const std::string& target) {
    std::filesystem::remove(proc_ + "/self/ns/pid");
    std::filesystem::create_symlink(target, proc_ + "/self/ns/pid");
  }

  void AddProcess(const std::string& pid, const std::string& maps) {
    std::filesystem::create_directories(proc_ + "/" + pid + "/fd");
    WriteFile(proc_ + "/" + pid + "/maps", maps);
  }

  void AddDescriptor(const std::string& pid, const std::string& fd, const std::string& target) {
    std::filesystem::create_symlink(target, proc_ + "/" + pid + "/fd/" + fd);
  }

  [[nodiscard]] std::string MapsLine(dev_t device, ino_t inode) const {
    char line[256];
    std::snprintf(line,
                  sizeof line,
                  "7f0000000000-7f0000100000 rw-s 00000000 %02x:%02x %lu      /x y (deleted)\n",
                  major(device),
                  minor(device),
                  static_cast<unsigned long>(inode));
    return line;
  }

  [[nodiscard]] Result<bool> Find() const { return FindInProc(proc_, identity_, 99); }

  TempFolder folder_;
  const std::string proc_ = folder_.path() + "/proc";
  FileIdentity identity_;
};

TEST_F(ProcScanTest, NobodyHoldsTheFile) {
  AddProcess("10", "");
  AddProcess("11", MapsLine(identity_.device, identity_.inode + 1));
  AddDescriptor("11", "3", folder_.path() + "/elsewhere");

  EXPECT_FALSE(Find().value());
}

TEST_F(ProcScanTest, AMappingIsFoundByDeviceAndInode) {
  AddProcess(
      "10",
      "00400000-00401000 r-xp 00000000 00:00 0 \n" + MapsLine(identity_.device, identity_.inode));

  EXPECT_TRUE(Find().value());
}

TEST_F(ProcScanTest, AnInodeOnAnotherDeviceIsAnotherFile) {
  AddProcess("10", MapsLine(identity_.device + 1, identity_.inode));

  EXPECT_FALSE(Find().value());
}

TEST_F(ProcScanTest, ADescriptorIsFound) {
  AddProcess("10", "");
  AddDescriptor("10", "5", folder_.path() + "/file");

  EXPECT_TRUE(Find().value());
}

TEST_F(ProcScanTest, OurOwnDescriptorDoesNotCountButAnotherOneDoes) {
  const std::string us = std::to_string(::getpid());
  AddProcess(us, "");
  AddDescriptor(us, "99", folder_.path() + "/file");
  EXPECT_FALSE(Find().value());

  AddDescriptor(us, "98", folder_.path() + "/file");
  EXPECT_TRUE(Find().value());
}

TEST_F(ProcScanTest, AMalformedMapsFileIsNoMatch) {
  AddProcess("10", "a\n\n1 2 3 zz 5\n1 2 3 zz:zz 5");

  EXPECT_FALSE(Find().value());
}

TEST_F(ProcScanTest, InAPidNamespaceTheAnswerIsUnknownUnlessSomebodyIsFound) {
  SetNamespace("pid:[4026532999]");
  AddProcess("10", "");
  const Result<bool> unknown = Find();
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Errc::kUnavailable);

  AddDescriptor("10", "5", folder_.path() + "/file");
  EXPECT_TRUE(Find().value());
}

TEST_F(ProcScanTest, AnUnreadableProcessOfOurUidCountsAsAUser) {
  if (::geteuid() == 0) {
    // Root may read everything; a link to itself is what even root cannot open.
    AddProcess("10", "");
    std::filesystem::remove(proc_ + "/10/maps");
    std::filesystem::create_symlink("maps", proc_ + "/10/maps");
  } else {
    AddProcess("10", "");
    std::filesystem::permissions(proc_ + "/10/maps", std::filesystem::perms::none);
  }

  EXPECT_TRUE(Find().value());
}

TEST_F(ProcScanTest, AProcessThatEndedWhileWeLookedHoldsNothing) {
  std::filesystem::create_directories(proc_ + "/10");  // neither maps nor fd

  EXPECT_FALSE(Find().value());
}

TEST_F(ProcScanTest, TheRealProcShowsAChildsMapping) {
  const Descriptor file(::open((folder_.path() + "/file").c_str(), O_RDWR | O_CLOEXEC));
  const int shared = ::open((folder_.path() + "/file").c_str(), O_RDWR | O_CLOEXEC);
  Child child(shared, [&] {
    if (::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, shared, 0) == MAP_FAILED) {
      ::_exit(1);
    }
    ::close(shared);
  });
  ::close(shared);

  EXPECT_TRUE(FindInProc("/proc", identity_, file.get()).value());
  child.Kill();
  const Result<bool> after = FindInProc("/proc", identity_, file.get());
  EXPECT_TRUE(!after || !after.value()) << "in a sandbox of its own PID namespace it is unknown";
}

}  // namespace
}  // namespace holdfast::storage_tiers
