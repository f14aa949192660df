#!/usr/bin/env bash
# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
#
# Builds the virtual environment that the Makefile uses, from a bare Debian or Ubuntu on: system
# packages where they are missing (apt-get, as root or through sudo), then the Python packages of
# setup.py in the versions of constraints.txt, then with the extra `ros` messages that are not
# among them. Done already: returns at once.
#
# PYTHON, VENV and EXTRAS (variables of the Makefile) choose the interpreter, the folder and the
# extras.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
venv=${VENV:-.venv}
extras=${EXTRAS:-dev,ros}
stamp=$venv/recon3r_ros.stamp

# Shared libraries that Open3D's wheel expects on the system, and their packages.
libraries=(
    libusb-1.0.so.0:libusb-1.0-0
    libGL.so.1:libgl1
    libEGL.so.1:libegl1
    libX11.so.6:libx11-6
    libudev.so.1:libudev1
    libidn2.so.0:libidn2-0
    libgomp.so.1:libgomp1
)

say() { echo "recon3r_ros: $*" >&2; }
die() { say "$*"; exit 1; }

# Install Debian packages; fails, without a word, where that is not possible.
apt_install() {
    command -v apt-get >/dev/null || return 1
    local as_root=()
    if [[ $(id -u) -ne 0 ]]; then
        command -v sudo >/dev/null || return 1
        # Ask for a password only where somebody can type one.
        [[ -t 0 ]] || sudo -n true 2>/dev/null || return 1
        as_root=(sudo)
    fi
    say "installing system packages: $*"
    # The lists of a bare system are empty; a broken third-party source is no reason to stop.
    "${as_root[@]}" apt-get update -qq >/dev/null || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq --no-install-recommends "$@" >/dev/null
}

have_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

ensure_python() {
    have_venv || apt_install python3 python3-venv || true
    have_venv || die "'$python' cannot make virtual environments:" \
        "run 'apt-get install python3 python3-venv' as root, or set PYTHON"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "Python 3.10 or newer is needed, $("$python" --version) found; set PYTHON to another"
}

# Print the packages whose library cannot be loaded.
missing_libraries() {
    "$venv/bin/python" - "${libraries[@]}" <<'PYTHON'
import ctypes
import sys

for entry in sys.argv[1:]:
    library, package = entry.split(':')
    try:
        ctypes.CDLL(library)
    except OSError:
        print(package)
PYTHON
}

ensure_libraries() {
    [[ $(uname -s) == Linux ]] || return 0
    local missing
    mapfile -t missing < <(missing_libraries)
    [[ ${#missing[@]} -gt 0 ]] || return 0
    # Only Open3D needs them, so that the rest works without.
    apt_install "${missing[@]}" ||
        say "Open3D will not load without system packages that could not be installed here:" \
            "run 'apt-get install ${missing[*]}' as root"
}

has_extra() { [[ ,$extras, == *,$1,* ]]; }

# Leave out the extra `ros` where there is no use for it or no such wheels.
choose_ros() {
    has_extra ros || return 0
    if [[ -n ${ROS_DISTRO:-} ]]; then
        say "ROS 2 $ROS_DISTRO is sourced and will be used: its wheels from PyPI are left out"
    elif [[ "$(uname -s) $(uname -m)" != 'Linux x86_64' ]]; then
        say "there are no wheels of ROS 2 for $(uname -s) on $(uname -m): what needs ROS is left" \
            "out; for that source a ROS 2 installation"
    else
        return 0
    fi
    local rest=,$extras,
    rest=${rest/,ros,/,}
    rest=${rest#,}
    extras=${rest%,}
}

# What the installed packages depend on.
wanted() {
    echo "$extras $("$venv/bin/python" --version)"
    cksum setup.py constraints.txt
}

ensure_packages() {
    local want
    want=$(wanted)
    [[ -f $stamp && $(<"$stamp") == "$want" ]] && return 0
    say "installing Python packages into $venv (some minutes, 3 GB and more)"
    local quiet=(--quiet)
    [[ -t 1 ]] && quiet=()
    "$venv/bin/python" -m pip install --disable-pip-version-check "${quiet[@]}" \
        --constraint constraints.txt --editable ".${extras:+[$extras]}" ||
        die "pip could not install the packages, see above"
    echo "$want" >"$stamp"
}

# Messages for which PyPI has no wheel are built: those of TF and vision_msgs.
ensure_messages() {
    has_extra ros || return 0
    local build=("$venv/bin/python" scripts/build_messages.py)
    local said=$venv/recon3r_ros.without_messages packages
    if packages=$("${build[@]}" 2>"$said.log"); then
        rm -f "$said" "$said.log"
        return 0
    fi
    if [[ -f $said ]]; then
        rm -f "$said.log"
        return 0
    fi
    # shellcheck disable=SC2086 # a list
    if [[ -n $packages ]] && apt_install $packages && "${build[@]}" >/dev/null 2>"$said.log"; then
        rm -f "$said.log"
        return 0
    fi
    # Which ones are missing comes with the reason: "TF is left out: ...".
    say "messages could not be built, all else works. $(<"$said.log")"
    mv "$said.log" "$said"
}

choose_ros
if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    ensure_python
    "$python" -m venv --clear "$venv"
fi
ensure_libraries
ensure_packages
ensure_messages
