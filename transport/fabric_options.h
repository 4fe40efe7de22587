// What a fabric endpoint may be told.
//
// Threads: a value.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/units.h"
#include "transport/fabric_version.h"

namespace holdfast::transport {

struct FabricOptions {
  // libfabric's names, in the order in which they are tried.  "shm" is for tests on one host: it
  // installs signal handlers of its own, every process of this user can read through it, and a peer
  // that is killed may leave a lock in its shared memory taken for which a read then waits for
  // ever.
  std::vector<std::string> providers{"verbs;ofi_rxm", "efa", "tcp;ofi_rxm"};
  // An IP address of the network card to use.  Not looked at by efa and shm, which have addresses
  // of another kind; needed by all others.
  std::string bind_address;
  // The device's name ("mlx5_0", "rdmap0s6-rdm"); empty: any that has the address.
  std::string device;
  // File names of libfabric, in the order in which they are tried.
  std::vector<std::string> libraries{kFabricLibrary, kBundledFabricLibrary};

  // Bytes of one read; at most 4 MiB, and less where the provider wants it.
  ByteCount block_bytes = 4 * kMiB;
  // Reads from one peer that the provider has at once, from 1 to 256; further ones wait.
  std::size_t reads_per_peer = 16;
  // Reads from one peer that wait; who comes then is refused.
  std::size_t waiting_per_peer = 1'024;
  // Peers that are read from at one time.
  std::size_t max_peers = 256;
  // Tries of one read, with pauses that double from the first to the longest.
  std::size_t attempts = 6;
  std::chrono::milliseconds first_pause{10};
  std::chrono::milliseconds longest_pause{1'000};
  // For a connection to a peer; its reads fail afterwards.
  std::chrono::milliseconds connect_limit{3'000};
  // A cancelled read has so long to end by itself, before the connection to its peer is closed.
  std::chrono::milliseconds cancel_grace{50};
  // A connection that nobody uses is closed after so long.
  std::chrono::milliseconds idle_close{60'000};

  // Tests only: registers local memory, as verbs wants it, where the provider does not.
  bool always_register_local = false;
};

}  // namespace holdfast::transport
