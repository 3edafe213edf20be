//! Images on a disk: whole ones open, and every other is refused by the name of the file.

use super::manifest::{CONFIG, FORMAT, MANIFEST, Manifest};
use super::{Description, Image, ImageLayer, NewImage, StreamKind, hex_digest};
use crate::error::{Error, ErrorKind};
use crate::id::ContainerId;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode};
use std::fs::{Permissions, read, read_dir, remove_dir_all, remove_file, set_permissions, write};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

fn description() -> Description {
    Description {
        container: ContainerId::new("written").unwrap(),
        criu: "4.1.1".into(),
        init_pid: 2,
        streams: [StreamKind::Null, StreamKind::Pipe { key: "pipe:[7]".into() }, StreamKind::Terminal],
        external: vec!["net[1]:network".into()],
        filter: Some(hex_digest(b"filter")),
    }
}

/// Writes an image as far as the manifest.
fn unfinished(path: &Path) -> NewImage {
    let mut image = NewImage::create(path).unwrap();
    write(path.join("criu/inventory.img"), "processes").unwrap();
    write(path.join("criu/pages-1.img"), vec![1; 5000]).unwrap();
    image.layer(None).unwrap().write_all(b"scratch").unwrap();
    image.layer(Some("/tmp".into())).unwrap().write_all(b"tmpfs").unwrap();
    image
}

fn image_at(path: &Path) {
    let mut image = unfinished(path);
    image.finish(description(), "{}", SystemTime::UNIX_EPOCH + Duration::from_secs(5)).unwrap();
    image.keep();
}

/// Why the image is refused.
fn refused(path: &Path) -> Error {
    Image::open(path).expect_err("it is not whole")
}

const FILES: [&str; 5] = [CONFIG, "criu/inventory.img", "criu/pages-1.img", "layers/0.tar", "layers/1.tar"];

#[test]
fn what_was_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    image_at(&path);
    let image = Image::open(&path).unwrap();
    let manifest = Manifest::decode(&read(path.join(MANIFEST)).unwrap()).unwrap();
    assert_eq!(manifest.description, description());
    assert_eq!(
        (image.path(), image.config(), image.container_id().as_str()),
        (path.as_path(), "{}", "written")
    );
    assert_eq!(image.made_at(), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    assert_eq!((image.init_pid(), image.criu_version()), (2, "4.1.1"));
    assert_eq!(image.crate_version(), env!("CARGO_PKG_VERSION"));
    assert_eq!((image.kernel(), image.architecture()), {
        let machine = &manifest.machine;
        (machine.kernel.as_str(), machine.architecture.as_str())
    });
    assert_eq!(image.streams(), &description().streams);
    assert_eq!(image.filter(), description().filter.as_deref());
    assert_eq!(image.external(), description().external);
    let layers: Vec<_> = image.layers().iter().map(|layer| (layer.file(), layer.tmpfs())).collect();
    assert_eq!(layers, [("layers/0.tar", None), ("layers/1.tar", Some(Path::new("/tmp")))]);
    assert_eq!(image.files().map(|(name, _)| name).collect::<Vec<_>>(), FILES);
    assert_eq!(image.size(), 2 + 9 + 5000 + 7 + 5);
    for (file, mode) in [("", 0o700), ("criu", 0o700), ("layers", 0o700), (CONFIG, 0o600), (MANIFEST, 0o600)]
    {
        let found = path.join(file).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{file}");
    }
    // Also from where it was moved to.
    let moved = dir.path().join("moved");
    std::fs::rename(&path, &moved).unwrap();
    Image::open(&moved).unwrap();
}

