// `holdfast certs`: mutual TLS is two commands.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/cli_fixture.h"
#include "tests/support/whole_file.h"
#include "transport/tls.h"

namespace holdfast::cli {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kNode[] = "01234567-89ab-cdef-0123-456789abcdef";

class CertsTest : public CliTest {
 protected:
  CertsTest() : folder_(MakeFolder("certs") + "/pki") {}

  std::string folder_;
};

TEST_F(CertsTest, TwoCommandsMakeWhatADaemonLoads) {
  const RunResult init = Run({"certs", "init", folder_});
  EXPECT_EQ(init.exit, 0) << init.err;
  EXPECT_THAT(init.out, HasSubstr("valid for 3650 days"));
  const RunResult issue = Run(
      {"certs", "issue", folder_, "--node", kNode, "--address", "10.0.0.7", "--address", "node7"});
  EXPECT_EQ(issue.exit, 0) << issue.err;
  EXPECT_THAT(issue.out, HasSubstr(std::string("CN=Holdfast node ") + kNode));
  const std::string name = std::string("node-") + kNode;
  EXPECT_THAT(Names(folder_), ElementsAre("ca.crt", "ca.key", name + ".crt", name + ".key"));
  transport::TlsFiles files;
  files.authority = folder_ + "/ca.crt";
  files.certificate = folder_ + "/" + name + ".crt";
  files.key = folder_ + "/" + name + ".key";
  const auto tls = transport::TlsContext::Load(files);
  EXPECT_TRUE(tls.has_value()) << tls.error().ToString();
}

TEST_F(CertsTest, JsonNamesTheFiles) {
  const RunResult init = Run({"certs", "init", folder_, "--json", "--days", "30"});
  const json authority = json::parse(init.out);
  EXPECT_EQ(authority["certificate"], folder_ + "/ca.crt");
  EXPECT_TRUE(authority["node_uuid"].is_null());
  const RunResult issue =
      Run({"--json", "certs", "issue", folder_, "--node", kNode, "--address", "::1"});
  const json node = json::parse(issue.out);
  EXPECT_EQ(node["node_uuid"], "0123456789abcdef0123456789abcdef");
  EXPECT_EQ(node["addresses"], json::array({"::1"}));
  EXPECT_LE(node["not_after"].get<std::int64_t>(), authority["not_after"].get<std::int64_t>());
}

TEST_F(CertsTest, ACertificateEndsWithItsAuthorityAndThatIsSaid) {
  ASSERT_EQ(Run({"certs", "init", folder_, "--days", "30"}).exit, 0);
  const RunResult issue = Run({"certs", "issue", folder_, "--node", kNode});
  EXPECT_EQ(issue.exit, 0);
  EXPECT_THAT(issue.out, HasSubstr("valid for 30 days"));
  EXPECT_THAT(issue.err, HasSubstr("ends when its authority does"));
  const std::string folder = MakeFolder("long") + "/pki";
  ASSERT_EQ(Run({"certs", "init", folder}).exit, 0);
  EXPECT_EQ(Run({"certs", "issue", folder, "--node", kNode}).err, "");
}

TEST_F(CertsTest, NothingIsReplaced) {
  ASSERT_EQ(Run({"certs", "init", folder_}).exit, 0);
  const std::string key = WholeFile(folder_ + "/ca.key");
  const RunResult again = Run({"certs", "init", folder_});
  EXPECT_EQ(again.exit, 5);
  EXPECT_THAT(again.err, HasSubstr("is not replaced"));
  EXPECT_EQ(WholeFile(folder_ + "/ca.key"), key);
  ASSERT_EQ(Run({"certs", "issue", folder_, "--node", kNode}).exit, 0);
  EXPECT_EQ(Run({"certs", "issue", folder_, "--node", kNode}).exit, 5);
}

TEST_F(CertsTest, MistakesHaveTheirExits) {
  EXPECT_EQ(Run({"certs"}).exit, 2);
  EXPECT_EQ(Run({"certs", "init"}).exit, 2);
  EXPECT_EQ(Run({"certs", "init", folder_, "--days", "0"}).exit, 2);
  EXPECT_EQ(Run({"certs", "issue", folder_, "--node", kNode}).exit, 6);  // no authority
  ASSERT_EQ(Run({"certs", "init", folder_}).exit, 0);
  EXPECT_EQ(Run({"certs", "issue", folder_}).exit, 2);
  const RunResult uuid = Run({"certs", "issue", folder_, "--node", "node7"});
  EXPECT_EQ(uuid.exit, 2);
  EXPECT_THAT(uuid.err, HasSubstr("one looks like"));
  EXPECT_EQ(Run({"certs", "issue", folder_, "--node", kNode, "--address", "a b"}).exit, 2);
  const json error = json::parse(Run({"--json", "certs", "init", folder_}).out);
  EXPECT_EQ(error["error"]["code"], "already_exists");
  EXPECT_THAT(Names(folder_), ElementsAre("ca.crt", "ca.key"));
}

}  // namespace
}  // namespace holdfast::cli
