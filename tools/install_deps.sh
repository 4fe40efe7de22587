#!/bin/bash
# Installs the Debian packages and the Python environment that are missing; fast when none is.
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

install_packages
install_venv
