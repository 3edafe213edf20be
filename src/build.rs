//! The build script. With the feature `embedded-helper` it builds the program `cofferdam-helper`, statically linked and at
//! a fixed address, whose bytes the library then contains. Without the feature it does nothing.
//!
//! It runs the same cargo once more, on a package of its own in `OUT_DIR`, with the `Cargo.lock` and the configuration of
//! the workspace that is being built: the helper has the same dependencies, from the same registry or vendor directory.

#![expect(clippy::disallowed_methods, reason = "a build script reads and writes files of its own")]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Variables by which cargo is configured. All others that begin with `CARGO_` describe this build, not the helper's.
const KEPT: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
];

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    if env::var_os("CARGO_FEATURE_EMBEDDED_HELPER").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=src");
    // The documentation needs no program, and docs.rs has no network to build one.
    println!("cargo::rerun-if-env-changed=DOCS_RS");
    let program = if env::var_os("DOCS_RS").is_some() { Ok(PathBuf::from("/dev/null")) } else { build() };
    match program {
        Ok(program) => println!("cargo::rustc-env=COFFERDAM_HELPER={}", program.display()),
        Err(problem) => {
            let feature = "the feature `embedded-helper` could not build cofferdam-helper";
            println!("cargo::error={feature}: {}", problem.replace('\n', "\ncargo::error="));
            std::process::exit(1);
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let source = path("CARGO_MANIFEST_DIR");
    let package = path("OUT_DIR").join("cofferdam-helper");
    let manifest = package.join("Cargo.toml");
    let target = target();
    let writing = |error| format!("{}: {error}", package.display());
    fs::create_dir_all(&package).map_err(writing)?;
    fs::write(&manifest, manifest_of(&source)).map_err(writing)?;
    let workspace = workspace(&source);
    if let Some(workspace) = &workspace {
        fs::copy(workspace.join("Cargo.lock"), package.join("Cargo.lock")).map_err(writing)?;
    }

    let cargo = |offline: Option<&str>| {
        let mut command = Command::new(path("CARGO"));
        command.args(["build", "--release", "--quiet", "--target", &target]).args(offline);
        command.arg("--manifest-path").arg(&manifest).arg("--target-dir").arg(package.join("target"));
        // Cargo looks for its configuration, such as that of a vendor directory, from the working directory upward.
        command.current_dir(workspace.as_ref().unwrap_or(&package));
        for (name, _) in env::vars_os().filter(|(name, _)| concerns_this_build(name)) {
            command.env_remove(name);
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\x1f-Crelocation-model=static");
        command.output().map_err(|error| format!("cargo: {error}"))
    };
    // The build of the library has downloaded nearly all that the helper needs, so that a network is seldom needed.
    let mut output = cargo(Some("--offline"))?;
    if !output.status.success() {
        output = cargo(None)?;
    }
    if !output.status.success() {
        return Err(advice(&target, &output));
    }
    Ok(package.join("target").join(target).join("release/cofferdam-helper"))
}

/// The package of the helper: the program of this one, on this library without its features. Optimized for its size,
/// because the helpers of a container run nearly all of their code once: fewer pages of it save more time than faster
/// loops.
fn manifest_of(source: &Path) -> String {
    let source = source.display();
    format!(
        "[package]\nname = \"cofferdam-helper\"\nversion = \"{}\"\nedition = \"2024\"\n\n\
         [[bin]]\nname = \"cofferdam-helper\"\npath = '{source}/src/bin/cofferdam-helper.rs'\n\n\
         [dependencies]\ncofferdam = {{ path = '{source}' }}\n\n\
         [profile.release]\ncodegen-units = 1\nlto = \"fat\"\nopt-level = \"s\"\nstrip = true\n\n[workspace]\n",
        env::var("CARGO_PKG_VERSION").unwrap_or_default()
    )
}

/// musl where its standard library is installed: it starts in less time than glibc.
fn target() -> String {
    let own = env::var("TARGET").unwrap_or_default();
    let musl = own.replace("-gnu", "-musl");
    let asked = Command::new(path("RUSTC")).args(["--print", "target-libdir", "--target", &musl]).output();
    let installed = asked.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    });
    if installed { musl } else { own }
}

/// The directory whose `Cargo.lock` this build follows: that above the target directory, or this package's own.
fn workspace(source: &Path) -> Option<PathBuf> {
    let out = path("OUT_DIR");
    out.ancestors().chain([source]).find(|dir| dir.join("Cargo.lock").is_file()).map(Path::to_path_buf)
}

fn concerns_this_build(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let flags = ["RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"];
    flags.contains(&&*name) || name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept))
}

fn advice(target: &str, output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let missing = match target.contains("-musl") {
        true => "vendor or download its dependencies",
        false => "`rustup target add` the musl target, or install the static C library",
    };
    format!("{missing}; cargo says for {target}:\n{}", said.trim_end())
}

fn path(variable: &str) -> PathBuf {
    env::var_os(variable).unwrap_or_default().into()
}
