//! The generated code in `src/generated` matches the `.proto` files.
//!
//! It is committed, so that building needs neither protoc nor a build script. After a change of a
//! `.proto` file, or of the generator's version, run `SYNOD_REGENERATE=1 cargo test -p
//! synod-etcd-api --test generated` before adapting the Rust code: the test needs the library to
//! compile.

use std::fs;
use std::path::{Path, PathBuf};

const FILES: [&str; 2] = ["etcdserverpb.rs", "mvccpb.rs"];

#[test]
fn generated_code_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/generated");
    let fresh = generate(&root.join("proto"));
    for name in FILES {
        let fresh = fs::read_to_string(fresh.join(name)).unwrap();
        let path = committed.join(name);
        if std::env::var_os("SYNOD_REGENERATE").is_some_and(|value| value == "1") {
            fs::write(&path, &fresh).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == fresh, "{name} is out of date: run this test with SYNOD_REGENERATE=1");
    }
    let mut present: Vec<_> =
        fs::read_dir(&committed).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    present.sort();
    assert_eq!(present, FILES, "unexpected files in {}", committed.display());
}

fn generate(proto: &Path) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("etcd-api-generated");
    fs::create_dir_all(&out).unwrap();
    let set = protox::compile([proto.join("rpc.proto"), proto.join("kv.proto")], [proto])
        .unwrap_or_else(|error| panic!("{error:?}"));
    tonic_prost_build::configure()
        .out_dir(&out)
        // Keys and values share the request's buffer instead of being copied.
        .bytes(".")
        .compile_fds(set)
        .unwrap();
    out
}
