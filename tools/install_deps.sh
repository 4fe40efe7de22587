#!/bin/bash
# Installs the Debian packages, the Python environment and the CUDA compiler that are missing; fast when
# none is.
set -euo pipefail
cd "$(dirname "$0")"

install_packages() {
  local -a wanted missing
  mapfile -t wanted < debian-packages.txt
  mapfile -t missing < <(comm -23 <(sort -u debian-packages.txt) \
    <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${wanted[@]}" 2>/dev/null |
      awk '$1 == "ii" { print $2 }' | sort -u))
  ((${#missing[@]} == 0)) && return
  echo "installing: ${missing[*]}"
  local -a sudo=()
  ((EUID == 0)) || sudo=(sudo)
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# The stamp comes last, so that an interrupted installation is done again. The lock lets clones that
# start at once wait for each other.
install_venv() {
  local venv
  venv=$(./venv_path.sh)
  [[ -e $venv/.complete ]] && return
  mkdir -p "$(dirname "$venv")"
  exec 9> "$venv.lock"
  flock 9
  [[ -e $venv/.complete ]] && return
  echo "making the Python environment $venv"
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
  touch "$venv/.complete"
}

# CUDA's headers, static runtime and compiler from their wheels, without what compiling one file does not
# use. The lines above about stamp and lock hold here too.
unpack_cuda() {
  local folder=$1
  rm -rf "$folder" "$folder.wheels"
  "$(./venv_path.sh)/bin/pip" install --quiet --disable-pip-version-check --root-user-action=ignore \
    --no-deps --no-compile --target "$folder.wheels" -r cuda-requirements.txt || return 1
  mv "$folder.wheels/nvidia/cu13" "$folder" || return 1
  rm -rf "$folder.wheels" "$folder/bin/nvlink" "$folder"/lib/*.so.* "$folder/lib/libcudadevrt.a"
  # pip of some versions drops the run bits of files outside of a wheel's scripts.
  chmod -R a+x "$folder/bin" "$folder/nvvm/bin" || return 1
  touch "$folder/.complete"
}

# Without CUDA the build is CPU only. Bazel learns the folder from a file of settings of this clone, so
# that a server that runs already looks again.
install_cuda() {
  local folder settings
  folder="${XDG_CACHE_HOME:-$HOME/.cache}/holdfast/cuda-$(sha256sum cuda-requirements.txt | cut -c1-16)"
  if [[ ! -e $folder/.complete ]]; then
    exec 8> "$folder.lock"
    flock 8
    if [[ ! -e $folder/.complete ]]; then
      echo "unpacking the CUDA compiler into $folder"
      if ! unpack_cuda "$folder"; then
        echo "warning: CUDA's wheels were not installed: unless CUDA is on this machine, the build is CPU only" >&2
        return
      fi
    fi
  fi
  settings="common --repo_env=HOLDFAST_CUDA=$folder"
  [[ -e ../cuda.bazelrc && $(< ../cuda.bazelrc) == "$settings" ]] || echo "$settings" > ../cuda.bazelrc
}

# A precompiled header is refused once a header of the system in it has changed, and Bazel does not see
# those change: what is installed is a part of its key.
note_headers() {
  local installed settings
  installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\n' '*-dev' 'clang-14*' 2>/dev/null |
    awk '$1 == "ii"' | sha256sum | cut -c1-16)
  settings="build --define=system_headers=$installed"
  [[ -e ../system.bazelrc && $(< ../system.bazelrc) == "$settings" ]] || echo "$settings" > ../system.bazelrc
}

install_packages
install_venv
install_cuda
note_headers
./prune_cache.py "$HOME/.cache/holdfast/bazel-disk" "${HOLDFAST_CACHE_GIB:-40}"
