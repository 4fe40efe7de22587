// What the pipeline works on: a real arena, and a root whose file system fails on command.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "daemon/pipeline/context.h"
#include "storage_tiers/posix_file_system.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/temp_folder.h"

namespace holdfast::daemon {

class PipelineNodeTest : public ::testing::Test {
 protected:
  explicit PipelineNodeTest(const TierOptions& options)
      : tiers_(io_.get_executor(), options, 2, Maker()) {
    std::filesystem::create_directory(Root());
    storage_tiers::ArenaOptions arena;
    arena.folder = folder_ + "/arena";
    arena.budget_bytes = 64 * kMiB;
    std::filesystem::create_directory(arena.folder);
    std::filesystem::permissions(arena.folder, std::filesystem::perms::owner_all);
    arena_ = storage_tiers::Arena::Open(arena).value();
    slots_ = std::make_unique<SlotStore>(*arena_, pool_);
    context_ = std::make_unique<PipelineContext>(PipelineContext{tiers_, *slots_, layouts_});
  }

  std::string Root() const { return folder_ + "/root"; }

  TierSet::MakeFileSystem Maker() {
    return [this] {
      auto made = std::make_unique<holdfast::testing::FaultFileSystem>(base_);
      faults_ = made.get();
      return made;
    };
  }

  storage_tiers::PosixFileSystem base_;
  holdfast::testing::FaultFileSystem* faults_ = nullptr;  // of the root that was opened last
  TempFolder temp_;
  const std::string folder_ = temp_.path();
  boost::asio::io_context io_{1};
  WorkerPool pool_{"cpu", 1};
  std::unique_ptr<storage_tiers::Arena> arena_;
  std::unique_ptr<SlotStore> slots_;
  LayoutStore layouts_;
  TierSet tiers_;
  std::unique_ptr<PipelineContext> context_;
};

}  // namespace holdfast::daemon
