//! Images of busybox, made without an engine.

use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs of the image, besides those of every test's root directory.
const FURTHER_APPLETS: &str = "ip nc ping stty tty";

/// Links that lead nowhere, as images have them for what is mounted there or made at the start.
const DANGLING: [(&str, &str); 2] =
    [("etc/localtime", "/usr/share/zoneinfo/Etc/UTC"), ("var/lock", "../run/lock")];

/// A tar archive of a root directory: what `import` takes. Everything belongs to root.
pub(crate) fn archive(directory: &Path) -> PathBuf {
    let rootfs = directory.join("image");
    crate::kit::write_busybox_rootfs(&rootfs);
    for applet in FURTHER_APPLETS.split_whitespace() {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).expect("an applet");
    }
    std::fs::write(rootfs.join("etc/plain"), "not a program\n").expect("a file of the image");
    std::fs::create_dir(rootfs.join("var")).expect("a directory of the image");
    for (link, target) in DANGLING {
        std::os::unix::fs::symlink(target, rootfs.join(link)).expect("a link of the image");
    }
    let path = directory.join("image.tar");
    let mut archive = tar::Builder::new(File::create(&path).expect("an archive"));
    archive.follow_symlinks(false);
    append(&mut archive, &rootfs, Path::new(""));
    archive.finish().expect("an archive");
    std::fs::remove_dir_all(rootfs).expect("what is in the archive");
    path
}

fn append(archive: &mut tar::Builder<File>, rootfs: &Path, below: &Path) {
    for entry in std::fs::read_dir(rootfs.join(below)).expect("a directory of the image").flatten() {
        let name = below.join(entry.file_name());
        let metadata = entry.metadata().expect("a file of the image");
        let mut header = tar::Header::new_gnu();
        header.set_metadata_in_mode(&metadata, tar::HeaderMode::Deterministic);
        header.set_mode(if name == Path::new("tmp") { 0o1777 } else { header.mode().expect("a mode") });
        header.set_uid(0);
        header.set_gid(0);
        let path = entry.path();
        if metadata.is_dir() {
            archive.append_data(&mut header, &name, std::io::empty()).expect("a directory");
            append(archive, rootfs, &name);
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(path).expect("a link");
            archive.append_link(&mut header, &name, target).expect("a link");
        } else {
            archive.append_data(&mut header, &name, File::open(path).expect("a file")).expect("a file");
        }
    }
}

/// What an image is called, and what its containers run if nothing else is said.
#[derive(Clone, Copy)]
pub(crate) struct Image<'a> {
    pub(crate) name: &'a str,
    pub(crate) command: &'a [&'a str],
}

/// An OCI image layout as a tar archive: of images that have `layer` as their only one (OCI image-layout.md).
pub(crate) fn oci_archive(directory: &Path, layer: &Path, images: &[Image<'_>]) -> PathBuf {
    let layout = directory.join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("a directory");
    let blob = |bytes: &[u8], media_type: &str| -> Value {
        let path = blobs.join("new");
        std::fs::write(&path, bytes).expect("a blob");
        let digest = sha256(&path);
        std::fs::rename(path, blobs.join(&digest)).expect("a blob");
        let media_type = format!("application/vnd.oci.image.{media_type}");
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    };
    let layer = blob(&std::fs::read(layer).expect("the layer"), "layer.v1.tar");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let manifest = |image: &Image<'_>| -> Value {
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Cmd": image.command },
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = blob(config.to_string().as_bytes(), "config.v1+json");
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        let mut manifest = blob(manifest.to_string().as_bytes(), "manifest.v1+json");
        manifest["annotations"] = json!({ "io.containerd.image.name": image.name });
        manifest
    };
    let manifests: Vec<_> = images.iter().map(manifest).collect();
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    std::fs::write(layout.join("index.json"), index.to_string()).expect("the index");
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("the marker");
    let path = directory.join("oci.tar");
    let mut archive = tar::Builder::new(File::create(&path).expect("an archive"));
    archive.append_dir_all("", layout).expect("an archive");
    archive.finish().expect("an archive");
    path
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("sha256sum");
    let line = String::from_utf8(output.stdout).expect("a line");
    line.split(' ').next().expect("a digest").to_owned()
}
