#!/bin/sh
# Checks that this machine can build Synod: Rust, a C++ compiler and libclang.
#
# RocksDB is C++: its build needs a C++20 compiler. bindgen, which generates the Rust bindings from
# RocksDB's header, loads libclang. On Debian and Ubuntu the script installs missing packages with
# apt-get; elsewhere it prints what to install. If nothing is missing it changes nothing and needs
# no root rights.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
export PATH

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Fails unless the Rust compiler is installed and new enough.
check_rust() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    command -v cargo >/dev/null 2>&1 || fail "Rust is missing: install it from https://rustup.rs" \
        "(Synod needs $wanted or newer) and run this again"
    found=$(rustc --version | sed 's/^rustc \([0-9]*\.[0-9]*\).*/\1/')
    oldest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -t. -k1,1n -k2,2n | head -n 1)
    [ "$oldest" = "$wanted" ] || fail "rustc $found is too old: Synod needs $wanted or newer;" \
        "run 'rustup update stable'"
}

# Returns whether the compiler of the build supports C++20, with its standard library.
has_cxx() {
    probe=$(mktemp -d)
    printf '#include <concepts>\n#include <cstdint>\nint main() { return 0; }\n' >"$probe/probe.cc"
    # CXX may contain flags, so it is split into words on purpose.
    # shellcheck disable=SC2086
    if ${CXX:-c++} -std=c++20 "$probe/probe.cc" -o "$probe/probe" >/dev/null 2>&1 &&
        command -v "${CC:-cc}" >/dev/null 2>&1; then
        status=0
    else
        status=1
    fi
    rm -rf "$probe"
    return $status
}

# Returns whether a folder contains libclang under one of the names that clang-sys accepts.
holds_libclang() {
    for library in "$1"/libclang.so "$1"/libclang.so.* "$1"/libclang-*.so "$1"/libclang-*.so.* \
        "$1"/libclang.dylib; do
        case $library in *-cpp.*) continue ;; esac
        [ -e "$library" ] && return 0
    done
    return 1
}

# Prints the folders that clang-sys searches, in its order, one per line.
libclang_folders() {
    prefix=$("${LLVM_CONFIG_PATH:-llvm-config}" --prefix 2>/dev/null || true)
    [ -z "$prefix" ] || printf '%s\n' "$prefix/bin" "$prefix/lib" "$prefix/lib64"
    if command -v xcode-select >/dev/null 2>&1; then
        printf '%s\n' "$(xcode-select --print-path)/Toolchains/XcodeDefault.xctoolchain/usr/lib"
    fi
    printf '%s\n' "${LD_LIBRARY_PATH:-}" "${LIBRARY_PATH:-}" | tr ':' '\n'
    printf '%s\n' /usr/local/llvm*/lib* /usr/local/lib*/*/* /usr/local/lib*/* /usr/local/lib* \
        /usr/lib*/*/* /usr/lib*/* /usr/lib* /usr/local/opt/llvm*/lib \
        /Library/Developer/CommandLineTools/usr/lib \
        /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib
}

# Returns whether clang's own headers are installed: without them libclang cannot read <stddef.h>.
has_clang_headers() {
    [ -z "${BINDGEN_EXTRA_CLANG_ARGS:-}" ] || return 0
    prefix=$("${LLVM_CONFIG_PATH:-llvm-config}" --prefix 2>/dev/null || true)
    for header in "${prefix:-/usr}"/lib*/clang/*/include/stddef.h \
        /usr/lib*/llvm*/lib*/clang/*/include/stddef.h /usr/lib*/clang/*/include/stddef.h \
        /usr/lib/llvm*/lib/clang/*/include/stddef.h /usr/local/*/clang/*/include/stddef.h \
        /usr/local/opt/llvm*/lib/clang/*/include/stddef.h \
        /Library/Developer/CommandLineTools/usr/lib/clang/*/include/stddef.h \
        /Applications/Xcode.app/Contents/Developer/Toolchains/*/usr/lib/clang/*/include/stddef.h; do
        [ -e "$header" ] && return 0
    done
    return 1
}

# Returns whether bindgen will find libclang. LIBCLANG_PATH, a folder or a file, overrides the search.
has_libclang() {
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        [ -f "$LIBCLANG_PATH" ] || holds_libclang "$LIBCLANG_PATH"
        return
    fi
    # The reader stops at the first match, which the writer may report as a broken pipe.
    libclang_folders 2>/dev/null | {
        while IFS= read -r folder; do
            [ -n "$folder" ] && [ -d "$folder" ] && holds_libclang "$folder" && exit 0
        done
        exit 1
    } && has_clang_headers
}

# Runs a command as root, or fails if that is impossible.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        # Without a terminal no password can be entered: fail and do not wait.
        if [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
    else
        return 1
    fi
}

# Installs Debian packages. The package lists of a new machine may be missing or old.
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get install -y --no-install-recommends "$@" >&2 && return 0
    as_root apt-get update >&2 &&
        as_root apt-get install -y --no-install-recommends "$@" >&2
}

# Prints what to install on systems without apt-get.
other_systems() {
    say "install a C++20 compiler and libclang with its headers, then run this again:"
    say "  Fedora, RHEL:  sudo dnf install gcc-c++ clang-devel"
    say "  Arch:          sudo pacman -S gcc clang"
    say "  Alpine:        sudo apk add g++ clang-dev"
    say "  openSUSE:      sudo zypper install gcc-c++ clang-devel"
    say "  macOS:         xcode-select --install"
    say "if libclang is in another folder, set LIBCLANG_PATH"
}

install_missing() {
    say "missing:$missing"
    say "reason: RocksDB, which stores Synod's log and state, is C++ and is compiled from source," \
        "once: ten to sixteen minutes on two cores"
    if ! command -v apt-get >/dev/null 2>&1; then
        other_systems
        exit 1
    fi
    say "installing$packages with apt-get; this needs root and takes about a minute"
    # The list is split into words on purpose.
    # shellcheck disable=SC2086
    apt_install $packages || fail "the installation failed; run as root:" \
        "apt-get update && apt-get install -y$packages"
}

missing=
packages=
check_rust
if ! has_cxx; then
    missing="$missing a C++20 compiler;"
    packages="$packages g++"
fi
if ! has_libclang; then
    missing="$missing libclang with its headers;"
    packages="$packages libclang-dev"
fi
[ -z "$packages" ] || install_missing
has_cxx || fail "${CXX:-c++} still cannot compile C++20; set CXX (and CC) to a newer compiler"
has_libclang || fail "libclang is still not found; set LIBCLANG_PATH to its folder"

target=${CARGO_TARGET_DIR:-$root/target}
for built in "$target"/release/build/librocksdb-sys-*/out/librocksdb.a; do
    [ -e "$built" ] && exit 0
done
say "the first build compiles RocksDB: ten to sixteen minutes on two cores, once"
