//! `/proc/PID/maps`, `smaps` and `pagemap` of a process that may be hostile: the kernel makes these files, but the process
//! chooses how long they are, and what most paths in them say.

use crate::wire::template::MAX_MAPPINGS;

/// A line of `maps` (proc_pid_maps(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// PROT_READ, PROT_WRITE, PROT_EXEC.
    pub(crate) protection: u32,
    pub(crate) shared: bool,
    pub(crate) offset: u64,
    /// The path of a file, the name of what the kernel maps in brackets, or nothing.
    pub(crate) name: Vec<u8>,
    /// A child of fork(2) finds zeros there (`MADV_WIPEONFORK`). `smaps` says so, as it says the next one.
    pub(crate) is_wiped: bool,
    /// What it is, if it cannot be mapped again by mmap(2) alone.
    pub(crate) special: Option<&'static str>,
}

/// The mappings of a `maps` or `smaps` file; `None` if it is not in that format, or has more than a template may.
pub(crate) fn parse(text: &[u8]) -> Option<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    for line in text.strip_suffix(b"\n")?.split(|byte| *byte == b'\n') {
        // What smaps says of the mapping before begins with a capital, and addresses have small letters.
        if line.first().is_some_and(u8::is_ascii_uppercase) {
            let mapping = lines.last_mut()?;
            if let Some(flags) = line.strip_prefix(b"VmFlags:") {
                add_flags(mapping, flags);
            }
            continue;
        }
        let line = parse_line(line)?;
        let after = lines.last().map_or(0, |last| last.end);
        if lines.len() >= MAX_MAPPINGS || line.start < after {
            return None;
        }
        lines.push(line);
    }
    Some(lines)
}

/// Takes note of the flags that matter to a copy (proc_pid_smaps(5)).
fn add_flags(line: &mut Line, flags: &[u8]) {
    for flag in flags.split(|byte| *byte == b' ') {
        match flag {
            b"wf" => line.is_wiped = true,
            b"um" | b"uw" | b"ui" => line.special = Some("userfaultfd memory"),
            b"ht" => line.special = Some("memory of huge pages (hugetlbfs)"),
            b"ss" => line.special = Some("a shadow stack"),
            b"io" | b"pf" => line.special = Some("memory of a device"),
            _ => {}
        }
    }
}

fn parse_line(line: &[u8]) -> Option<Line> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut field = || std::str::from_utf8(fields.next()?).ok();
    let (start, end) = field()?.split_once('-')?;
    let (start, end) = (hexadecimal(start)?, hexadecimal(end)?);
    let [read, write, execute, sharing] = *field()?.as_bytes() else { return None };
    let offset = hexadecimal(field()?)?;
    let (_device, _inode) = (field()?, field()?);
    let name = fields.next().unwrap_or_default();
    let blanks = name.iter().take_while(|byte| **byte == b' ').count();
    let bit = |is: bool, bit: i32| if is { bit as u32 } else { 0 };
    let whole_pages = (start | end | offset) % PAGE == 0;
    (start < end && whole_pages).then(|| Line {
        start,
        end,
        protection: bit(read == b'r', libc::PROT_READ)
            | bit(write == b'w', libc::PROT_WRITE)
            | bit(execute == b'x', libc::PROT_EXEC),
        shared: sharing == b's',
        offset,
        // The kernel escapes nothing else in a path here.
        name: unescape(&name[blanks..], b"\n"),
        is_wiped: false,
        special: None,
    })
}

/// The smallest page of both architectures.
pub(crate) const PAGE: u64 = 4096;

fn hexadecimal(text: &str) -> Option<u64> {
    // `from_str_radix` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok())?
}

/// The bytes of a path that the kernel escapes in the tables of mounts (proc_pid_mountinfo(5)).
pub(super) const MOUNT_TABLE_ESCAPES: &[u8] = b" \t\n\\";

/// Undoes the escapes of these bytes, for each of which the kernel writes a backslash and three octal digits.
pub(super) fn unescape(text: &[u8], escaped: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let is_next = |byte: &&u8| rest.starts_with(format!("\\{byte:03o}").as_bytes());
        let found = (*first == b'\\').then(|| escaped.iter().find(is_next)).flatten();
        plain.push(*found.unwrap_or(first));
        rest = if found.is_some() { &rest[4..] } else { after };
    }
    plain
}

/// "page is file-page or shared-anon", "page swapped", "page present" (proc_pid_pagemap(5)).
const OF_FILE: u64 = 1 << 61;
const SWAPPED: u64 = 1 << 62;
const PRESENT: u64 = 1 << 63;

/// Which of these pages can be read without waiting for what a process or its filesystem does, by their entries in
/// `pagemap`: runs of page numbers.
pub(crate) fn readable_pages(entries: &[u64]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        if entry & (PRESENT | SWAPPED) != 0 {
            match runs.last_mut() {
                Some((_, end)) if *end == number => *end += 1,
                _ => runs.push((number, number + 1)),
            }
        }
    }
    runs
}

