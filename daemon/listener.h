// The Unix socket on which clients connect, as a name in the file system.
//
// Threads:   Open on the main thread at start; the acceptor on the io thread.
// Ownership: owns the socket and its name; the name is removed at destruction if it is still ours.
// Errors:    kAlreadyExists: a daemon answers on this socket.  kInvalidArgument: the path is too
// long
//            for the kernel.  kNotFound, kPermission: the folder.
#pragma once

#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <sys/types.h>

#include "common/result.h"

namespace holdfast::daemon {

class Listener {
 public:
  using Acceptor = boost::asio::local::stream_protocol::acceptor;

  // Binds and listens.  The socket file of a dead daemon is replaced; anything else of that name is
  // left alone.  "for_all": mode 0666, for daemons that serve several users and check them by their
  // credentials; else 0600.
  [[nodiscard]] static Result<Listener> Open(boost::asio::io_context& io,
                                             const std::string& path,
                                             bool for_all);

  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&&) = delete;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener();

  [[nodiscard]] Acceptor& acceptor() { return acceptor_; }

  [[nodiscard]] const std::string& path() const { return path_; }

  // Closes the socket and removes its name.  May be called again.
  void Close();

 private:
  Listener(Acceptor acceptor, std::string path, dev_t device, ino_t inode);

  Acceptor acceptor_;
  std::string path_;  // empty: moved from or closed
  dev_t device_;
  ino_t inode_;
};

}  // namespace holdfast::daemon
