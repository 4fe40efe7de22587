// A catalog that lost a file of its log says so (I3), and nothing else is taken for that.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_tiers/catalog.h"
#include "tests/storage_tiers/catalog_test_support.h"
#include "tests/support/temp_folder.h"

namespace holdfast::storage_tiers {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr CatalogOptions kShortLogs = {.log_bytes = 64 * kKiB};

class CatalogLostLogTest : public ::testing::Test {
 protected:
  // A life of a daemon with so many batches of about 10 KiB.
  void Live(std::uint64_t batches, const CatalogOptions& options = {}) const {
    const auto catalog = Catalog::Open(folder_, options).value();
    ASSERT_TRUE(catalog->StartBoot());
    for (std::uint64_t i = 1; i <= batches; ++i) {
      CatalogBatch batch;
      batch.PutSlot(TestSlot(static_cast<std::uint32_t>(i), i));
      proto::OutcomeRecord outcome = TestOutcome(1);
      outcome.set_reason(std::string(10'000, 'r'));
      batch.PutOutcome(outcome);
      ASSERT_TRUE(catalog->Apply(batch));
    }
  }

  [[nodiscard]] std::vector<fs::path> Logs() const {
    std::vector<fs::path> logs;
    for (const auto& entry : fs::directory_iterator(db_)) {
      if (entry.path().extension() == ".log") {
        logs.push_back(entry.path());
      }
    }
    return logs;
  }

  [[nodiscard]] std::vector<std::string> FilesWithSizes() const {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(db_)) {
      files.push_back(entry.path().filename().string() + " " + std::to_string(entry.file_size()));
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  TempFolder temp_{TempFolder::Where::kTestTmpdir};
  const std::string folder_ = temp_.path() + "/state";
  const std::string db_ = folder_ + "/db";
  const std::string mark_ = db_ + "/holdfast.log_mark";
};

TEST_F(CatalogLostLogTest, ALogThatIsGoneIsAnErrorAndCanBePutBack) {
  Live(3);
  Live(5);
  const fs::path away = temp_.path() + "/away";
  const fs::path log = Logs().at(0);
  ASSERT_THAT(Logs(), SizeIs(1));
  fs::rename(log, away);
  const auto before = FilesWithSizes();

  for (int i = 0; i < 2; ++i) {
    const auto opened = Catalog::Open(folder_, {});
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, Errc::kCorruption);
    EXPECT_THAT(opened.error().message, HasSubstr("lost records"));
    EXPECT_THAT(opened.error().message, HasSubstr("move the folder away"));
  }

  EXPECT_EQ(FilesWithSizes(), before) << "else the log could not be put back";
  fs::rename(away, log);
  EXPECT_THAT(Catalog::Open(folder_, {}).value()->Load().value().slots, SizeIs(5));
}

TEST_F(CatalogLostLogTest, ALogThatWasEmptiedIsAnError) {
  Live(3);
  fs::resize_file(Logs().at(0), 0);
  const auto opened = Catalog::Open(folder_, {});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::kCorruption);
}

TEST_F(CatalogLostLogTest, TheLogOfTheFirstLifeIsMissedToo) {
  Live(1);
  fs::remove(Logs().at(0));
  EXPECT_FALSE(Catalog::Open(folder_, {}));
}

TEST_F(CatalogLostLogTest, ALogThatBeganLateInALifeIsMissedToo) {
  Live(30, kShortLogs);
  const std::vector<fs::path> logs = Logs();
  const fs::path newest = *std::max_element(logs.begin(), logs.end());
  fs::remove(newest);
  const auto opened = Catalog::Open(folder_, {});
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("lost records"));
}

TEST_F(CatalogLostLogTest, AReaderStillGetsTheRest) {
  Live(3);
  Live(5);
  fs::remove(Logs().at(0));
  const auto opened = Catalog::Open(folder_, {.read_only = true, .create = false});
  ASSERT_TRUE(opened) << opened.error().ToString();
  EXPECT_THAT(opened.value()->Load().value().slots, SizeIs(3));
}

// The mark is a check: without it, or with a spoilt one, a catalog opens as before there were any.
TEST_F(CatalogLostLogTest, AMarkThatIsGoneOrDamagedRefusesNothing) {
  Live(3);
  fs::remove(mark_);
  Live(3);
  ASSERT_TRUE(fs::exists(mark_)) << "made again";
  std::string whole;
  std::getline(std::ifstream(mark_), whole);
  for (std::size_t i = 0; i <= whole.size(); ++i) {
    std::string cut = whole.substr(0, i);
    std::string flipped = whole + "\n";
    flipped[i] = static_cast<char>(flipped[i] ^ 1);
    for (const std::string& content : {cut, flipped, whole + "\n\n", std::string(5'000, '9')}) {
      std::ofstream(mark_, std::ios::binary | std::ios::trunc) << content;
      const auto opened = Catalog::Open(folder_, {});
      ASSERT_TRUE(opened) << content << ": " << opened.error().ToString();
    }
  }
  Live(1);
}

TEST_F(CatalogLostLogTest, ACatalogWithoutAnyOtherFileThanItsMarkIsNotMadeAnew) {
  Live(1);
  for (const auto& entry : fs::directory_iterator(db_)) {
    if (entry.path() != mark_) {
      fs::remove_all(entry.path());
    }
  }
  const auto opened = Catalog::Open(folder_, {});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::kCorruption);
}

}  // namespace
}  // namespace holdfast::storage_tiers