#[test]
fn an_image_that_is_given_up_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let (made, found) = (dir.path().join("made"), dir.path().join("found"));
    std::fs::create_dir(&found).unwrap();
    set_permissions(&found, Permissions::from_mode(0o755)).unwrap();
    drop(unfinished(&made));
    assert!(!made.exists());
    drop(unfinished(&found));
    // Also one that is whole, and nevertheless not to be.
    let mut image = unfinished(&found);
    image.finish(description(), "{}", SystemTime::now()).unwrap();
    drop(image);
    assert_eq!(read_dir(&found).unwrap().count(), 0);
    assert_eq!(found.metadata().unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_directory_that_is_in_use_becomes_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    image_at(&path);
    let refused = NewImage::create(&path).err().expect("it is not empty");
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTEMPTY));
    Image::open(&path).unwrap();
    let link = dir.path().join("link");
    symlink(dir.path(), &link).unwrap();
    assert!(NewImage::create(&link).is_err());
    assert!(link.symlink_metadata().unwrap().is_symlink());
}

#[test]
fn without_a_manifest_it_is_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let image = unfinished(&path);
    let error = refused(&path);
    assert_eq!(*error.kind(), ErrorKind::Stale);
    assert!(error.to_string().starts_with("image: manifest.json: there is none"), "{error}");
    drop(image);
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (number, file) in FILES.into_iter().enumerate() {
        let path = dir.path().join(format!("image-{number}"));
        image_at(&path);
        let at = path.join(file);
        let whole = read(&at).unwrap();
        let assert_refused = |kind: &ErrorKind, what: &str| {
            let error = refused(&path);
            assert_eq!(error.kind(), kind, "{file}: {error}");
            let name = file.rsplit('/').next().unwrap();
            assert!(error.to_string().contains(name) && error.to_string().contains(what), "{file}: {error}");
        };
        write(&at, &whole[1..]).unwrap();
        assert_refused(&ErrorKind::Stale, "bytes");
        write(&at, [&whole[..], b"x"].concat()).unwrap();
        assert_refused(&ErrorKind::Stale, "bytes");
        for bit in [0, whole.len() * 4, whole.len() * 8 - 1] {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            write(&at, flipped).unwrap();
            assert_refused(&ErrorKind::Stale, "digest");
        }
        remove_file(&at).unwrap();
        assert_refused(&ErrorKind::Stale, "missing");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, &at, FileType::Fifo, mode, 0).unwrap();
        assert_refused(&ErrorKind::NotARegularFile, "a FIFO");
        remove_file(&at).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        write(&elsewhere, &whole).unwrap();
        symlink(&elsewhere, &at).unwrap();
        assert_refused(&ErrorKind::NotARegularFile, "a symbolic link");
        remove_file(&at).unwrap();
        std::fs::create_dir(&at).unwrap();
        assert_refused(&ErrorKind::NotARegularFile, "a directory");
        std::fs::remove_dir(&at).unwrap();
        write(&at, &whole).unwrap();
        Image::open(&path).unwrap();
    }
}

#[test]
fn what_the_manifest_does_not_list_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    image_at(&path);
    for name in
        ["more", "criu/stats-dump", "layers/2.tar", "manifest.json.new", "criu/manifest.json", "criu/criu"]
    {
        write(path.join(name), "").unwrap();
        let error = refused(&path);
        assert!(error.to_string().contains(&format!("{name}: the manifest does not list it")), "{error}");
        remove_file(path.join(name)).unwrap();
    }
    std::fs::create_dir(path.join("criu/layers")).unwrap();
    assert!(refused(&path).to_string().contains("criu/layers: the manifest does not list it"));
    std::fs::remove_dir(path.join("criu/layers")).unwrap();
    // The folder of another one.
    std::fs::rename(path.join("criu"), dir.path().join("criu")).unwrap();
    symlink(dir.path().join("criu"), path.join("criu")).unwrap();
    assert!(refused(&path).to_string().contains("criu: it is no directory"));
}

#[test]
fn another_images_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    image_at(&one);
    let mut image = NewImage::create(&other).unwrap();
    write(other.join("criu/inventory.img"), "PROCESSES").unwrap();
    image.finish(description(), "{}", SystemTime::now()).unwrap();
    image.keep();
    std::fs::copy(other.join("criu/inventory.img"), one.join("criu/inventory.img")).unwrap();
    assert!(refused(&one).to_string().contains("criu/inventory.img"));
    remove_dir_all(one).unwrap();
}

