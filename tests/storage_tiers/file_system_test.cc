#include "storage_tiers/file_system.h"

#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage_tiers/file_system_transfer.h"
#include "storage_tiers/posix_file_system.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

class PosixFileSystemTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return JoinPath(root_, name); }

  void Write(const std::string& name, std::string_view text) {
    auto file = fs_.OpenForWrite(Path(name));
    ASSERT_TRUE(file) << file.error().ToString();
    ASSERT_TRUE(file.value()->WriteAt(0, AsBytes(text)));
  }

  PosixFileSystem fs_;
  TempFolder temp_{TempFolder::Where::kTestTmpdir};
  const std::string root_ = temp_.path();
};

TEST_F(PosixFileSystemTest, ANameThatIsTakenIsNeverOpenedForWriting) {
  // I6: no call of the seam can write over a file that exists.
  Write("a", "first");

  EXPECT_EQ(fs_.OpenForWrite(Path("a")).error().code, Errc::kAlreadyExists);

  EXPECT_EQ(ReadSmallFile(fs_, Path("a"), 100).value(), "first");
}

TEST_F(PosixFileSystemTest, LinkNeverReplacesAndRenameDoes) {
  Write("a", "a");
  Write("b", "b");

  EXPECT_EQ(fs_.Link(Path("a"), Path("b")).error().code, Errc::kAlreadyExists);
  EXPECT_EQ(ReadSmallFile(fs_, Path("b"), 1).value(), "b");
  EXPECT_TRUE(fs_.Rename(Path("a"), Path("b")));
  EXPECT_EQ(ReadSmallFile(fs_, Path("b"), 1).value(), "a");
  EXPECT_FALSE(Exists(fs_, Path("a")).value());
}

TEST_F(PosixFileSystemTest, SymbolicLinksAreNotFollowed) {
  Write("secret", "x");
  ASSERT_EQ(::symlink(Path("secret").c_str(), Path("link").c_str()), 0);

  EXPECT_FALSE(fs_.OpenForRead(Path("link")));
  EXPECT_EQ(fs_.Stat(Path("link")).value().kind, FileKind::kOther);
}

TEST_F(PosixFileSystemTest, AFifoUnderTheNameOfAFileIsRefusedAtOnce) {
  ASSERT_EQ(::mkfifo(Path("pipe").c_str(), 0600), 0);

  EXPECT_EQ(fs_.OpenForRead(Path("pipe")).error().code, Errc::kCorruption);
}

TEST_F(PosixFileSystemTest, RemoveTreeRemovesLinksButNotWhatTheyPointTo) {
  ASSERT_TRUE(fs_.CreateFolder(Path("outside")));
  Write("outside/file", "x");
  ASSERT_TRUE(fs_.CreateFolder(Path("tree")));
  ASSERT_TRUE(fs_.CreateFolder(Path("tree/sub")));
  Write("tree/sub/file", "x");
  ASSERT_EQ(::symlink(Path("outside").c_str(), Path("tree/link").c_str()), 0);

  ASSERT_TRUE(RemoveTree(fs_, Path("tree")));

  EXPECT_FALSE(Exists(fs_, Path("tree")).value());
  EXPECT_TRUE(Exists(fs_, Path("outside/file")).value());
}

TEST_F(PosixFileSystemTest, RemoveTreeStopsAtHostileDepth) {
  std::string path = Path("deep");
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(fs_.CreateFolder(path));
    path = JoinPath(path, "d");
  }

  EXPECT_EQ(RemoveTree(fs_, Path("deep")).error().code, Errc::kCorruption);

  ASSERT_TRUE(RemoveTree(fs_, Path("deep/d/d/d/d/d/d/d/d/d/d")));  // or TearDown cannot
}

TEST_F(PosixFileSystemTest, AReadBeyondTheEndIsCorruptionAndSaysWhere) {
  Write("a", "12345");
  auto file = fs_.OpenForRead(Path("a"));
  ASSERT_TRUE(file);
  std::vector<std::byte> out(4);

  const Status read = file.value()->ReadAt(3, out);

  EXPECT_EQ(read.error().code, Errc::kCorruption);
  EXPECT_NE(read.error().message.find("ends after 5 bytes"), std::string::npos);
}

