//! Templates and clones: what a clone has of its template, what it has not, and what clones know of each other.
//!
//! Most of the time that an interpreter takes to start goes into its modules. A [`Template`](crate::templates::Template)
//! is a process that has done that once. Its clones are containers that begin where it stopped.
//!
//! ```no_run
//! use cofferdam::ContainerBuilder;
//! use cofferdam::templates::Ready;
//!
//! # fn main() -> cofferdam::Result<()> {
//! let program = "import json, os, signal, sys
//! os.kill(os.getpid(), signal.SIGSTOP)
//! exec(sys.stdin.read())";
//! let template = ContainerBuilder::new().args(["python3", "-c", program]).spawn()?.into_template(Ready::Stopped)?;
//! for job in ["print(1 + 1)", "print(json.dumps([2]))"] {
//!     let output = template.builder("job").input(job).output()?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How a clone is made
//!
//! ```text
//!   template                      sandbox of the template
//!      | gets ready, stops            |
//!      |<- holds it, looks, copies ---|--> description and pages, in sealed memory of the caller
//!
//!   clone                         sandbox of the clone
//!      | created as every container   |
//!      | ids, capabilities, filter    |
//!      | execve(2)                 -->|
//!      |<- a table of system calls ---|   unmap the program, map files and pages, signal actions
//!      |<- registers, lets go --------|
//!      | goes on where the template stopped
//! ```
//!
//! The process of a clone is made in the way of every container: its ids, capabilities, filter, limits, namespaces and
//! mounts are those of its own configuration, and are in force before it gets a byte of the template. It replaces its
//! memory itself, by system calls that its filter allows and its ids permit. The sandbox, its parent, only says which. So
//! a template cannot hand on a right, however hostile it was, and no privilege is needed. Nothing inside the container can
//! see the tracing: it ends before the clone's first instruction.
//!
//! The sandbox of the template reads a process that may be hostile. What it reads has limits, and it waits for it ten
//! seconds at most; it then kills the container. It opens no file for it: the process itself looks at the files that it has
//! mapped, and a clone does the same and refuses to start if its root has another version of one (inode, size and time of
//! the last change).
//!
//! # What it costs
//!
//! Python with numpy, json, sqlite3 and asyncio, from one `cargo run --release --example bench -- --warm --quick` on an
//! otherwise idle virtual machine with 2 CPUs, Linux 6.18, as root:
//!
//! | | create to first output, p50 and p95, ms | memory of each of 100, KiB | per second |
//! |---|---|---|---|
//! | clone | 7.2, 8.6 | 323 | 175 |
//! | clone out of a [pool](crate::pools::Pool), from its take | 5.1, 7.2 | | |
//! | cold start | 84.9, 113.1 | 19588 | 19 |
//!
//! Taking the template takes 26 ms.
//!
//! # What a clone has of its template
//!
//! | Of the template | Of the clone's own configuration |
//! |---|---|
//! | memory, registers, signal actions and mask | root, mounts, network, host name |
//! | working directory, umask, name | ids, groups, capabilities, filter, no_new_privs, security labels |
//! | its pid inside | limits, scheduling, cgroups |
//! | a copy of its files in memory; its open files | standard streams, `/proc/self/environ`, `/proc/self/cmdline` |
//!
//! Pages that no clone writes are in memory once. They count as memory of the program that holds the template; a page that
//! a clone writes is the clone's own, and counts in its limit. A limit that is smaller than what the program goes on to
//! write ends the clone as [`OutOfMemory`](crate::Outcome::OutOfMemory).
//!
//! # Files
//!
//! What the template's container has changed in its [scratch](crate::ContainerBuilder::scratch), and what is in each tmpfs
//! that its configuration has, `/tmp` and `/dev/shm` among them, is copied once when the template is taken, and into each
//! clone when it is created. No clone sees what another one does to its copy. They are copies and not shared pages: they
//! count in the clone's memory limit, and take its `create` about a millisecond for each megabyte; 64 MiB are the most.
//! Ids are as the container sees them, so each clone may have host ids of its own. Sockets and times below a second are not
//! copied, and nothing of `/dev` but `/dev/shm` is.
//!
//! What the template had open besides its standard streams is opened again by the clone, by its path, at the same number
//! and position, if it is
//!
//! * a regular file of its root that it may only read, or a file of those above that it may also write;
//! * `/dev/null` or its like (character devices with major 1).
//!
//! The clone's root has to have the same version of such a file, as of one that is mapped. Pipes, sockets, directories,
//! files that are removed or locked, and files that it may write in a bind are refused: all clones would write to the one
//! file from the same position.
//!
//! # What the process had given up
//!
//! A clone begins with the rights of its configuration, and not with fewer because its template's process had given some
//! up. Capabilities that the process dropped, a filter or Landlock rules that it loaded for itself, and limits that it
//! lowered are **not** in the clone. A process that has changed its ids or its root is refused. Give up rights in the
//! configuration, or after the point where the clone goes on.
//!
//! # What clones know of each other
//!
//! All clones of a template have its secrets, because they have its memory:
//!
//! * **the address layout**: what is where in one clone is there in all others. Address space randomization protects no
//!   clone from what was learned in another one.
//! * **the stack protector's canary** and the pointer guard of the C library, in the same way.
//! * **hash seeds**: an attacker who finds keys that collide in one clone has them for all.
//! * **the state of every random generator** in the program's memory: without a new seed, clones draw the same numbers,
//!   keys and session ids. The kernel's own (getrandom(2)) gives each clone other bytes. Memory that the program marked
//!   `MADV_WIPEONFORK` is zero in a clone as in a child of fork(2), so generators that protect themselves in this way
//!   reseed. Those that notice a fork by the pid, such as OpenSSL's, notice no clone: give them entropy, as by
//!   `RAND_add()`.
//!
//! So prepare a template without secrets, reseed as soon as it goes on, and do not make containers that must not attack
//! each other from one template if a bug in the program is what keeps them apart. To reseed, a program
//!
//! * puts it behind its stop. `examples/warm/warm.py` does so for Python (`random`, numpy, OpenSSL, `os.environ`), and
//!   `examples/warm/warm.h` for C (`rand()`, `random()`, `drand48()`);
//! * tells clones apart by `COFFERDAM_CLONE`, the id of the clone, in `/proc/self/environ`, and by its arguments in
//!   `/proc/self/cmdline`. The program's copies of both in memory are the template's;
//! * cannot change layout, canary and hash seeds: only execve(2) does.
//!
//! # What is refused
//!
//! When the template is taken, by name and with what the workload could do:
//!
//! * more than one thread or process (numpy's OpenBLAS starts threads when it is loaded, unless the variable
//!   `OPENBLAS_NUM_THREADS` is 1), a debugger;
//! * descriptors other than the standard streams and [those files](#files), and standard streams that are no file, pipe or
//!   socket;
//! * shared writable memory, memory of devices, of userfaultfd, of huge pages;
//! * pending signals, alarms, timers;
//! * other ids or another root than the process started with, a working directory outside the root;
//! * more than 64 MiB of files in memory, and files in a tmpfs that was mounted after the container was created;
//! * a container whose filter notifies an agent, one that was restored from an image, and a clone.
//!
//! It then goes on as it was. When a clone is built: a tmpfs of the template's that it has not. When it starts: another
//! kernel, another root than the template's as far as its program and its open files go, another pid inside, and
//! descriptors of its own besides the standard streams.
