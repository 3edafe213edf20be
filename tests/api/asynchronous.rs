//! Run, wait and exec as futures on one thread: none blocks the thread, and a future that is dropped leaves nothing.

use crate::kit::witness::descendants;
use crate::kit::{Stage, stage};
use cofferdam::{Container, Exec, Outcome, Running, Stdio};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, yield_now};

/// Runs a future on a runtime with one thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn sleeper(stage: &Stage) -> Container<Running> {
    stage.container("session").args(["sleep", "1000"]).spawn_async().await.unwrap()
}

#[test]
fn output_is_fed_bounded_and_timed_as_without_a_runtime() {
    let stage = stage!();
    block_on(async {
        let output = stage
            .shell("fed", "tr a-z A-Z; echo no >&2; exit 3")
            .input("hello")
            .output_async()
            .await
            .unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"HELLO"[..], &b"no\n"[..]));
        assert_eq!(output.exit.outcome, Outcome::Exited { code: 3 });
        let output = stage.container("yes").args(["yes"]).output_limit(1000).output_async().await.unwrap();
        assert_eq!(output.stdout.len(), 1000);
        assert_eq!(output.exit.outcome, Outcome::TooMuchOutput { limit: 1000 });
        // A copy has no descriptors of its own, and needs none for what is collected.
        let template = stage.shell("copy", "echo copied").stdout(std::fs::File::open("/dev/null").unwrap());
        let output = template.clone().output_async().await.unwrap();
        assert_eq!(output.stdout, b"copied\n");
        let limit = Duration::from_millis(200);
        let exit = stage.container("late").args(["sleep", "1000"]).timeout(limit).run_async().await.unwrap();
        assert_eq!(exit.outcome, Outcome::TimedOut { after: limit });
    });
}

#[test]
fn many_processes_are_executed_and_awaited_by_one_thread() {
    let stage = stage!();
    block_on(async {
        let session = Arc::new(sleeper(&stage).await);
        let mut tasks = JoinSet::new();
        for number in 0..200 {
            let session = Arc::clone(&session);
            tasks.spawn(async move {
                let exec =
                    Exec::new(["sh", "-c", &format!("cat; exit {}", number % 100)]).input(number.to_string());
                (number, session.exec_output_async(exec).await.unwrap())
            });
        }
        while let Some(done) = tasks.join_next().await {
            let (number, output) = done.unwrap();
            assert_eq!(output.stdout, number.to_string().into_bytes());
            assert_eq!(output.exit.outcome, Outcome::Exited { code: number % 100 });
        }
    });
}

#[test]
fn a_process_keeps_its_limits_of_time_and_output() {
    let stage = stage!();
    block_on(async {
        let session = sleeper(&stage).await;
        let limit = Duration::from_millis(200);
        let late = Exec::new(["sh", "-c", "echo begun; exec sleep 1000"]).timeout(limit);
        let output = session.exec_output_async(late).await.unwrap();
        assert_eq!(output.stdout, b"begun\n");
        assert_eq!(output.exit.outcome, Outcome::TimedOut { after: limit });
        let much = session.exec_output_async(Exec::new(["yes"]).output_limit(10)).await.unwrap();
        assert_eq!(much.exit.outcome, Outcome::TooMuchOutput { limit: 10 });
        assert_eq!(much.stdout.len(), 10);
    });
}

/// One task waits for the container; another reads and writes the pipes of a process with the runtime's own types.
#[test]
fn waiting_lets_other_tasks_of_the_thread_run() {
    let stage = stage!();
    block_on(async {
        let session = Arc::new(sleeper(&stage).await);
        let waiting = Arc::clone(&session);
        let end = tokio::spawn(async move { waiting.wait_async().await.unwrap() });
        yield_now().await;
        let exec = Exec::new(["sh", "-c", "echo one; read line; echo $line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = session.exec_async(exec).await.unwrap();
        assert_eq!(process.as_raw_fd(), process.as_fd().as_raw_fd());
        let said = Receiver::from_file(process.take_stdout().unwrap()).unwrap();
        assert_eq!(read_line(&said).await, "one\n");
        let to = Sender::from_file(process.take_stdin().unwrap()).unwrap();
        to.writable().await.unwrap();
        assert_eq!(to.try_write(b"two\n").unwrap(), 4);
        assert_eq!(read_line(&said).await, "two\n");
        assert!(process.wait_async().await.unwrap().outcome.success());
        assert!(!end.is_finished());
        session.signal(cofferdam::Signal::KILL).unwrap();
        assert!(!end.await.unwrap().outcome.success());
    });
}

async fn read_line(from: &Receiver) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        from.readable().await.unwrap();
        let mut byte = [0];
        match from.try_read(&mut byte) {
            Ok(0) => break,
            Ok(_) => line.push(byte[0]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    String::from_utf8(line).unwrap()
}

/// Drops the future after each of its first polls.
#[test]
fn a_future_that_is_dropped_leaves_nothing() {
    let stage = stage!();
    block_on(async {
        let session = sleeper(&stage).await;
        let before = descendants(std::process::id()).len();
        for polls in 1..6 {
            let exec = session.exec_output_async(Exec::new(["sleep", "1000"]));
            give_up_after(polls, exec).await;
            let output = stage.container(&format!("dropped{polls}")).args(["sleep", "1000"]).output_async();
            give_up_after(polls, output).await;
        }
        // No event says when the sandbox has ended what the futures had made: look until it has.
        while descendants(std::process::id()).len() > before {
            yield_now().await;
        }
        assert!(session.exec_output_async(Exec::new(["true"])).await.unwrap().exit.outcome.success());
    });
}

/// Polls `future` `polls` times, lets the runtime work in between, and drops it.
async fn give_up_after<T>(polls: usize, future: impl Future<Output = T>) {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let poll =
            std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_ready()));
        assert!(!poll.await, "it sleeps for ever");
        yield_now().await;
    }
}
