// The bytes of an image to restore from: a sealed slot in memory, or a file of a persistent tier.
//
// A slot in memory is mapped, so that its bytes are read once, by the copy itself.  A file on a
// disk or a parallel file system is read by pread: a page of a mapping that cannot be read would
// kill the trainer with SIGBUS, where pread gives an error that leads to another source.  It is
// read past the page cache where the file system allows that (O_DIRECT): every byte is wanted once,
// and by a training that needs the memory itself.
//
// Threads:   Read by any number of threads at once.
// Ownership: owns the descriptor, and the mapping if there is one.
// Errors:    Open: kCorruption for a file shorter than the image.  Read: kIoError, kCorruption.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "common/bytes.h"
#include "common/result.h"
#include "common/units.h"
#include "transport/owned_fd.h"

namespace holdfast::client {

class ImageSource {
 public:
  // What O_DIRECT wants of addresses, offsets and lengths.
  static constexpr std::size_t kReadAlignment = 4096;

  ~ImageSource();
  ImageSource(const ImageSource&) = delete;
  ImageSource& operator=(const ImageSource&) = delete;

  // "fd" is a readable regular file that begins with an image of "bytes".
  [[nodiscard]] static Result<std::unique_ptr<ImageSource>> Open(transport::OwnedFd fd,
                                                                 ByteCount bytes);

  // [offset, offset + bytes) of the image, which must lie in it: a view of the mapping, or of
  // "scratch" (at least "bytes" long) after reading into it.  To stay past the page cache, offset
  // and scratch start at multiples of kReadAlignment and scratch has room for a multiple of it;
  // the first read that does not costs the rest of the file its speed, nothing else.
  [[nodiscard]] Result<ByteView> Read(ByteCount offset,
                                      std::size_t bytes,
                                      MutableByteView scratch) const;

  // Whether Read gives views of memory, without use of scratch.
  [[nodiscard]] bool Mapped() const { return data_ != nullptr; }

  [[nodiscard]] ByteCount Size() const { return bytes_; }

 private:
  ImageSource(transport::OwnedFd fd, ByteCount bytes, const std::byte* data);

  [[nodiscard]] Status DropDirect() const;

  const transport::OwnedFd fd_;
  const ByteCount bytes_;
  const std::byte* const data_;  // nullptr: read by pread
  // Whether fd_ has O_DIRECT.  Dropped for good at the first read that is refused because of it.
  mutable std::atomic<bool> direct_ = false;
};

}  // namespace holdfast::client