/// Which pages of a private mapping are its own, by their entries in `pagemap`: runs of page numbers. Runs with a small
/// gap become one, because each costs a copy a mapping. In a gap, a page that is not there is zero, unless it is
/// `of_file`: then there is no such gap.
pub(crate) fn own_pages(entries: &[u64], of_file: bool) -> Vec<(usize, usize)> {
    const GAP: usize = 8;
    let is_known = |pages: &[u64]| !of_file || pages.iter().all(|entry| entry & PRESENT != 0);
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        if entry & (PRESENT | SWAPPED) == 0 || entry & OF_FILE != 0 {
            continue;
        }
        match runs.last_mut() {
            Some((_, end)) if *end == number => *end += 1,
            _ => runs.push((number, number + 1)),
        }
    }
    let mut joined: Vec<(usize, usize)> = Vec::new();
    for (start, end) in runs {
        match joined.last_mut() {
            Some((_, last)) if start - *last <= GAP && is_known(&entries[*last..start]) => *last = end,
            _ => joined.push((start, end)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_escapes_in_a_table_is_undone() {
        let path = b"/a\\040b\\134040\\012\\043\\04\\999\\";
        assert_eq!(unescape(path, MOUNT_TABLE_ESCAPES), b"/a b\\040\n\\043\\04\\999\\");
        assert_eq!(unescape(path, b"\n"), b"/a\\040b\\134040\n\\043\\04\\999\\");
    }

    #[test]
    fn a_line_says_where_how_and_of_what() {
        let text = b"00400000-00402000 r-xp 00001000 00:1a 77 /opt/a b\\012c\n7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0                          [stack]\n7fff00000000-7fff00001000 ---s 00000000 00:00 0 \n";
        let lines = parse(text).unwrap();
        assert_eq!((lines[0].start, lines[0].end, lines[0].offset), (0x40_0000, 0x40_2000, 0x1000));
        assert_eq!((lines[0].protection, lines[0].shared), (5, false));
        assert_eq!(lines[0].name, b"/opt/a b\nc");
        assert_eq!((lines[1].protection, lines[1].name.as_slice()), (3, b"[stack]".as_slice()));
        assert_eq!(
            (lines[2].protection, lines[2].shared, lines[2].name.as_slice()),
            (0, true, b"".as_slice())
        );
    }

    #[test]
    fn what_is_no_list_of_mappings_is_refused() {
        for text in [
            "",
            "\n",
            "x\n",
            "1000-2000 r-xp 0 0 0",
            "2000-1000 r-xp 0 0 0 \n",
            "1001-2000 r-xp 0 0 0 \n",
            "+1000-2000 r-xp 0 0 0 \n",
            "1000-2000 r-x 0 0 0 \n",
            "1000-3000 rw-p 0 0 0 \n2000-4000 rw-p 0 0 0 \n",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        let many: String =
            (1..=MAX_MAPPINGS + 1).map(|n| format!("{n:x}000-{:x}000 rw-p 0 0 0 \n", n + 1)).collect();
        assert_eq!(parse(many.as_bytes()), None);
    }

    #[test]
    fn pages_of_a_file_are_not_its_own_and_small_gaps_are_taken_along() {
        let (own, file, none) = (1 << 63, 1 << 63 | 1 << 61, 0);
        for of_file in [true, false] {
            assert_eq!(own_pages(&[none, own, own, file, 1 << 62, none], of_file), [(1, 5)]);
        }
        let mut far = vec![none; 30];
        (far[0], far[29]) = (own, own);
        assert_eq!(own_pages(&far, false), [(0, 1), (29, 30)]);
        assert_eq!(own_pages(&[file; 9], true), []);
    }

    #[test]
    fn a_page_that_is_not_there_is_read_from_nowhere() {
        let (own, file, none) = (1 << 63, 1 << 63 | 1 << 61, 0);
        let entries = [own, none, 1 << 62, file, own];
        assert_eq!(own_pages(&entries, false), [(0, 5)]);
        assert_eq!(own_pages(&entries, true), [(0, 1), (2, 5)]);
        assert_eq!(readable_pages(&entries), [(0, 1), (2, 5)]);
    }

    #[test]
    fn what_smaps_says_of_a_mapping_is_that_mappings() {
        let text = b"1000-2000 rw-p 00000000 00:00 0 \nSize: 4 kB\nVmFlags: rd wr mr wf \n3000-4000 rw-p 00000000 00:00 0 \nTHPeligible:    0\nVmFlags: rd um\n5000-6000 rw-p 00000000 00:00 0 \n";
        let lines = parse(text).unwrap();
        assert_eq!(lines.iter().map(|line| line.is_wiped).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(
            lines.iter().map(|line| line.special).collect::<Vec<_>>(),
            [None, Some("userfaultfd memory"), None]
        );
        assert_eq!(parse(b"VmFlags: rd\n"), None);
    }
}
