//! Diff and export of what containers change, held against what is in the archive and what the container shows.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::{Stage, is_root, skip, stage};
use cofferdam::files::{ChangeKind, FileKind};
use cofferdam::{Container, Created, ErrorKind, Files, Rootfs};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where there is a mount that the image's layers are not about.
const MOUNTS: [&str; 4] = ["dev", "proc", "sys", "tmp"];

/// An image with something to change.
fn image(stage: &Stage) -> PathBuf {
    let rootfs = stage.busybox();
    for dir in ["replaced/deep", "removed/deep", "kept"] {
        std::fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    for file in [
        "etc/passwd",
        "etc/gone",
        "etc/same",
        "replaced/old",
        "replaced/both",
        "replaced/deep/x",
        "removed/deep/x",
    ] {
        std::fs::write(rootfs.join(file), file).unwrap();
    }
    rootfs
}

fn create(stage: &Stage, name: &str) -> Container<Created> {
    let builder = stage.container(name).rootfs(Rootfs::directory(image(stage))).scratch(None);
    builder.args(["sleep", "1000"]).build().unwrap().create().unwrap()
}

/// Makes every kind of change.
fn change(files: &Files) {
    files.write("/etc/passwd", "changed", 0o644).unwrap();
    files.remove_file("/etc/gone").unwrap();
    // Copied up and not changed.
    files.set_permissions("/etc/same", files.stat("/etc/same").unwrap().mode).unwrap();
    files.remove_all("/removed").unwrap();
    files.remove_all("/replaced").unwrap();
    files.create_dir("/replaced", 0o750).unwrap();
    files.write("/replaced/new", "new", 0o600).unwrap();
    files.write("/replaced/both", "both", 0o600).unwrap();
    files.set_permissions("/kept", 0o700).unwrap();
    files.write("/kept/first", "linked", 0o4755).unwrap();
    files.hard_link("/kept/first", "/kept/second").unwrap();
    files.symlink("/etc/passwd", "/kept/link").unwrap();
    let long = format!("/kept/{}/{}", "d".repeat(120), "f".repeat(200));
    files.create_dir(Path::new(&long).parent().unwrap(), 0o755).unwrap();
    files.write(&long, "long", 0o644).unwrap();
    let strange = Path::new("/kept").join(std::ffi::OsStr::from_bytes(b"new\nline\xff"));
    files.write(&strange, "strange", 0o644).unwrap();
    files.set_xattr("/kept/first", "user.note", b"\0noted").unwrap();
    if is_root() {
        files.chown("/etc/same", 0, 0).unwrap();
        files.chown(&strange, 7, 8).unwrap();
    }
}

fn export(files: &Files) -> Vec<u8> {
    let mut layer = Vec::new();
    files.export_layer(1 << 30, &mut layer).unwrap();
    layer
}

/// What an entry of a tree is, to be compared.
type Tree = BTreeMap<PathBuf, String>;

/// The tree of an image, on the host.
fn tree_of_host(root: &Path, at: &Path, tree: &mut Tree) {
    for entry in std::fs::read_dir(root.join(at)).unwrap().flatten() {
        let path = at.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        let what = if kind.is_dir() {
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link to {}", std::fs::read_link(entry.path()).unwrap().display())
        } else {
            format!("file of {}", std::fs::metadata(entry.path()).unwrap().len())
        };
        tree.insert(path.clone(), what);
        if kind.is_dir() {
            tree_of_host(root, &path, tree);
        }
    }
}

/// The tree that the container shows, without what is mounted in it.
fn tree_of_container(files: &Files, at: &Path, tree: &mut Tree) {
    for entry in files.list(at).unwrap() {
        let path = at.join(&entry.name);
        let stat = files.lstat(&path).unwrap();
        let what = match entry.kind {
            FileKind::Directory => "directory".to_owned(),
            FileKind::Symlink => format!("link to {}", stat.target.unwrap().display()),
            _ => format!("file of {}", stat.size),
        };
        let mounted = MOUNTS.iter().any(|mount| path == Path::new(mount));
        tree.insert(path.clone(), what);
        if entry.kind == FileKind::Directory && !mounted {
            tree_of_container(files, &path, tree);
        }
    }
}

/// Applies a layer as the image specification says.
fn apply(layer: &[u8], tree: &mut Tree) {
    let mut archive = tar::Archive::new(layer);
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let path = PathBuf::from(std::ffi::OsString::from_vec(entry.path_bytes().into_owned()));
        assert!(path.is_relative() && !path.components().any(|part| part.as_os_str() == ".."));
        let name = path.file_name().unwrap().as_bytes();
        let parent = path.parent().unwrap();
        if name == b".wh..wh..opq" {
            tree.retain(|other, _| other == parent || !other.starts_with(parent));
        } else if let Some(name) = name.strip_prefix(b".wh.") {
            let gone = parent.join(std::ffi::OsStr::from_bytes(name));
            assert!(tree.contains_key(&gone), "{} is not there to be removed", gone.display());
            tree.retain(|other, _| !other.starts_with(&gone));
        } else {
            let link = entry
                .link_name_bytes()
                .map(|name| PathBuf::from(std::ffi::OsString::from_vec(name.into_owned())));
            let what = match entry.header().entry_type() {
                tar::EntryType::Directory => "directory".to_owned(),
                tar::EntryType::Symlink => format!("link to {}", link.unwrap().display()),
                tar::EntryType::Link => tree[&link.unwrap()].clone(),
                _ => format!("file of {}", entry.size()),
            };
            if what != "directory" {
                tree.retain(|other, _| !other.starts_with(&path));
            }
            tree.insert(path, what);
        }
    }
}