/// The manifest of an image, after `change`.
fn changed(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut manifest = serde_json::from_slice(&read(path.join(MANIFEST)).unwrap()).unwrap();
    change(&mut manifest);
    write(path.join(MANIFEST), manifest.to_string()).unwrap();
}

#[test]
fn another_format_and_another_machine_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    image_at(&path);
    let whole = read(path.join(MANIFEST)).unwrap();
    let assert_refused = |change: &dyn Fn(&mut serde_json::Value), words: &str| {
        changed(&path, change);
        let error = refused(&path);
        assert!(
            error.to_string().contains("manifest.json: ") && error.to_string().contains(words),
            "{error}"
        );
        write(path.join(MANIFEST), &whole).unwrap();
    };
    // Whatever else that format has.
    assert_refused(
        &|manifest| *manifest = serde_json::json!({"format": FORMAT + 1, "new": true}),
        "it has format 2, and this program reads format 1",
    );
    assert_refused(&|manifest| manifest["format"] = 7.into(), "it has format 7");
    assert_refused(&|manifest| manifest["machine"]["architecture"] = "pdp11".into(), "it is of pdp11");
    assert_refused(
        &|manifest| manifest["machine"]["extensions"] = serde_json::json!(["avx9999"]),
        "do not have avx9999",
    );
    let another = || serde_json::json!({"size": 0, "sha256": hex_digest(b"")});
    for name in
        ["../outside", "/etc/passwd", "criu/../config.json", "criu/a/b", "criu/", "layers/..", "", "other"]
    {
        assert_refused(&|manifest| manifest["files"][name] = another(), "is no file of an image");
    }
    assert_refused(&|manifest| manifest["files"][CONFIG]["sha256"] = "abc".into(), "has no digest");
    assert_refused(
        &|manifest| drop(manifest["files"].as_object_mut().unwrap().remove(CONFIG)),
        "\"config.json\" is not among them",
    );
    assert_refused(&|manifest| manifest["layers"][0]["file"] = "layers/9.tar".into(), "is not among them");
    assert_refused(&|manifest| manifest["layers"][0]["file"] = CONFIG.into(), "layers: ");
    assert_refused(&|manifest| manifest["layers"][1]["tmpfs"] = "/tmp/../etc".into(), "layers: ");
    assert_refused(&|manifest| manifest["layers"][1]["tmpfs"] = "tmp".into(), "layers: ");
    assert_refused(&|manifest| manifest["description"]["init_pid"] = 0.into(), "init_pid: 0 is no pid");
    assert_refused(&|manifest| manifest["description"]["container"] = "../x".into(), "container id");
    assert_refused(&|manifest| manifest["more"] = 1.into(), "unknown field `more`");
    Image::open(&path).unwrap();
}

#[test]
fn the_longest_manifest_and_configuration_that_are_read_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    image_at(&path);
    let manifest = std::fs::OpenOptions::new().append(true).open(path.join(MANIFEST)).unwrap();
    manifest.set_len(super::manifest::MAX_MANIFEST + 1).unwrap();
    assert!(refused(&path).to_string().contains("manifest.json: it is longer than"));
}

proptest! {
    /// However a manifest is changed, it is refused or means the same files.
    #[test]
    fn a_manifest_with_any_byte_changed_never_opens_other_files(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        image_at(&path);
        let mut manifest = read(path.join(MANIFEST)).unwrap();
        let at = at.index(manifest.len());
        manifest[at] = byte;
        write(path.join(MANIFEST), &manifest).unwrap();
        if let Ok(image) = Image::open(&path) {
            prop_assert_eq!(image.files().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), FILES);
            prop_assert!(image.layers().iter().map(ImageLayer::file).all(|file| FILES.contains(&file)));
        }
    }

    #[test]
    fn no_bytes_break_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Manifest::decode(&bytes).is_err());
    }
}
