#!/bin/sh
# Sets gridseg up: installs what is missing from Debian 12, then builds into build/ (run again: only what changed).
#
#   cluster/setup.sh [--tests] [--no-build] [--prefix DIR]
#
#   --tests       also what tests/run.sh needs
#   --no-build    packages only
#   --prefix DIR  `cmake --install` into DIR afterwards
#
# Packages are installed as root or with sudo. Where a site provides the libraries (CMAKE_PREFIX_PATH is set, or there is
# no apt-get) nothing is installed and the build takes what it finds. GRIDSEG_CMAKE_ARGS is passed on to cmake.
set -eu
cd "$(dirname "$0")/.."

build_packages='gcc libc6-dev cmake ninja-build openmpi-bin libopenmpi-dev libhdf5-dev libdnnl-dev libjansson-dev
libyaml-dev libutf8proc-dev libjpeg62-turbo-dev libpng-dev libtiff-dev libdeflate-dev zlib1g-dev libssl-dev libcairo2-dev'
test_packages='libcmocka-dev git python3 python3-numpy python3-h5py python3-pip hdf5-tools clang clang-format clang-tidy
libclang-rt-14-dev libomp-14-dev valgrind slurm-wlm munge'

tests=no build=yes prefix=
while [ $# -gt 0 ]; do
  case "$1" in
    --tests) tests=yes ;;
    --no-build) build=no ;;
    --prefix) [ $# -ge 2 ] || { echo "setup.sh: --prefix wants a directory" >&2; exit 2; }; prefix=$2; shift ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift
done

say() { printf 'setup: %s\n' "$*" >&2; }

missing() {
  for package in $1; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || printf '%s ' "$package"
  done
}

install_packages() {
  wanted=$build_packages
  [ $tests = no ] || wanted="$wanted $test_packages"
  lacking=$(missing "$wanted")
  [ -n "$lacking" ] || return 0
  root=
  if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null 2>&1; then root='sudo -E'; else
      say "missing: $lacking"
      say "install them as root, or give the libraries by CMAKE_PREFIX_PATH=DIR and run this again"
      exit 2
    fi
  fi
  say "installing $lacking"
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  # A list that is out of date names files that the server no longer has: then fetch the list and try once more.
  # shellcheck disable=SC2086
  if ! { $root apt-get install -y -q --no-install-recommends $lacking >"$log" 2>&1 ||
         { $root apt-get update -q >"$log" 2>&1 &&
           $root apt-get install -y -q --no-install-recommends $lacking >>"$log" 2>&1; }; }; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    say "apt-get failed"
    exit 1
  fi
  rm -f "$log"
}

if [ -n "${CMAKE_PREFIX_PATH:-}" ]; then
  say "CMAKE_PREFIX_PATH is set: nothing is installed, the libraries are the site's"
elif ! command -v apt-get >/dev/null 2>&1; then
  say "no apt-get here: nothing is installed"
else
  install_packages
fi
[ $build = yes ] || exit 0

options=${GRIDSEG_CMAKE_ARGS:-}
# A build that has its tests keeps them.
[ $tests = yes ] || [ -f build/CMakeCache.txt ] || options="-DGRIDSEG_TESTS=OFF $options"
[ $tests = no ] || options="-DGRIDSEG_TESTS=ON $options"
if [ ! -f build/CMakeCache.txt ] && command -v ninja >/dev/null 2>&1; then options="-G Ninja $options"; fi
# shellcheck disable=SC2086
cmake -S . -B build $options >/dev/null
jobs=$(nproc 2>/dev/null || echo 2)
cmake --build build -j"$jobs" >build/build.log 2>&1 || { tail -n 40 build/build.log >&2; say "the build failed"; exit 1; }
say "built: build/"
if [ -n "$prefix" ]; then
  cmake --install build --prefix "$prefix" >/dev/null
  say "installed into $prefix"
fi
