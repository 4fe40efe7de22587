// Who gets in: certificates of every kind, and sides that disagree about TLS.
#include <filesystem>

#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/transport/peer_fixture.h"
#include "transport/certificates.h"

namespace holdfast::transport {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

class PeerTlsTest : public PeerTest {
 protected:
  static Node::Options Named(char name, std::shared_ptr<const TlsContext> tls) {
    Node::Options options;
    options.name = name;
    options.tls = std::move(tls);
    options.limits.hello_timeout = seconds(5);
    return options;
  }

  // "a" tries to connect with "b"; why it did not get in.  "limit": for a refusal to be known.
  std::string WhyNot(Node* a, Node* b, const std::string& wanted_uuid) {
    PeerAddress address;
    address.node_uuid = wanted_uuid;
    address.endpoints = {b->server.address()};
    PeerClient client(io_.get_executor(), &a->context, address);
    EXPECT_TRUE(client.Start().has_value());
    EXPECT_TRUE(RunUntil([&] {
      return client.channel() != nullptr || client.last_error().message != "not connected yet";
    }));
    EXPECT_EQ(client.channel(), nullptr);
    EXPECT_TRUE(b->ups.empty());
    std::string why = client.last_error().message;
    End(&client);
    return why;
  }

  // A certificate of node "a" that was valid, or will be.
  static std::shared_ptr<const TlsContext> Dated(const std::string& name, WallTime now) {
    const std::string folder = testing::TempDir() + "/dated-" + name;
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
    for (const char* file : {"ca.crt", "ca.key"}) {
      std::filesystem::copy_file(Authority("ca") + "/" + file, folder + "/" + file);
    }
    NodeOptions options;
    options.node_uuid = Uuid('a');
    options.validity = std::chrono::hours(24);
    options.now = now;
    const auto files = IssueNodeCertificate(folder, options);
    EXPECT_TRUE(files.has_value());
    TlsFiles tls;
    tls.authority = folder + "/ca.crt";
    tls.certificate = files.value().certificate;
    tls.key = files.value().key;
    const auto loaded = TlsContext::Load(tls);
    EXPECT_EQ(loaded.error().code, Errc::kPermission);
    return TlsContext::LoadUnchecked(tls).value();
  }
};

TEST_F(PeerTlsTest, CertificateOfAnotherClusterIsRefusedByBoth) {
  Node a(io_, Named('a', TlsOf("other", 'a')));
  Node b(io_, Named('b', TlsOf("ca", 'b')));
  b.Listen();
  EXPECT_THAT(WhyNot(&a, &b, Uuid('b')),
              AllOf(HasSubstr("CN=Holdfast node 62626262"), HasSubstr("is not of this cluster")));
  EXPECT_EQ(a.context.refusals().count(Refusal::kTls), 1U);
  End(&b);
}

TEST_F(PeerTlsTest, ServerSaysWhyAClientOfAnotherClusterIsRefused) {
  // The client trusts both authorities, so that only the server refuses.
  TlsFiles files = FilesOf("other", 'a');
  const std::string both = testing::TempDir() + "/both.crt";
  std::filesystem::remove(both);
  std::filesystem::copy_file(Authority("ca") + "/ca.crt", both);
  {
    std::FILE* out = std::fopen(both.c_str(), "a");
    std::FILE* in = std::fopen(files.authority.c_str(), "r");
    for (int c = std::fgetc(in); c != EOF; c = std::fgetc(in)) {
      std::fputc(c, out);
    }
    std::fclose(in);
    std::fclose(out);
  }
  files.authority = both;
  const auto tls = TlsContext::Load(files);
  ASSERT_TRUE(tls.has_value()) << tls.error().ToString();
  Node a(io_, Named('a', tls.value()));
  Node b(io_, Named('b', TlsOf("ca", 'b')));
  b.Listen();
  EXPECT_THAT(WhyNot(&a, &b, Uuid('b')),
              HasSubstr("does not accept this node's certificate (tlsv1 alert unknown ca)"));
  EXPECT_EQ(b.context.refusals().count(Refusal::kTls), 1U);
  EXPECT_EQ(b.context.refusals().logged(), 1U);
  End(&b);
}

TEST_F(PeerTlsTest, ExpiredCertificateIsRefused) {
  const auto past = std::chrono::system_clock::now() - std::chrono::hours(48);
  Node a(io_, Named('a', Dated("past", past)));
  Node b(io_, Named('b', TlsOf("ca", 'b')));
  b.Listen();
  EXPECT_THAT(WhyNot(&a, &b, Uuid('b')), HasSubstr("certificate expired"));
  EXPECT_EQ(b.context.refusals().count(Refusal::kTls), 1U);
  End(&b);
}

TEST_F(PeerTlsTest, ExpiredCertificateOfTheServerIsNamedByTheClient) {
  const auto past = std::chrono::system_clock::now() - std::chrono::hours(48);
  Node a(io_, Named('a', Dated("past-server", past)));
  Node b(io_, Named('b', TlsOf("ca", 'b')));
  a.Listen();
  EXPECT_THAT(
      WhyNot(&b, &a, Uuid('a')),
      AllOf(HasSubstr("CN=Holdfast node 61616161"), HasSubstr("it has expired; issue a new one")));
  End(&a);
}

TEST_F(PeerTlsTest, CertificateOfTheFutureIsRefused) {
  const auto future = std::chrono::system_clock::now() + std::chrono::hours(48);
  Node a(io_, Named('a', Dated("future", future)));
  Node b(io_, Named('b', TlsOf("ca", 'b')));
  a.Listen();
  EXPECT_THAT(WhyNot(&b, &a, Uuid('a')), HasSubstr("not valid yet; compare the clocks"));
  End(&a);
}

TEST_F(PeerTlsTest, ClientWithoutCertificateIsRefused) {
  Node b(io_, Named('b', TlsOf("ca", 'b')));
  b.Listen();
  asio::ssl::context context(asio::ssl::context::tls_client);
  asio::ssl::stream<asio::ip::tcp::socket> stranger(io_, context);
  stranger.next_layer().connect(
      asio::ip::tcp::endpoint(asio::ip::make_address("127.0.0.1"), b.port()));
  bool ended = false;
  stranger.async_handshake(asio::ssl::stream_base::client,
                           [&ended](const boost::system::error_code&) { ended = true; });
  ASSERT_TRUE(RunUntil([&] { return ended && b.context.refusals().count(Refusal::kTls) == 1; }));
  EXPECT_TRUE(b.ups.empty());
  boost::system::error_code ignored;
  (void)stranger.next_layer().close(ignored);
  End(&b);
}

TEST_F(PeerTlsTest, OlderTlsIsRefused) {
  Node b(io_, Named('b', TlsOf("ca", 'b')));
  b.Listen();
  asio::ssl::context context(asio::ssl::context::tlsv12_client);
  // With the certificate of a node: the version alone is wrong.
  const TlsFiles files = FilesOf("ca", 'a');
  context.use_certificate_chain_file(files.certificate);
  context.use_private_key_file(files.key, asio::ssl::context::pem);
  asio::ssl::stream<asio::ip::tcp::socket> old(io_, context);
  old.next_layer().connect(asio::ip::tcp::endpoint(asio::ip::make_address("127.0.0.1"), b.port()));
  boost::system::error_code result;
  bool ended = false;
  old.async_handshake(asio::ssl::stream_base::client, [&](const boost::system::error_code& error) {
    ended = true;
    result = error;
  });
  ASSERT_TRUE(RunUntil([&] { return ended && b.context.refusals().count(Refusal::kTls) == 1; }));
  EXPECT_TRUE(result);
  boost::system::error_code ignored;
  (void)old.next_layer().close(ignored);
  End(&b);
}

TEST_F(PeerTlsTest, HelloOfAnotherNodeThanTheCertificateIsRefused) {
  // A node that lies about itself: its context is made by hand, since Check would stop it.
  Node a(io_, Named('c', TlsOf("ca", 'a')));
  Node b(io_, Named('b', TlsOf("ca", 'b')));
  b.Listen();
  asio::ip::tcp::socket socket(io_);
  socket.connect(asio::ip::tcp::endpoint(asio::ip::make_address("127.0.0.1"), b.port()));
  auto stream = MakeTlsStream(std::move(socket), a.context.tls(), Side::kConnects);
  const auto opened = RunToEnd(PeerChannel::Open(std::move(stream), &a.context, Uuid('b')));
  // Its own side may find the connection good before the refusal arrives.
  if (opened.has_value()) {
    const Error why = RunToEnd(opened.value()->Run());
    EXPECT_THAT(why.message, HasSubstr("its certificate is of node 61616161"));
  }
  EXPECT_TRUE(RunUntil([&] { return b.context.refusals().count(Refusal::kIdentity) == 1; }));
  EXPECT_TRUE(b.ups.empty());
  End(&b);
}

TEST_F(PeerTlsTest, AddressThatBelongsToAnotherNodeIsNotUsed) {
  Node a(io_, Named('a', TlsOf("ca", 'a')));
  Node b(io_, Named('b', TlsOf("ca", 'b')));
  b.Listen();
  PeerAddress address;
  address.node_uuid = Uuid('z');
  address.endpoints = {b.server.address()};
  PeerClient client(io_.get_executor(), &a.context, address);
  ASSERT_TRUE(client.Start().has_value());
  EXPECT_TRUE(RunUntil([&] { return a.context.refusals().count(Refusal::kIdentity) > 0; }));
  EXPECT_TRUE(RunUntil([&] { return client.last_error().code == Errc::kPermission; }));
  EXPECT_THAT(client.last_error().message, HasSubstr("the address belongs to another node"));
  // It never counts as connected there, however often it knocks.
  EXPECT_TRUE(RunUntil([&] { return b.context.refusals().count(Refusal::kIdentity) > 2; }));
  EXPECT_TRUE(b.ups.empty());
  End(&client);
  End(&b);
}

TEST_F(PeerTlsTest, PlainClientOnATlsPortIsToldApart) {
  Node a(io_, Named('a', nullptr));
  Node b(io_, Named('b', TlsOf("ca", 'b')));
  b.Listen();
  (void)WhyNot(&a, &b, Uuid('b'));
  EXPECT_EQ(b.context.refusals().count(Refusal::kTls), 1U);
  End(&b);
}

TEST_F(PeerTlsTest, TlsClientOnAPlainPortIsToldApart) {
  Node a(io_, Named('a', TlsOf("ca", 'a')));
  Node b(io_, Named('b', nullptr));
  b.Listen();
  EXPECT_THAT(WhyNot(&a, &b, Uuid('b')), HasSubstr("does not speak TLS"));
  EXPECT_EQ(b.context.refusals().count(Refusal::kGarbage), 1U);
  End(&b);
}

TEST_F(PeerTlsTest, CertificateOfAnotherNodeStopsThisOne) {
  Node a(io_, Named('c', TlsOf("ca", 'a')));
  const Status listening = a.server.Listen("127.0.0.1", 0, false);
  EXPECT_EQ(listening.error().code, Errc::kPermission);
  EXPECT_THAT(listening.error().message, HasSubstr("the certificate is of node 61616161"));
}

TEST_F(PeerTlsTest, CertificateAndKeyOfTwoNodesDoNotLoad) {
  TlsFiles files = FilesOf("ca", 'a');
  files.key = FilesOf("ca", 'b').key;
  EXPECT_THAT(TlsContext::Load(files).error().message, HasSubstr("is not the key of"));
  files = FilesOf("ca", 'a');
  files.authority = Authority("other") + "/ca.crt";
  EXPECT_THAT(TlsContext::Load(files).error().message, HasSubstr("is not of this cluster"));
  files = FilesOf("ca", 'a');
  files.certificate = Authority("ca") + "/ca.crt";
  files.key = Authority("ca") + "/ca.key";
  EXPECT_THAT(TlsContext::Load(files).error().message, HasSubstr("names no node"));
  files.key = "/nowhere";
  EXPECT_EQ(TlsContext::Load(files).error().code, Errc::kNotFound);
}

TEST_F(PeerTlsTest, KeyThatEverybodyMayReadDoesNotLoad) {
  TlsFiles files = FilesOf("ca", 'a');
  const std::string open = testing::TempDir() + "/open.key";
  std::filesystem::remove(open);
  std::filesystem::copy_file(files.key, open);
  std::filesystem::permissions(open, std::filesystem::perms(0644));
  files.key = open;
  EXPECT_THAT(TlsContext::Load(files).error().message, HasSubstr("chmod 600"));
}

TEST(PeerSecurityTest, OnlyLoopbackMayDoWithoutTls) {
  const auto check = [](const std::string& address, bool tls, bool insecure) {
    PeerSecurity security;
    security.listen_address = address;
    security.tls = tls;
    security.allow_insecure = insecure;
    return CheckPeerSecurity(security);
  };
  EXPECT_TRUE(check("127.0.0.1", false, false).has_value());
  EXPECT_TRUE(check("127.8.9.1", false, false).has_value());
  EXPECT_TRUE(check("::1", false, false).has_value());
  for (const char* address : {"0.0.0.0", "::", "10.0.0.7", "192.168.1.1", "::ffff:10.0.0.7"}) {
    EXPECT_EQ(check(address, false, false).error().code, Errc::kPermission) << address;
    EXPECT_TRUE(check(address, true, false).has_value()) << address;
    EXPECT_TRUE(check(address, false, true).has_value()) << address;
  }
  EXPECT_THAT(check("0.0.0.0", false, false).error().message, HasSubstr("peer.allow_insecure"));
  for (const char* address : {"", "localhost", "127.0.0.1:80", "1.2.3"}) {
    EXPECT_EQ(check(address, true, true).error().code, Errc::kInvalidArgument) << address;
  }
}

}  // namespace
}  // namespace holdfast::transport
