//! Crash points are not in release builds: nobody can make a production service die by setting a variable.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

const PROGRAM: &str = r#"
#[macro_use]
#[path = "CRASH_POINT"]
pub mod crash_point;
fn main() {
    crash_point!("a.place.in.a.program");
}
"#;

/// The macro's own file, built alone with and without debug assertions, by the compiler that builds the services.
#[test]
fn a_build_without_debug_assertions_has_no_crash_points() {
    let folder = tempfile::tempdir().expect("a folder for the programs");
    let source = folder.path().join("program.rs");
    let crash_point = root().join("common/src/crash_point.rs");
    std::fs::write(&source, PROGRAM.replace("CRASH_POINT", &crash_point.display().to_string())).expect("a source");

    let with = build(&source, "on");
    assert!(knows_the_place(&with), "the name of the place is in a build with debug assertions");
    assert!(!run(&with).success(), "and the variable kills it");

    let without = build(&source, "off");
    assert!(!knows_the_place(&without), "the name of the place is not in a build without them");
    assert!(run(&without).success(), "and the variable does nothing");
}

/// Release builds have no debug assertions as long as nobody switches them on.
#[test]
fn no_profile_for_production_switches_debug_assertions_on() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the workspace's manifest");
    let has_switch = manifest.lines().any(|line| line.trim_start().starts_with("debug-assertions"));
    assert!(!has_switch, "a profile with debug assertions would carry the crash points into production");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn build(source: &Path, debug_assertions: &str) -> PathBuf {
    let program = source.with_file_name(format!("program-{debug_assertions}"));
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(compiler)
        .args(["--edition=2024", "-C", &format!("debug-assertions={debug_assertions}"), "-o"])
        .args([&program, source])
        .output()
        .expect("run rustc");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program
}

fn run(program: &Path) -> ExitStatus {
    let output = Command::new(program).env("CHECKOUT_CRASH_AT", "a.place.in.a.program").output();
    output.expect("run the program").status
}

fn knows_the_place(program: &Path) -> bool {
    let bytes = std::fs::read(program).expect("the program");
    let name = b"a.place.in.a.program";
    bytes.windows(name.len()).any(|part| part == name)
}
