#include "tests/layout/samples.h"

#include <cstdlib>
#include <utility>

#include "common/crc32c.h"
#include "layout/names.h"

namespace holdfast::layout {

TensorSpec WholeTensor(std::string name, proto::DataType dtype, Shape shape) {
  TensorSpec spec;
  spec.name = std::move(name);
  spec.dtype = dtype;
  spec.global_shape = shape;
  spec.local_shape = std::move(shape);
  spec.tensor_class = proto::STABLE;
  return spec;
}

std::vector<TensorSpec> MixedSpecs() {
  std::vector<TensorSpec> specs;
  specs.push_back(WholeTensor("model.norm", proto::BF16, {7}));
  specs.push_back(WholeTensor("optim.step", proto::I64, {}));
  specs.back().tensor_class = proto::STAGED;
  specs.push_back(WholeTensor("model.empty", proto::F32, {0, 5}));
  specs.push_back(WholeTensor("mask \"q\" \\ \n \xc3\xa9", proto::BOOL, {3}));
  specs.push_back(WholeTensor("spectrum", proto::C128, {2, 2}));

  TensorSpec sharded = WholeTensor("model.weight", proto::F32, {8, 6});
  sharded.local_shape = {4, 3};
  proto::Box* box = sharded.part.add_boxes();
  box->add_offset(4);
  box->add_offset(3);
  box->add_length(4);
  box->add_length(3);
  specs.push_back(std::move(sharded));

  TensorSpec flat = WholeTensor("optim.exp_avg", proto::F32, {8, 6});
  flat.local_shape = {10};
  flat.part.set_has_flat_range(true);
  flat.part.set_flat_offset(11);
  flat.part.set_flat_length(10);
  flat.replica_id = 1;
  specs.push_back(std::move(flat));

  TensorSpec frozen = WholeTensor("vision.embed", proto::F16, {2, 3});
  frozen.tensor_class = proto::CONSTANT;
  frozen.image = proto::STATIC;
  specs.push_back(std::move(frozen));

  TensorSpec tied = WholeTensor("head.weight", proto::F32, {12});
  tied.alias_of = "model.weight";
  specs.push_back(std::move(tied));
  return specs;
}

proto::Layout MixedLayout() {
  return PlanImage(MixedSpecs()).value();
}

std::string Uid(char fill) {
  return std::string(kUidBytes, fill);
}

proto::SnapshotId SampleId() {
  proto::SnapshotId id;
  id.set_job_uid(Uid('j'));
  id.set_incarnation(7);
  id.set_step(1200);
  return id;
}

proto::Sidecar SampleSidecar() {
  proto::Sidecar sidecar;
  sidecar.set_format_version(1);
  *sidecar.mutable_id() = SampleId();
  sidecar.set_job_name("llama-7b.run_3");
  sidecar.set_rank(1);
  sidecar.set_world_size(2);
  *sidecar.mutable_layout() = MixedLayout();
  sidecar.set_layout_hash(LayoutHash(sidecar.layout()));
  for (proto::ImageKind kind : {proto::DYNAMIC, proto::STATIC}) {
    proto::ImageDigest* image = sidecar.add_images();
    image->set_kind(kind);
    image->set_length_bytes(ImageBytes(sidecar.layout(), kind));
    image->set_chunk_bytes(kChunkBytes);
    for (std::uint64_t i = 0; i < ChunkCount(image->length_bytes()); ++i) {
      image->add_chunk_crc32c(0xabcd0000u + static_cast<std::uint32_t>(i));
    }
  }
  *sidecar.mutable_images(1)->mutable_owner() = SampleId();
  sidecar.mutable_images(1)->mutable_owner()->set_step(800);
  proto::StateItem* json = sidecar.add_state();
  json->set_name("extra");
  json->set_json("{\"epoch\":3}");
  proto::StateItem* pickle = sidecar.add_state();
  pickle->set_name("rng");
  pickle->set_pickle(std::string("\x80\x04N.\0", 5));
  sidecar.set_sealed_unix_ms(1700000000000);
  sidecar.set_node_uuid(Uid('n'));
  *sidecar.mutable_parent() = SampleId();
  sidecar.mutable_parent()->set_incarnation(6);
  sidecar.mutable_parent()->set_step(400);
  return sidecar;
}

proto::Manifest SampleManifest() {
  proto::Manifest manifest;
  manifest.set_format_version(1);
  *manifest.mutable_id() = SampleId();
  manifest.set_job_name("llama-7b.run_3");
  manifest.set_world_size(2);
  *manifest.mutable_parent() = SampleSidecar().parent();
  proto::SnapshotId owner = SampleId();
  owner.set_step(800);
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    for (proto::ImageKind kind : {proto::DYNAMIC, proto::STATIC}) {
      proto::ManifestFile* file = manifest.add_files();
      file->set_rank(rank);
      file->set_kind(kind);
      file->set_path(SnapshotFolderName(kind == proto::STATIC ? owner : SampleId()) + "/" +
                     RankFileName(rank, 2, kind));
      file->set_length_bytes(8192 + rank);
      file->set_sidecar_path(SnapshotFolderName(SampleId()) + "/" + SidecarFileName(rank, 2));
      file->set_sidecar_crc32c(0xdeadbee0u + rank);
      file->set_layout_hash(Uid(static_cast<char>('0' + rank)));
    }
  }
  manifest.set_created_unix_ms(1700000000000);
  return manifest;
}

proto::JobFile SampleJobFile() {
  proto::JobFile job;
  job.set_format_version(1);
  job.set_job_uid(Uid('j'));
  job.set_job_name("llama-7b.run_3");
  return job;
}

proto::IncarnationFile SampleIncarnationFile() {
  proto::IncarnationFile incarnation;
  incarnation.set_format_version(1);
  incarnation.set_job_uid(Uid('j'));
  incarnation.set_number(7);
  incarnation.set_token(0x123456789abcdef0);
  incarnation.set_world_size(2);
  incarnation.add_member_node_uuids(Uid('n'));
  incarnation.add_member_node_uuids(Uid('m'));
  proto::RestoreDecision* decision = incarnation.mutable_decision();
  decision->set_attempt(2);
  decision->set_decided(true);
  *decision->mutable_choice() = SampleSidecar().parent();
  decision->set_committed(true);
  return incarnation;
}

}  // namespace holdfast::layout