#[test]
fn a_diff_names_what_was_added_modified_and_deleted() {
    let stage = stage!();
    let created = create(&stage, "diff");
    let files = created.files().unwrap();
    let before = match files.diff() {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported { .. }) => skip!("{error}"),
        before => before.unwrap(),
    };
    assert_eq!(before, [], "create changes nothing of an image that has all mount points");
    change(&files);
    let long = format!("/kept/{}", "d".repeat(120));
    let longer = format!("{long}/{}", "f".repeat(200));
    let strange = Path::new("/kept").join(std::ffi::OsStr::from_bytes(b"new\nline\xff"));
    let mut expected = vec![
        (ChangeKind::Deleted, PathBuf::from("/etc/gone")),
        (ChangeKind::Modified, "/etc/passwd".into()),
        (ChangeKind::Modified, "/kept".into()),
        (ChangeKind::Added, long.into()),
        (ChangeKind::Added, longer.into()),
        (ChangeKind::Added, "/kept/first".into()),
        (ChangeKind::Added, "/kept/link".into()),
        (ChangeKind::Added, strange),
        (ChangeKind::Added, "/kept/second".into()),
        (ChangeKind::Deleted, "/removed".into()),
        (ChangeKind::Modified, "/replaced".into()),
        (ChangeKind::Modified, "/replaced/both".into()),
        (ChangeKind::Deleted, "/replaced/deep".into()),
        (ChangeKind::Added, "/replaced/new".into()),
        (ChangeKind::Deleted, "/replaced/old".into()),
    ];
    expected.sort_by(|one, other| one.1.as_os_str().cmp(other.1.as_os_str()));
    let changes: Vec<_> =
        files.diff().unwrap().into_iter().map(|change| (change.kind, change.path)).collect();
    assert_eq!(changes, expected);
    assert!(stage.busybox().join("etc/gone").exists(), "the image is as it was");
}

