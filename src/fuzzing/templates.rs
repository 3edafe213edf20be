//! What `/proc` shows of the mappings and pages of a hostile process, when a client asks for a template of it.

use crate::error::ErrorKind;
use crate::sandbox::template::describe;
use crate::sandbox::template::maps::{Line, PAGE, own_pages, parse, readable_pages};
use crate::wire::template::{Backing, Description, MAX_MAPPINGS};

/// The first byte chooses what the others are.
pub(super) fn process(bytes: &[u8]) {
    let Some((what, bytes)) = bytes.split_first() else { return };
    match what % 3 {
        0 => mappings(bytes),
        of_file => pages(bytes, of_file == 1),
    }
}

/// The mappings of a file are in order, whole pages, and not too many. Each is refused, or described where it is, and the
/// hole is where none is.
fn mappings(text: &[u8]) {
    let Some(lines) = parse(text) else { return };
    assert!((1..=MAX_MAPPINGS).contains(&lines.len()));
    let mut before = 0;
    for Line { start, end, offset, protection, .. } in &lines {
        assert!(before <= *start && start < end, "{start:x}-{end:x} after {before:x}");
        assert_eq!((start | end | offset) % PAGE, 0, "whole pages");
        assert!(*protection <= 7);
        before = *end;
    }
    let text: Vec<u8> = lines.iter().flat_map(write).collect();
    assert_eq!(parse(&text).as_ref(), Some(&lines), "read again as it was read");
    let description = match describe(&lines) {
        Ok(description) => description,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Unsupported { .. }), "{error}");
            return;
        }
    };
    check(&lines, &description);
}

/// A line as the kernel writes it, with what `smaps` says of it.
fn write(line: &Line) -> Vec<u8> {
    let bit = |bit: u32, letter: char| if line.protection & bit != 0 { letter } else { '-' };
    let sharing = if line.shared { 's' } else { 'p' };
    let mode: String = [bit(1, 'r'), bit(2, 'w'), bit(4, 'x'), sharing].into_iter().collect();
    let mut text = format!("{:x}-{:x} {mode} {:x} 00:00 0 ", line.start, line.end, line.offset).into_bytes();
    for byte in &line.name {
        match byte {
            b'\n' => text.extend(b"\\012"),
            byte => text.push(*byte),
        }
    }
    let special = match line.special {
        None => "",
        Some("userfaultfd memory") => " um",
        Some("memory of huge pages (hugetlbfs)") => " ht",
        Some("a shadow stack") => " ss",
        Some(_) => " io",
    };
    let wiped = if line.is_wiped { " wf" } else { "" };
    text.extend(format!("\nVmFlags: rd{special}{wiped}\n").bytes());
    text
}

fn check(lines: &[Line], description: &Description) {
    for mapping in &description.mappings {
        let line = lines.iter().find(|line| line.start == mapping.start).expect("a mapping of the process");
        assert_eq!((line.end, line.protection, line.special), (mapping.end, mapping.protection, None));
        if let Backing::File { file, shared, .. } = mapping.backing {
            assert_eq!(description.files[file].path, line.name);
            assert!(!shared || line.protection & libc::PROT_WRITE as u32 == 0, "shared and writable");
        } else {
            assert!(!line.name.starts_with(b"/"), "a file is no anonymous memory");
        }
    }
    let hole = description.hole..description.hole + (1 << 30);
    let reached = lines.iter().find(|line| line.start < hole.end && hole.start < line.end);
    assert!(reached.is_none(), "{reached:x?} is in the hole at {hole:x?}");
}

/// Runs of a process's own pages are in order, and have each of them. What is read of them is there.
fn pages(bytes: &[u8], of_file: bool) {
    let entries: Vec<u64> =
        bytes.chunks_exact(8).map(|entry| u64::from_le_bytes(entry.try_into().expect("8"))).collect();
    let (own, readable) = (own_pages(&entries, of_file), readable_pages(&entries));
    for runs in [&own, &readable] {
        assert!(runs.iter().all(|(start, end)| start < end && *end <= entries.len()));
        assert!(runs.windows(2).all(|two| two[0].1 < two[1].0), "{runs:?}");
    }
    let is_in =
        |runs: &[(usize, usize)], page| runs.iter().any(|(start, end)| (*start..*end).contains(&page));
    for (page, entry) in entries.iter().enumerate() {
        let there = entry >> 62 != 0;
        assert_eq!(is_in(&readable, page), there);
        assert!(!(there && entry & 1 << 61 == 0) || is_in(&own, page), "page {page} of {entries:x?}");
        assert!(!of_file || there || !is_in(&own, page), "page {page} would be zero, and is the file's");
    }
}
