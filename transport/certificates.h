// Makes a cluster's certificate authority and the certificates of its nodes, so that mutual TLS
// between daemons is two commands.
//
// Files of the folder, PEM:
//   ca.crt, ca.key              the authority; ca.key signs nodes and stays with the operator
//   node-<uuid>.crt, .key       one pair for each node, to be brought there with ca.crt
// The certificate names its node by a URI, holdfast://node/<uuid>; that decides who a peer is.
// Addresses in it are for other programs: peers do not compare them.
//
// Threads:   any thread; blocks on the file system.
// Errors:    kAlreadyExists: a file of that name is there, and nothing was changed.
//            kInvalidArgument, kNotFound, kCorruption name the file.
// Durability: after Ok names and contents survive a power cut.  A file appears whole, with mode
//            0600 (keys) or 0644 (certificates), and never replaces another.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/result.h"

namespace holdfast::transport {

// What a certificate says, for people and tests.
struct CertificateFacts {
  std::string subject;    // "CN=Holdfast node 01234567-…"
  std::string issuer;     // the same of who signed it
  std::string node_uuid;  // 16 bytes; empty where it names no node
  std::vector<std::string> addresses;
  std::string serial;  // hexadecimal
  WallTime not_before;
  WallTime not_after;
};

struct AuthorityOptions {
  std::chrono::hours validity{24 * 3'650};
};

struct NodeOptions {
  std::string node_uuid;               // 16 bytes
  std::vector<std::string> addresses;  // IP addresses and DNS names
  std::chrono::hours validity{24 * 825};
  // Tests make certificates of the past and the future.
  WallTime now = std::chrono::system_clock::now();
};

struct CertificateFiles {
  std::string certificate;
  std::string key;
};

// "folder" is made (mode 0700) where it is missing.
[[nodiscard]] Result<CertificateFiles> CreateAuthority(const std::string& folder,
                                                       const AuthorityOptions& options);

// With the authority in "folder", and until its end at the latest.  kPermission: that has come.
[[nodiscard]] Result<CertificateFiles> IssueNodeCertificate(const std::string& folder,
                                                            const NodeOptions& options);

[[nodiscard]] Result<CertificateFacts> ReadCertificate(const std::string& file);

// "holdfast://node/01234567-89ab-cdef-0123-456789abcdef"
[[nodiscard]] std::string NodeUri(const std::string& node_uuid);

}  // namespace holdfast::transport
