//! The public interface, operation by operation, with containers that run: phases, processes, streams, files, pods.

mod after_the_end;
mod any_container;
#[cfg(feature = "tokio")]
mod asynchronous;
mod attachment;
mod checkpoint;
mod clones;
mod console;
mod criu;
mod diagnosis;
mod events;
mod exec;
mod exec_before_start;
mod export;
mod files;
mod forward_signals;
mod helper;
mod hot_mounts;
mod ids;
mod init;
mod kept_files;
#[path = "../kit/mod.rs"]
mod kit;
mod lifecycle;
mod output;
mod pod_volumes;
mod pods;
mod pool;
mod processes;
mod records;
mod restore;
mod restored_kinds;
mod restored_pid_1;
mod restored_streams;
mod rules;
mod signals;
mod stress;
mod template;
mod template_files;
mod unharmed;
mod user_log;
mod user_name;
mod zygote;