#[test]
fn an_exported_layer_on_top_of_the_image_is_what_the_container_shows() {
    let stage = stage!();
    let created = create(&stage, "export");
    let files = created.files().unwrap();
    if let Err(error) = files.diff() {
        skip!("{error}");
    }
    assert_eq!(
        tar::Archive::new(&*export(&files)).entries().unwrap().count(),
        0,
        "an empty layer is one too"
    );
    change(&files);
    let layer = export(&files);
    let (mut applied, mut shown) = (Tree::new(), Tree::new());
    tree_of_host(&stage.busybox(), Path::new(""), &mut applied);
    apply(&layer, &mut applied);
    tree_of_container(&files, Path::new(""), &mut shown);
    assert_eq!(applied, shown);
    assert!(layer == export(&files), "the same changes give the same bytes");

    let mut seen = Vec::new();
    let mut archive = tar::Archive::new(&*layer);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let header = entry.header().clone();
        match path.as_str() {
            "kept/first" => {
                assert_eq!(
                    (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
                    (0o4755, 0, 0)
                );
                let stat = files.stat("/kept/first").unwrap();
                assert_eq!(header.mtime().unwrap(), stat.modified_seconds.cast_unsigned());
                let extensions = entry.pax_extensions().unwrap().unwrap();
                let extensions: Vec<_> = extensions
                    .map(|extension| extension.unwrap())
                    .map(|extension| {
                        (extension.key().unwrap().to_owned(), extension.value_bytes().to_owned())
                    })
                    .collect();
                assert_eq!(extensions, [("SCHILY.xattr.user.note".to_owned(), b"\0noted".to_vec())]);
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                assert_eq!(content, "linked");
            }
            "kept/second" => {
                assert_eq!(header.entry_type(), tar::EntryType::Link);
                assert_eq!(entry.link_name_bytes().unwrap(), &b"kept/first"[..]);
            }
            "kept/new\nline\u{fffd}" if is_root() => {
                assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (7, 8), "ids are the container's");
            }
            _ => {}
        }
        seen.push(path);
    }
    for path in
        ["replaced/.wh..wh..opq", ".wh.removed", "etc/.wh.gone", "kept/first", "kept/second", "etc/passwd"]
    {
        assert!(seen.iter().any(|other| other == path), "{path} in {seen:?}");
    }
    // A directory before what is in it, and whiteouts where what they remove would be.
    let key = |path: &String| -> Vec<String> {
        path.trim_end_matches('/').split('/').map(|name| name.replacen(".wh.", "", 1)).collect()
    };
    assert!(seen.is_sorted_by_key(key), "{seen:?}");
}

#[test]
fn what_the_workload_changes_is_in_the_layer_too() {
    let stage = stage!();
    let rootfs = Rootfs::directory(image(&stage));
    let script = "rm -r /replaced; mkdir /replaced; echo hi > /replaced/hi; mv -T /kept /moved 2>/dev/null; rm /etc/gone; \
                  touch /etc/finished; sleep 1000";
    let builder = stage.shell("workload", script).rootfs(rootfs).scratch(None);
    let running = builder.build().unwrap().create().unwrap().start().unwrap();
    let files = running.files().unwrap();
    if let Err(error) = files.diff() {
        skip!("{error}");
    }
    while files.stat("/etc/finished").is_err() {
        assert!(!crate::kit::is_readable_within(&running, std::time::Duration::from_millis(10)), "it runs");
    }
    let (mut applied, mut shown) = (Tree::new(), Tree::new());
    tree_of_host(&stage.busybox(), Path::new(""), &mut applied);
    apply(&export(&files), &mut applied);
    tree_of_container(&files, Path::new(""), &mut shown);
    assert_eq!(applied, shown);
    assert!(!shown.contains_key(Path::new("replaced/old")) && shown.contains_key(Path::new("replaced/hi")));
}

#[test]
fn the_hosts_own_directories_with_a_scratch_have_a_layer_each() {
    let stage = stage!();
    let created = stage.container("host").scratch(None).args(["true"]).build().unwrap().create().unwrap();
    let files = created.files().unwrap();
    let before = match files.diff() {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported { .. }) => skip!("{error}"),
        before => before.unwrap(),
    };
    let path =
        ["/usr/new", "/etc/new", "/opt/new"].into_iter().find(|path| files.write(path, "x", 0o644).is_ok());
    let Some(path) = path else { skip!("no directory of the host has a layer here") };
    let after = files.diff().unwrap();
    let new: Vec<_> = after.iter().filter(|change| !before.contains(change)).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    assert_eq!((new[0].kind, new[0].path.as_path()), (ChangeKind::Added, Path::new(path)));
    let layer = export(&files);
    let mut archive = tar::Archive::new(&*layer);
    let names = archive.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned());
    assert!(names.into_iter().any(|name| name == path.as_bytes()[1..]));
}

