// Small valid specs, sidecars and manifests that the tests of layout/ damage in every way.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "layout/image.h"
#include "proto/manifest.pb.h"

namespace holdfast::layout {

// A whole tensor of class STABLE.
TensorSpec WholeTensor(std::string name, proto::DataType dtype, Shape shape);

// Dtypes of every size, a scalar, an empty tensor, a sharded one, a flat range, an alias and a
// tensor of the static image.
std::vector<TensorSpec> MixedSpecs();

proto::Layout MixedLayout();

// 16 bytes of "fill".
std::string Uid(char fill);

proto::SnapshotId SampleId();

// A sidecar of MixedLayout with state and made-up digests.
proto::Sidecar SampleSidecar();

// Two ranks, each with a dynamic and a static image; the latter belongs to an older snapshot.
proto::Manifest SampleManifest();

proto::JobFile SampleJobFile();
proto::IncarnationFile SampleIncarnationFile();

}  // namespace holdfast::layout
