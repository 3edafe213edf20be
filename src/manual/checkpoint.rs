//! Checkpoint and restore: what an image of a container has, what it does not have, what keeps a container from having one,
//! and what a restore takes from it.
//!
//! An [image](crate::checkpoint::Image) is a directory with all that a running container is: its processes, which
//! [CRIU](https://criu.org) writes down, and the files in its memory. [`snapshot`](crate::Container::snapshot) lets the
//! container go on; [`checkpoint`](crate::Container::checkpoint) ends it with
//! [`Outcome::Checkpointed`](crate::Outcome::Checkpointed) when the image is whole. Both take running and paused
//! containers, and root of the host: only it may read the seccomp filter of a process.
//!
//! ```no_run
//! use cofferdam::ContainerBuilder;
//! use cofferdam::checkpoint::{Criu, Image};
//!
//! # fn main() -> cofferdam::Result<()> {
//! let running = ContainerBuilder::new().args(["my-server"]).spawn()?;
//! // ... it has loaded what it needs.
//! running.checkpoint(&Criu::find()?, "/var/lib/images/server")?.delete()?;
//! let image = Image::open("/var/lib/images/server")?;
//! let restored = ContainerBuilder::new().restore(&image, &Criu::find()?)?.spawn()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What an image has
//!
//! | Part of a container | In the image |
//! |---|---|
//! | processes, threads, their memory, registers, pids, sessions, signals and timers | yes |
//! | pipes, socket pairs, unix sockets, epoll, eventfd, timerfd, signalfd, memfd, inotify | yes |
//! | open files | yes; a file of a bind or of the image by its path |
//! | open files that were deleted | yes, of less than 4 GiB; of one with other names, see below |
//! | [scratch](crate::ContainerBuilder::scratch), with what was removed | yes, as a layer with the ids of the container |
//! | each tmpfs that it can write to, `/dev` among them | yes, as a layer; without devices, and without what is mounted below |
//! | standard streams: pipes, terminals, the null device | their kinds: [`Image::streams`](crate::checkpoint::Image::streams) |
//! | TCP and UDP sockets that are not connected | yes; CRIU 4.1.1 refuses them all on Linux 6.16 and later, which answers `EOPNOTSUPP` for an option that it asks for |
//! | its configuration, limits, mounts, network, ids, capabilities and filter | as a record only: a restore makes them from the configuration of its caller |
//! | files of the rootfs without a scratch, and of binds | no: they are on the host |
//! | host name, sysctls, routes and addresses that were changed inside | no |
//! | the clocks: `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` | no: they are the machine's |
//! | POSIX message queues | no |
//!
//! A deleted file that has other names gets one more, `link_remap.N` beside its old name, which the restore removes. In a
//! bind, it is on the host until then.
//!
//! # What is refused
//!
//! Each of these is an error that names it, the container goes on, and what was written is removed:
//!
//! * a caller other than root of the host, or one in a user namespace;
//! * processes that the program has not started: those of [`exec`](crate::Container::exec), and orphans, which are children
//!   of the [init](super::processes#the-reaper);
//! * a file of the host as a standard stream, or a socket that is connected to the outside;
//! * TCP connections, and locks of files (flock(2), fcntl(2));
//! * System V shared memory, semaphores and message queues;
//! * a process with namespaces of its own; a container that shares the pid namespace of another or of the host;
//! * containers of a [pod](crate::Pod);
//! * mounts that came after the creation, by [`mount`](crate::Container::mount) and its like;
//! * a seccomp filter that asks an agent;
//! * a container that is paused without a cgroup, by SIGSTOP;
//! * whatever else CRIU does not write down, with what it says.
//!
//! # The directory
//!
//! ```text
//!   DIRECTORY/             0700, made by the call, or empty before
//!     criu/                CRIU's files
//!     layers/N.tar         scratch and tmpfs, each an archive as OCI's layer.md has it
//!     config.json          the configuration of the container
//!     manifest.json        last: everything else is on the disk by then
//! ```
//!
//! The manifest has the version of its format, of this crate and of CRIU, kernel and machine, and length and SHA-256 of
//! every file. [`Image::open`](crate::checkpoint::Image::open) compares all of it, and refuses by name a file that is
//! missing, cut, changed, no regular file, or not in the manifest; an image of another architecture; and one of a
//! processor with extensions that this machine's do not have. A program or a machine that dies in the middle leaves no
//! manifest, so no image.
//!
//! A digest says that nothing was damaged, and not who wrote it. An image is as trustworthy as the directory that it comes
//! from, and as secret as the memory of the container.
//!
//! # Consistency
//!
//! CRIU stops all processes, and they stand still until it has written them down and this crate the layers. The sandbox
//! refuses meanwhile what would change the container: exec, pause, resume, mounts. Other programs can still kill it, and
//! write to its binds. The time limit of a container runs on. If CRIU is killed, the container goes on; a process of it that
//! just ran code of CRIU's may die of that.
//!
//! # Restore
//!
//! [`ContainerBuilder::restore`](crate::ContainerBuilder::restore) has `create` make the processes of an image instead of
//! starting a program. They then stand still until [`start`](crate::Container::start) lets them go on. Root restores, and so
//! does an unprivileged user who may read the directory: give that user a copy. The phases, and all operations on the
//! container, are those of any other.
//!
//! | From the image | From the new configuration |
//! |---|---|
//! | the processes: programs, memory, descriptors, pids, their working directories | mounts, root directory, devices |
//! | what they wrote to scratch and tmpfs, which the new configuration has to have too | ids, network, host name, sysctls |
//! | arguments, variables and working directory in the record | cgroups and their limits |
//! | ids, groups, capabilities, no_new_privs, limits of setrlimit(2): as they were, if the configuration allows that | what they may be at most |
//! | the seccomp filters | the one that has to be the first filter of each thread |
//! | streams that were no pipe | streams that were a pipe: [`stdout`](crate::ContainerBuilder::stdout) and its like |
//!
//! Files of the image's root and binds are opened by their paths, so they have to be there, with the same size.
//!
//! Before a restored thread runs an instruction, the sandbox compares with the configuration, as the kernel shows them: its
//! namespaces, uids, gids and groups, the five capability sets, no_new_privs, the mode and the number of seccomp filters,
//! and its limits. What has more is refused with the process, the field and both values, and all is killed. The program of
//! the first filter is compared in the image, because only root of the host could read it back.
//!
//! [`restore`](crate::ContainerBuilder::restore) compares CRIU's files with the manifest again, and CRIU reads those very
//! bytes, from memory that no other process can write. Only the memory of processes and deleted files it reads from the
//! directory itself.
//!
//! CRIU runs inside the container, with the container's namespaces and cgroups, as its root and with the capabilities that
//! CRIU needs. It begins in a root that has nothing but a proc, so that nothing in the container can be taken for a library
//! or a program of CRIU's, and enters the container's before it makes a process. It counts as one process more until the
//! start is done. If the program was PID 1, without an [`init`](crate::ContainerBuilder::init), CRIU makes the pid
//! namespace: it then runs in one above until the container's root is there; and PID 1 of that one, which only waits,
//! counts as a process of the container for good, and hooks that run before the root is entered find no file of the host
//! in its mount namespace. [What a tampered image can and cannot do](super::promises#promised).
//!
//! Refused by name: another version of CRIU than the one that made the image, an image of a terminal, a container of a pod,
//! one with another [`init`](crate::ContainerBuilder::init) than the image, a namespace of pids or mounts that exists
//! already, startContainer hooks, createContainer hooks before a PID 1, labels of security modules, a filter that asks an
//! agent, and clocks of its own. A restore has 100 seconds until all processes stand, and as long until they run. It ends
//! with the name of the file if the memory of a process is cut meanwhile.
