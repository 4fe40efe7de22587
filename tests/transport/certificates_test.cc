#include "transport/certificates.h"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include "tests/support/whole_file.h"
#include "transport/peer_messages.h"
#include "transport/tls.h"

namespace holdfast::transport {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

class CertificatesTest : public testing::Test {
 protected:
  CertificatesTest() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = testing::TempDir() + "/" + info->name();
    std::filesystem::remove_all(folder_);
  }

  static NodeOptions Node(char letter) {
    NodeOptions options;
    options.node_uuid = std::string(kUuidBytes, letter);
    return options;
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  static mode_t ModeOf(const std::string& file) {
    struct stat info {};

    EXPECT_EQ(::stat(file.c_str(), &info), 0);
    return info.st_mode & 07777;
  }

  std::string folder_;
};

TEST_F(CertificatesTest, TwoCallsMakeAClusterThatTlsTakes) {
  const auto authority = CreateAuthority(folder_, AuthorityOptions());
  ASSERT_TRUE(authority.has_value()) << authority.error().ToString();
  NodeOptions options = Node('a');
  options.addresses = {"10.0.0.7", "fd00::7", "node7.example.org"};
  const auto node = IssueNodeCertificate(folder_, options);
  ASSERT_TRUE(node.has_value()) << node.error().ToString();
  const auto facts = ReadCertificate(node.value().certificate);
  ASSERT_TRUE(facts.has_value());
  EXPECT_EQ(facts.value().subject, "CN=Holdfast node 61616161-6161-6161-6161-616161616161");
  EXPECT_THAT(facts.value().issuer, StartsWith("CN=Holdfast cluster "));
  EXPECT_EQ(facts.value().node_uuid, options.node_uuid);
  EXPECT_THAT(facts.value().addresses, ElementsAre("10.0.0.7", "fd00::7", "node7.example.org"));
  EXPECT_LT(facts.value().not_before, std::chrono::system_clock::now());
  EXPECT_GT(facts.value().not_after,
            std::chrono::system_clock::now() + std::chrono::hours(24 * 824));
  TlsFiles files;
  files.authority = authority.value().certificate;
  files.certificate = node.value().certificate;
  files.key = node.value().key;
  const auto tls = TlsContext::Load(files);
  ASSERT_TRUE(tls.has_value()) << tls.error().ToString();
  EXPECT_EQ(tls.value()->node_uuid(), options.node_uuid);
  EXPECT_EQ(tls.value()->not_after(), facts.value().not_after);
}

TEST_F(CertificatesTest, KeysAreForTheirOwnerOnlyAndNothingElseIsLeft) {
  const mode_t old = ::umask(0);
  ASSERT_TRUE(CreateAuthority(folder_, AuthorityOptions()).has_value());
  const auto node = IssueNodeCertificate(folder_, Node('a'));
  ::umask(old);
  ASSERT_TRUE(node.has_value());
  EXPECT_EQ(ModeOf(folder_), 0700U);
  EXPECT_EQ(ModeOf(folder_ + "/ca.key"), 0600U);
  EXPECT_EQ(ModeOf(node.value().key), 0600U);
  EXPECT_EQ(ModeOf(node.value().certificate), 0644U);
  const std::string name = "node-61616161-6161-6161-6161-616161616161";
  EXPECT_THAT(Names(), UnorderedElementsAre("ca.crt", "ca.key", name + ".crt", name + ".key"));
}

TEST_F(CertificatesTest, NothingIsEverReplaced) {
  ASSERT_TRUE(CreateAuthority(folder_, AuthorityOptions()).has_value());
  const auto node = IssueNodeCertificate(folder_, Node('a'));
  ASSERT_TRUE(node.has_value());
  const std::string authority_key = WholeFile(folder_ + "/ca.key");
  const std::string node_key = WholeFile(node.value().key);
  EXPECT_EQ(CreateAuthority(folder_, AuthorityOptions()).error().code, Errc::kAlreadyExists);
  EXPECT_EQ(IssueNodeCertificate(folder_, Node('a')).error().code, Errc::kAlreadyExists);
  EXPECT_EQ(WholeFile(folder_ + "/ca.key"), authority_key);
  EXPECT_EQ(WholeFile(node.value().key), node_key);
  // A certificate alone: no key without its certificate is left beside it.
  std::filesystem::remove(node.value().key);
  EXPECT_EQ(IssueNodeCertificate(folder_, Node('a')).error().code, Errc::kAlreadyExists);
  EXPECT_FALSE(std::filesystem::exists(node.value().key));
  EXPECT_EQ(Names().size(), 3U);
}

TEST_F(CertificatesTest, AuthorityWhoseKeyIsAnotherSignsNothing) {
  ASSERT_TRUE(CreateAuthority(folder_, AuthorityOptions()).has_value());
  ASSERT_TRUE(CreateAuthority(folder_ + "/second", AuthorityOptions()).has_value());
  std::filesystem::remove(folder_ + "/ca.key");
  std::filesystem::copy_file(folder_ + "/second/ca.key", folder_ + "/ca.key");
  const auto node = IssueNodeCertificate(folder_, Node('a'));
  EXPECT_EQ(node.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(node.error().message, HasSubstr("do not belong together"));
}

TEST_F(CertificatesTest, MissingAuthorityIsNamed) {
  std::filesystem::create_directory(folder_);
  const auto node = IssueNodeCertificate(folder_, Node('a'));
  EXPECT_EQ(node.error().code, Errc::kNotFound);
  EXPECT_THAT(node.error().message, HasSubstr(folder_ + "/ca.crt"));
}

TEST_F(CertificatesTest, FilesThatHoldNoneAreCorrupt) {
  std::filesystem::create_directory(folder_);
  std::ofstream(folder_ + "/ca.crt") << "hello\n";
  EXPECT_EQ(IssueNodeCertificate(folder_, Node('a')).error().code, Errc::kCorruption);
  std::ofstream(folder_ + "/ca.crt") << std::string(2'000'000, 'x');
  EXPECT_EQ(IssueNodeCertificate(folder_, Node('a')).error().code, Errc::kInvalidArgument);
}

TEST_F(CertificatesTest, AddressesCannotSmuggleNames) {
  ASSERT_TRUE(CreateAuthority(folder_, AuthorityOptions()).has_value());
  for (const char* address :
       {"a,URI:holdfast://node/x", "", "-x", ".x", "a b", "10.0.0.1\n", "*"}) {
    NodeOptions options = Node('a');
    options.addresses = {address};
    EXPECT_EQ(IssueNodeCertificate(folder_, options).error().code, Errc::kInvalidArgument)
        << address;
  }
  NodeOptions options = Node('a');
  options.node_uuid = "short";
  EXPECT_EQ(IssueNodeCertificate(folder_, options).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(Names().size(), 2U);
}

TEST_F(CertificatesTest, NoneIsValidForLongerThanItsAuthority) {
  AuthorityOptions short_lived;
  short_lived.validity = std::chrono::hours(24 * 30);
  const auto authority = CreateAuthority(folder_, short_lived);
  ASSERT_TRUE(authority.has_value());
  const auto node = IssueNodeCertificate(folder_, Node('a'));
  ASSERT_TRUE(node.has_value()) << node.error().ToString();
  EXPECT_EQ(ReadCertificate(node.value().certificate).value().not_after,
            ReadCertificate(authority.value().certificate).value().not_after);
  NodeOptions late = Node('b');
  late.now = std::chrono::system_clock::now() + std::chrono::hours(24 * 31);
  const auto refused = IssueNodeCertificate(folder_, late);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::kPermission);
  EXPECT_THAT(refused.error().message, HasSubstr("ca.crt has expired"));
}

// Writes "from" to "to" with another end, signed again by "key".
void Shorten(const std::string& from, const std::string& key, const std::string& to, int days) {
  std::FILE* in = std::fopen(from.c_str(), "r");
  X509* certificate = PEM_read_X509(in, nullptr, nullptr, nullptr);
  std::fclose(in);
  in = std::fopen(key.c_str(), "r");
  EVP_PKEY* signer = PEM_read_PrivateKey(in, nullptr, nullptr, nullptr);
  std::fclose(in);
  EXPECT_NE(X509_time_adj_ex(X509_getm_notAfter(certificate), days, 0, nullptr), nullptr);
  EXPECT_GT(X509_sign(certificate, signer, EVP_sha256()), 0);
  std::FILE* out = std::fopen(to.c_str(), "w");
  EXPECT_EQ(PEM_write_X509(out, certificate), 1);
  std::fclose(out);
  EVP_PKEY_free(signer);
  X509_free(certificate);
}

TEST_F(CertificatesTest, TheEndOfAnAuthorityThatEndsFirstIsTheEndOfAll) {
  ASSERT_TRUE(CreateAuthority(folder_, AuthorityOptions()).has_value());
  const auto node = IssueNodeCertificate(folder_, Node('a'));
  ASSERT_TRUE(node.has_value());
  TlsFiles files;
  files.authority = folder_ + "/short.crt";
  files.certificate = node.value().certificate;
  files.key = node.value().key;
  Shorten(folder_ + "/ca.crt", folder_ + "/ca.key", files.authority, 10);
  const auto tls = TlsContext::Load(files);
  ASSERT_TRUE(tls.has_value()) << tls.error().ToString();
  EXPECT_EQ(tls.value()->not_after(), ReadCertificate(files.authority).value().not_after);
}

TEST_F(CertificatesTest, SerialNumbersDiffer) {
  ASSERT_TRUE(CreateAuthority(folder_, AuthorityOptions()).has_value());
  const auto a = IssueNodeCertificate(folder_, Node('a'));
  const auto b = IssueNodeCertificate(folder_, Node('b'));
  EXPECT_NE(ReadCertificate(a.value().certificate).value().serial,
            ReadCertificate(b.value().certificate).value().serial);
}

}  // namespace
}  // namespace holdfast::transport