TEST_F(PosixFileSystemTest, OffsetsBeyondTheLargestFileAreRefused) {
  auto file = fs_.OpenForWrite(Path("a"));
  ASSERT_TRUE(file);
  std::vector<std::byte> byte(1);

  EXPECT_EQ(file.value()->WriteAt(~std::uint64_t{0}, byte).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(file.value()->ReadAt(~std::uint64_t{0}, byte).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(file.value()->Truncate(~std::uint64_t{0}).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(file.value()->Preallocate(~std::uint64_t{0}).error().code, Errc::kInvalidArgument);
}

TEST_F(PosixFileSystemTest, ListingsAreSortedAndTellFilesFromFolders) {
  Write("b", "");
  Write("a", "");
  ASSERT_TRUE(fs_.CreateFolder(Path("c")));

  const auto entries = fs_.List(root_);

  ASSERT_TRUE(entries);
  ASSERT_EQ(entries.value().size(), 3u);
  EXPECT_EQ(entries.value()[0].name, "a");
  EXPECT_EQ(entries.value()[1].name, "b");
  EXPECT_EQ(entries.value()[1].kind, FileKind::kFile);
  EXPECT_EQ(entries.value()[2].kind, FileKind::kFolder);
}

TEST_F(PosixFileSystemTest, AFileWhereAFolderShouldBeIsNotTakenForOne) {
  Write("a", "");

  EXPECT_EQ(CreateFolderIfMissing(fs_, Path("a")).error().code, Errc::kAlreadyExists);
  EXPECT_TRUE(CreateFolderIfMissing(fs_, Path("b")));
  EXPECT_TRUE(CreateFolderIfMissing(fs_, Path("b")));
}

TEST_F(PosixFileSystemTest, ASmallFileThatIsHugeIsNotReadIntoMemory) {
  auto file = fs_.OpenForWrite(Path("a"));
  ASSERT_TRUE(file);
  ASSERT_TRUE(file.value()->Truncate(std::uint64_t{1} << 40));

  EXPECT_EQ(ReadSmallFile(fs_, Path("a"), 1000).error().code, Errc::kCorruption);
}

TEST_F(PosixFileSystemTest, MissingNamesAreNotFound) {
  EXPECT_EQ(fs_.Stat(Path("x")).error().code, Errc::kNotFound);
  EXPECT_EQ(fs_.OpenForRead(Path("x")).error().code, Errc::kNotFound);
  EXPECT_EQ(fs_.Unlink(Path("x")).error().code, Errc::kNotFound);
  EXPECT_EQ(fs_.SyncFolder(Path("x")).error().code, Errc::kNotFound);
  EXPECT_EQ(fs_.List(Path("x")).error().code, Errc::kNotFound);
  EXPECT_TRUE(UnlinkIfPresent(fs_, Path("x")));
  EXPECT_GT(fs_.FreeSpace(root_).value(), 0u);
}

TEST(PathTest, ParentFolderAndJoinPathAreInverse) {
  EXPECT_EQ(ParentFolder("/a/b"), "/a");
  EXPECT_EQ(ParentFolder("/a"), "/");
  EXPECT_EQ(ParentFolder("a"), ".");
  EXPECT_EQ(JoinPath("/", "a"), "/a");
  EXPECT_EQ(JoinPath("/a", "b"), "/a/b");
}

// --- TransferFully: every answer that a system call may give ---

struct Script {
  std::vector<std::int64_t> answers;  // negative: -errno
  std::vector<std::pair<ByteCount, ByteCount>> asked;

  std::int64_t operator()(ByteCount done, ByteCount rest) {
    asked.emplace_back(done, rest);
    const std::int64_t answer = answers[asked.size() - 1];
    if (answer < 0) {
      errno = static_cast<int>(-answer);
      return -1;
    }
    return answer;
  }
};

TEST(TransferFullyTest, ShortCountsAndInterruptionsAreContinued) {
  Script script{{3, -EINTR, 1, 6}, {}};

  const TransferOutcome outcome = TransferFully(10, std::ref(script));

  EXPECT_EQ(outcome.done, 10u);
  EXPECT_EQ(outcome.error_number, 0);
  const std::vector<std::pair<ByteCount, ByteCount>> expected = {{0, 10}, {3, 7}, {3, 7}, {4, 6}};
  EXPECT_EQ(script.asked, expected);
}

TEST(TransferFullyTest, AFullDiskAfterAShortWriteIsAnError) {
  Script script{{4, -ENOSPC}, {}};

  const TransferOutcome outcome = TransferFully(10, std::ref(script));

  EXPECT_EQ(outcome.done, 4u);
  EXPECT_EQ(outcome.error_number, ENOSPC);
}

TEST(TransferFullyTest, ZeroIsTheEndAndNotAnEndlessLoop) {
  Script script{{4, 0}, {}};

  EXPECT_EQ(TransferFully(10, std::ref(script)).done, 4u);
  EXPECT_EQ(script.asked.size(), 2u);
}

TEST(TransferFullyTest, MoreThanWasAskedForIsNotBelieved) {
  Script script{{11}, {}};

  EXPECT_EQ(TransferFully(10, std::ref(script)).error_number, EIO);
}

}  // namespace
}  // namespace holdfast::storage_tiers
