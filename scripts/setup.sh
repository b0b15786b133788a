#!/bin/sh
# Makes sure that this machine can build Synod: Rust, a C++ compiler and libclang.
#
# RocksDB is C++: its build needs a compiler for C++20, and bindgen, which reads RocksDB's header
# to generate the Rust bindings, loads libclang. On Debian and Ubuntu what is missing is installed
# with apt-get; elsewhere the script says what to install. When nothing is missing it does nothing
# and needs no rights.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
export PATH

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Whether the Rust compiler is there and new enough.
check_rust() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    command -v cargo >/dev/null 2>&1 || fail "Rust is missing: install it from https://rustup.rs" \
        "(Synod needs $wanted or newer) and run this again"
    found=$(rustc --version | sed 's/^rustc \([0-9]*\.[0-9]*\).*/\1/')
    oldest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -t. -k1,1n -k2,2n | head -n 1)
    [ "$oldest" = "$wanted" ] || fail "rustc $found is too old: Synod needs $wanted or newer;" \
        "'rustup update stable' gets it"
}

# Whether the compiler that the build will call takes C++20, with its standard library.
has_cxx() {
    probe=$(mktemp -d)
    printf '#include <concepts>\n#include <cstdint>\nint main() { return 0; }\n' >"$probe/probe.cc"
    # CXX may hold flags too, so it is split into words on purpose.
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

# Whether a folder holds libclang under one of the names that clang-sys looks for.
holds_libclang() {
    for library in "$1"/libclang.so "$1"/libclang.so.* "$1"/libclang-*.so "$1"/libclang-*.so.* \
        "$1"/libclang.dylib; do
        case $library in *-cpp.*) continue ;; esac
        [ -e "$library" ] && return 0
    done
    return 1
}

# The folders that clang-sys searches, in its order, one a line.
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

# Whether clang's own headers are there: libclang without them cannot even read <stddef.h>.
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

# Whether bindgen will find libclang. LIBCLANG_PATH, a folder or a file, overrules every search.
has_libclang() {
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        [ -f "$LIBCLANG_PATH" ] || holds_libclang "$LIBCLANG_PATH"
        return
    fi
    # The reader stops at the first hit, which the writer may report as a broken pipe.
    libclang_folders 2>/dev/null | {
        while IFS= read -r folder; do
            [ -n "$folder" ] && [ -d "$folder" ] && holds_libclang "$folder" && exit 0
        done
        exit 1
    } && has_clang_headers
}

# Runs a command with root's rights, or fails when there is no way to get them.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        # Without a terminal nobody could type a password: fail at once instead of waiting.
        if [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
    else
        return 1
    fi
}

# Installs Debian packages; the package lists of a bare machine may be missing or old.
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get install -y --no-install-recommends "$@" >&2 && return 0
    as_root apt-get update >&2 &&
        as_root apt-get install -y --no-install-recommends "$@" >&2
}

# What to install where there is no apt-get.
other_systems() {
    say "install a C++20 compiler and libclang with its headers, then run this again:"
    say "  Fedora, RHEL:  sudo dnf install gcc-c++ clang-devel"
    say "  Arch:          sudo pacman -S gcc clang"
    say "  Alpine:        sudo apk add g++ clang-dev"
    say "  openSUSE:      sudo zypper install gcc-c++ clang-devel"
    say "  macOS:         xcode-select --install"
    say "libclang in an unusual folder is found through LIBCLANG_PATH"
}

install_missing() {
    say "missing:$missing"
    say "why: RocksDB, which keeps Synod's log and state, is C++ and is compiled from source," \
        "once: ten to sixteen minutes on two cores"
    if ! command -v apt-get >/dev/null 2>&1; then
        other_systems
        exit 1
    fi
    say "installing$packages with apt-get, which takes root's rights and about a minute"
    # The names are words of a list.
    # shellcheck disable=SC2086
    apt_install $packages || fail "could not install them; run as root:" \
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
has_cxx || fail "${CXX:-c++} still cannot compile C++20; name a newer compiler in CXX (and CC)"
has_libclang || fail "libclang is still not found; name its folder in LIBCLANG_PATH"

target=${CARGO_TARGET_DIR:-$root/target}
for built in "$target"/release/build/librocksdb-sys-*/out/librocksdb.a; do
    [ -e "$built" ] && exit 0
done
say "the first build compiles RocksDB: ten to sixteen minutes on two cores, once"
