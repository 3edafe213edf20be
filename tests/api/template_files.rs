//! Files of a template: those that it made in memory, and those that it has open.

#![expect(clippy::disallowed_methods, reason = "tests read and write plain files of their own")]

use crate::kit::{Stage, find, skip, stage};
use crate::template::{preparing, run, said, taken, text, went_on};
use cofferdam::templates::Ready;
use cofferdam::{ContainerBuilder, Rootfs};

/// A container with busybox and a scratch, which prepares itself and goes on with `then`.
fn with_scratch(stage: &Stage, before: &str, then: &str) -> ContainerBuilder {
    let rootfs = stage.busybox();
    std::fs::write(rootfs.join("kept"), "kept\n").unwrap();
    std::fs::write(rootfs.join("gone"), "gone\n").unwrap();
    let script = format!("{before}; kill -STOP $$; {then}");
    preparing(stage, &["/bin/sh", "-c", &script]).rootfs(Rootfs::directory(&rootfs)).scratch(None)
}

#[test]
fn each_clone_has_its_own_copy_of_the_files_that_the_template_made() {
    let stage = stage!();
    let before = "mkdir -p /made/below; echo one >/made/below/file; ln -s below/file /made/link; rm /gone; echo x >>/kept; \
        echo two >/tmp/file; echo three >/dev/shm/file; chmod 600 /tmp/file; umask 77";
    let then = "read n; cat /made/link /kept /tmp/file /dev/shm/file; stat -c %a /tmp/file; ls /gone; \
        for f in /made/below/file /tmp/file /dev/shm/file /new; do echo $n >>$f; done; \
        rm /kept; cat /made/below/file /tmp/file /dev/shm/file /new";
    let template = taken(with_scratch(&stage, before, then));
    for n in [1, 2] {
        let (out, err, _) = text(&run(&stage, &template, &format!("clone{n}"), &format!("{n}\n")));
        let expected = format!("one\nkept\nx\ntwo\nthree\n600\none\n{n}\ntwo\n{n}\nthree\n{n}\n{n}\n");
        assert_eq!(out, expected);
        assert!(err.contains("/gone: No such file"), "{err}");
    }
    assert_eq!(std::fs::read_to_string(stage.busybox().join("kept")).unwrap(), "kept\n");
    assert!(stage.busybox().join("gone").exists());
}

#[test]
fn a_clone_has_the_templates_files_open_again_where_it_was_in_them() {
    let stage = stage!();
    // 3 and 4 are one open file, 6 is another one of the same file.
    let before = "printf 'a\\nb\\nc\\nd\\n' >/tmp/lines; exec 3</tmp/lines; read x <&3; exec 4<&3; exec 6</tmp/lines; \
        exec 5>>/tmp/log; exec 7</kept; exec 8</dev/null; echo before >&5";
    let then = "read n; read a <&3; read b <&4; read c <&6; read d <&7; echo $a $b $c $d; echo $n >&5; cat /tmp/log <&8; \
        for f in /proc/$$/fd/*; do [ -e $f ] && echo -n \"${f##*/} \"; done; true";
    let template = taken(with_scratch(&stage, before, then));
    for n in [1, 2] {
        let ran = run(&stage, &template, &format!("clone{n}"), &format!("{n}\n"));
        assert_eq!(text(&ran), said(&format!("b c a kept\nbefore\n{n}\n0 1 2 3 4 5 6 7 8 "), 0));
    }
    // What is open is compared as what is mapped is.
    let other = stage.busybox().join("kept");
    std::fs::remove_file(&other).unwrap();
    let error = template.builder(stage.id("missing")).output().unwrap_err();
    assert!(error.to_string().contains("\"/kept\" is missing, and the template had it"), "{error}");
    std::fs::write(&other, "later").unwrap();
    let error = template.builder(stage.id("other")).output().unwrap_err();
    assert!(error.to_string().contains("\"/kept\" is another version"), "{error}");
}

#[test]
fn a_number_that_is_the_pages_own_and_numbers_in_any_order_are_opened_again() {
    let stage = stage!();
    if find("python3").is_none() {
        skip!("no python3");
    }
    let script = "import os, fcntl\n\
        for name in 'abc': open('/tmp/' + name, 'w').write(name * 3)\n\
        files = {9: 'a', 5: 'b', 200: 'c'}\n\
        for number, name in files.items(): os.dup2(os.open('/tmp/' + name, os.O_RDONLY), number, number == 5)\n\
        os.closerange(3, 5); os.closerange(6, 9); os.read(200, 1)\n\
        os.kill(os.getpid(), 19)\n\
        print([(n, os.read(n, 9), os.get_inheritable(n)) for n in files], sorted(os.listdir('/proc/self/fd')), flush=True)";
    let template = taken(preparing(&stage, &["/usr/bin/python3", "-c", script]));
    let expected = "[(9, b'aaa', False), (5, b'bbb', True), (200, b'cc', False)] ['0', '1', '2', '200', '3', '5', '9']\n";
    assert_eq!(text(&run(&stage, &template, "clone", "")), said(expected, 0));
}

#[test]
fn a_program_of_the_scratch_is_mapped_again() {
    let stage = stage!();
    let script = "cat /bin/busybox >/busybox; chmod +x /busybox; \
        exec /busybox sh -c 'x=warm; kill -STOP $$; read n; echo $x $n'";
    let builder = preparing(&stage, &["/bin/sh", "-c", script]);
    let template = taken(builder.rootfs(Rootfs::directory(stage.busybox())).scratch(None));
    assert_eq!(text(&run(&stage, &template, "clone", "1\n")), said("warm 1\n", 0));
}

#[test]
fn what_a_clone_could_not_have_open_or_copied_is_refused_by_name() {
    let stage = stage!();
    let shared = stage.open_directory("shared");
    let cases = [
        ("exec 3</tmp", "descriptor 3 is open: /tmp, which is no regular file"),
        ("echo x >/tmp/f; exec 3</tmp/f; rm /tmp/f", "descriptor 3 is open: /tmp/f (deleted)"),
        (
            "echo x >/tmp/f; exec 3</tmp/f; busybox mv /tmp/f /tmp/g; echo y >/tmp/f; exec 4</tmp/g; rm /tmp/g",
            "(deleted)",
        ),
        (
            "exec 3>>/shared/f",
            "/shared/f, which can be written to, and all clones would write to the same file",
        ),
        ("dd if=/dev/zero of=/tmp/f bs=1048576 count=70 2>/dev/null", "are more than 64 MiB"),
        ("echo x >/tmp/.wh.f", "a name that begins with .wh."),
    ];
    for (before, problem) in cases {
        let builder = with_scratch(&stage, before, "echo went on").bind_rw(&shared, "/shared");
        let running = builder.spawn().unwrap();
        let failed = running.into_template(Ready::Stopped).unwrap_err();
        let text = failed.to_string();
        assert!(text.contains(problem) && text.contains("into_template"), "{before}: {text}");
        went_on(failed.into_parts(), &text);
    }
}

#[test]
fn a_clone_without_the_tmpfs_of_a_file_is_refused_before_anything_is_made() {
    let stage = stage!();
    let template = taken(with_scratch(&stage, "echo x >/data/f", "cat /data/f").tmpfs("/data", 1 << 20));
    assert_eq!(text(&run(&stage, &template, "clone", "")).0, "x\n");
    let host = stage.open_directory("host");
    let error = template.builder(stage.id("bound")).bind_rw(&host, "/data").build().unwrap_err();
    assert!(error.to_string().contains("no writable tmpfs at /data"), "{error}");
    assert_eq!(std::fs::read_dir(host).unwrap().count(), 0);
}