#[test]
fn without_a_scratch_there_is_nothing_to_compare_and_it_says_so() {
    let stage = stage!();
    let created = stage.container("none").rootfs(Rootfs::directory(stage.busybox())).args(["true"]);
    let created = created.build().unwrap().create().unwrap();
    let files = created.files().unwrap();
    for error in [files.diff().unwrap_err(), files.export_layer(u64::MAX, std::io::sink()).unwrap_err()] {
        assert_eq!(*error.kind(), ErrorKind::Unsupported { feature: "scratch".into() });
        assert!(error.to_string().contains("has no scratch"), "{error}");
    }
    files.stat("/").unwrap();
}

#[test]
fn a_sparse_file_makes_no_archive_longer_than_the_caller_allows() {
    struct Counter(u64);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let stage = stage!();
    // A tebibyte, of which the scratch of 16 MiB holds nothing.
    let script =
        "dd if=/dev/null of=/sparse bs=1M count=0 seek=1048576 2>/dev/null; echo >/made; exec sleep 1000";
    let builder = stage.shell("sparse", script).rootfs(Rootfs::directory(stage.busybox()));
    let running = crate::kit::start(builder.scratch(Some(16 << 20)));
    let files = running.files().unwrap();
    while files.stat("/made").is_err() {
        std::thread::yield_now();
    }
    if let Err(error) = files.diff() {
        skip!("{error}");
    }
    let mut written = Counter(0);
    let limit = 4 << 20;
    let error = files.export_layer(limit, &mut written).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit }, "{error}");
    assert!(written.0 <= limit, "{}", written.0);
    files.remove_file("/sparse").unwrap();
    files.export_layer(limit, &mut written).unwrap();
    running.kill().unwrap().delete().unwrap();
}

#[test]
fn a_name_that_would_remove_something_is_an_error_and_a_writer_that_fails_too() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(libc::ENOSPC))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let stage = stage!();
    let created = create(&stage, "refused");
    let files = created.files().unwrap();
    if let Err(error) = files.diff() {
        skip!("{error}");
    }
    files.write("/kept/large", vec![1; 1 << 20], 0o644).unwrap();
    let error = files.export_layer(u64::MAX, Full).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    files.write("/etc/.wh.passwd", "x", 0o644).unwrap();
    let error = files.export_layer(u64::MAX, std::io::sink()).unwrap_err();
    assert!(error.to_string().contains("etc/.wh.passwd"), "{error}");
    assert_eq!(files.read("/etc/.wh.passwd", 9).unwrap(), b"x", "the connection is as good as before");
}

#[test]
fn an_attribute_whose_name_an_archive_cannot_spell_is_named() {
    let stage = stage!();
    let container = create(&stage, "attribute");
    let files = container.files().unwrap();
    files.write("/etc/passwd", "changed", 0o644).unwrap();
    let value = |name: &str| files.set_xattr("/etc/passwd", name, b"value");
    if let Err(error) = value("user.note") {
        skip!("the file system has no attributes of users: {error}");
    }
    // A reader would take `user.other` for the name, and `=value` for a part of the value.
    value("user.other=").unwrap();
    let error = files.export_layer(1 << 20, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("\"user.other=\": an archive cannot"), "{error}");
    files.remove_xattr("/etc/passwd", "user.other=").unwrap();
    let mut layer = Vec::new();
    files.export_layer(1 << 20, &mut layer).unwrap();
    assert!(layer.windows(30).any(|bytes| bytes == b"SCHILY.xattr.user.note=value\n\0"));
}
