//! What our processes say to each other, as bytes. Pure: no socket, no clock.
//!
//! Each connection has its own types, so that neither end can receive what makes no sense there: a frame of another
//! kind is refused before its body is read. Every descriptor travels under a name. [`frame`] has the format and the
//! limits, [`kinds`] the number of each type; sockets and descriptor passing are in `process::channel`.
//!
//! | connection | there | back | module |
//! |---|---|---|---|
//! | caller, gofer | `GoferStart` | `GoferReport` | [`boot`] |
//! | caller, sandbox | `SandboxStart` | `SandboxReport` | [`boot`] |
//! | caller, zygote | `ForkRequest` | `ZygoteReport`, then a `ForkReply` each | [`boot`] |
//! | caller, hook runner | | `RunnerReport` | [`boot`] |
//! | hook runner or init, hook | | `HookRefused`, or `execve` closes the connection | [`boot`] |
//! | gofer, init | `MountBatch` | | [`init`] |
//! | sandbox, gofer (the same socket) | `LeafEmpty`, `EndedAttached` | | [`init`] |
//! | sandbox, init | `JoinNetwork`, then an `InitRequest` each | `InitReport`, then `JobReport` or `StartReport` | [`init`] |
//! | caller, init | `HooksDone` | `RootAssembled` | [`init`] |
//! | client that starts a process, the process | `ListenerTaken` | | [`init`] |
//! | sandbox, executed process | | `ExecHello`, then `ExecReport` | [`init`] |
//! | sandbox, process that looks another up | | `Found` | [`init`] |
//! | sandbox, process that changes mounts | | `MountReport` | [`init`] |
//! | any process of the owner, sandbox | `Request` | `Reply` | [`control`] |
//! | brought along by a request | | `ExecReply`, `ProcessEnded`, `WaitReply`, `MountReply`, `SandboxEvent` | [`control`] |
//! | brought along by a request | `FileRequest` | `WorkerReport`, then `FileReply` | [`files`] |

pub(crate) mod boot;
pub(crate) mod control;
pub(crate) mod files;
pub(crate) mod frame;
pub(crate) mod init;
pub(crate) mod kinds;
pub(crate) mod template;
