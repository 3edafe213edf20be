//! [`Pool`]: members that wait, and the thread that makes new ones.
//!
//! ```text
//!   take --pops a member--> checks it --> gives it the job --> Container<Created>
//!     |                         |
//!     | wakes                   | changed: to `discarded`
//!     v                         v
//!   refill thread: destroys what was discarded, makes members until there are `size`; after an error it waits, each time
//!   longer
//! ```
//!
//! The lock of the stock is held for moments only: members are made, checked, given and destroyed without it.

use super::job::Job;
use super::member::{Member, NotGiven};
use crate::container::ContainerBuilder;
use crate::container::create::namesake::remove_abandoned;
use crate::container::typestate::{Container, Created};
use crate::error::{Error, ErrorKind, OsContext, Result};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The shortest and the longest time between an attempt to refill that failed and the next one.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(10));

/// Containers that are created beforehand and wait for their jobs.
///
/// To create a container takes much longer than to start it. A pool does that work before the container is asked for, on a
/// thread of its own: what is left is to hand over the job and to execute its program.
///
/// ```no_run
/// use cofferdam::pools::{Job, Pool};
/// use cofferdam::{ContainerBuilder, Stdio};
/// use std::io::Read;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let template = ContainerBuilder::new().args(["true"]).pids_limit(64);
/// let pool = Pool::new(template, 16)?;
/// let job = Job::new(["tr", "a-z", "A-Z"]).input("hello\n").stdout(Stdio::piped());
/// let mut created = pool.take(job)?.into_container();
/// let stdout = created.take_stdout();
/// let stopped = created.start()?.wait_stopped()?;
/// let mut text = String::new();
/// stdout.ok_or("a pipe was asked for")?.read_to_string(&mut text)?;
/// stopped.delete()?;
/// # Ok(())
/// # }
/// ```
///
/// # The template
///
/// Every member is created from a copy of the template, and root, mounts, ids, capabilities, filter, limits, network and
/// hooks are the template's. Its program is what a [job of the template](Job::of_template) executes; create looks it up as
/// for any container, so it has to be there. Streams, a terminal and a PID file are refused: streams are the job's. A
/// container is used once, so nothing of one job reaches another, unless the template shares it, such as a writable bind.
///
/// Each member has an id of its own: a random one, or, for a template with an [`id`](ContainerBuilder::id), that id, a
/// hyphen and a random rest. [`AnyContainer::list`](crate::AnyContainer::list) shows those that wait as created.
///
/// The clones of a [`Template`](crate::templates::Template#clones-that-wait) make a pool, too: by its
/// [`builder`](crate::templates::Template::builder).
///
/// # What can happen to a member
///
/// Members are attached: they end with the pool, and with this program, however that ends. What a killed program leaves of
/// its members are records of containers that have ended. A pool whose template has an id deletes those of earlier pools
/// with the same id when it is made.
///
/// `take` never hands out a member that has changed: whose processes were killed, stopped or moved, whose limits another
/// program has changed, whose mounts are others, whose record another program has written, or in which one has executed a
/// process or looked into files. Such a member is destroyed,
/// and the next one takes the job.
///
/// # Threads
///
/// Any number of threads may take at the same time. The pool has one thread, `cofferdam-pool`, with all signals blocked; it
/// ends when the pool is dropped, which waits for it and then destroys the members. It has the privileges and the umask
/// that the thread had which made the pool. Each member that waits keeps about eight descriptors of this program open.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    refill: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    template: Mutex<ContainerBuilder>,
    size: usize,
    stock: Mutex<Stock>,
    /// The refill thread has something to do.
    wanted: Condvar,
    /// A member was added, or could not be made.
    refilled: Condvar,
}

#[derive(Debug, Default)]
struct Stock {
    members: VecDeque<Member>,
    /// Changed members, which the refill thread destroys.
    discarded: Vec<Member>,
    /// The last error of the refill thread that no `take` has reported.
    error: Option<Error>,
    /// How many attempts to refill have failed since one succeeded.
    failures: u32,
    closing: bool,
}

/// A container that a pool gave away, with its job.
#[must_use = "an attached container is destroyed when it is dropped"]
#[derive(Debug)]
pub struct Taken {
    container: Container<Created>,
    cold: bool,
    refill_error: Option<Error>,
}

impl Taken {
    /// Whether the pool was empty, so that this container was created only now. If that happens often, the pool is too
    /// small for what is asked of it, or cannot be refilled: see [`refill_error`](Self::refill_error).
    #[must_use]
    pub fn is_cold(&self) -> bool {
        self.cold
    }

    /// Why the pool could not make a member lately. Reported once, by the first `take` after the error; the pool goes on
    /// trying.
    #[must_use]
    pub fn refill_error(&self) -> Option<&Error> {
        self.refill_error.as_ref()
    }

    /// The container, to be started.
    pub fn into_container(self) -> Container<Created> {
        self.container
    }
}

impl Pool {
    /// Creates one member, and starts the thread that keeps `size` of them.
    ///
    /// # Errors
    /// As [`build`](ContainerBuilder::build) and [`create`](crate::Container::create), for the first member;
    /// [`ErrorKind::InvalidInput`] for a size of 0 and for a template with what a job has; the errno if no thread can be
    /// made.
    pub fn new(template: ContainerBuilder, size: usize) -> Result<Self> {
        if size == 0 {
            let error = Error::new(ErrorKind::InvalidInput, "Pool::new", "the size must not be 0");
            return Err(error.hint("without a pool, build and create each container"));
        }
        let first = Member::make(template.for_member()?)?;
        if let Some(id) = template.given_id() {
            remove_abandoned(first.state_root(), id);
        }
        let shared = Arc::new(Shared {
            template: Mutex::new(template),
            size,
            stock: Mutex::new(Stock { members: [first].into(), ..Stock::default() }),
            wanted: Condvar::new(),
            refilled: Condvar::new(),
        });
        let refill = spawn_blocked({
            let shared = Arc::clone(&shared);
            move || shared.refill()
        })?;
        Ok(Self { shared, refill: Some(refill) })
    }

    /// Gives the job to a member that waits, or to a container that is created for it if none does. Blocks for less than a
    /// millisecond in the first case, and as long as create in the second.
    ///
    /// # Errors
    /// * [`ErrorKind::InvalidInput`] naming the method of [`Job`], and [`ErrorKind::InvalidSpec`] naming the field. No
    ///   member is used up.
    /// * [`ErrorKind::ProgramNotFound`] and [`ErrorKind::ProgramNotExecutable`], as create: the member is destroyed.
    /// * With an empty pool, as [`build`](ContainerBuilder::build) and [`create`](crate::Container::create).
    /// * Otherwise the errno of the system call that failed.
    pub fn take(&self, job: Job) -> Result<Taken> {
        self.shared.take(job)
    }

    /// As [`take`](Self::take), for a tokio runtime: on a thread that may block. Dropping the future destroys the
    /// container.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    #[cfg(feature = "tokio")]
    pub async fn take_async(&self, job: Job) -> Result<Taken> {
        let shared = Arc::clone(&self.shared);
        crate::container::asynchronous::blocking(move || shared.take(job)).await
    }

    /// How many members wait for a job now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.stock().members.len()
    }

    /// Waits until the pool is full.
    ///
    /// # Errors
    /// Why a member cannot be made, which the next [`take`](Self::take) then does not report again;
    /// [`ErrorKind::TimedOut`] after `limit`.
    pub fn wait_full(&self, limit: Duration) -> Result<()> {
        let (mut stock, deadline) = (self.shared.stock(), Instant::now() + limit);
        while stock.members.len() < self.shared.size {
            if let Some(error) = stock.error.take() {
                return Err(error);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let problem = format!("{} of {} wait", stock.members.len(), self.shared.size);
                return Err(Error::new(ErrorKind::TimedOut, "Pool::wait_full", problem));
            }
            stock = self.shared.refilled.wait_timeout(stock, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stock().closing = true;
        self.shared.wanted.notify_one();
        // It ends when the member that it makes is there, and does not panic.
        let _ = self.refill.take().map(JoinHandle::join);
        let Stock { members, discarded, .. } = std::mem::take(&mut *self.shared.stock());
        drop((members, discarded));
    }
}

impl Shared {
    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> Result<Member> {
        let copy = self.template.lock().unwrap_or_else(PoisonError::into_inner).for_member()?;
        Member::make(copy)
    }

    fn take(&self, mut job: Job) -> Result<Taken> {
        job.check()?;
        let taken = loop {
            let Some(member) = self.pop() else {
                break self.take_cold(&job).map(|container| (container, true));
            };
            if !member.is_unchanged() {
                tracing::debug!(container = member.id(), "a member of the pool has changed");
                self.stock().discarded.push(member);
                continue;
            }
            match member.give(&job) {
                Ok(container) => break Ok((container, false)),
                Err(NotGiven::Lost(member, error)) => {
                    tracing::debug!(container = member.id(), %error, "a member of the pool is lost");
                    self.stock().discarded.push(*member);
                }
                Err(NotGiven::Invalid(member, error)) => {
                    self.stock().members.push_front(*member);
                    break Err(error);
                }
                Err(NotGiven::Failed(error)) => break Err(error),
            }
        };
        self.wanted.notify_one();
        let (container, cold) = taken?;
        Ok(Taken { container, cold, refill_error: self.stock().error.take() })
    }

    /// The member that has waited longest.
    fn pop(&self) -> Option<Member> {
        self.stock().members.pop_front()
    }

    fn take_cold(&self, job: &Job) -> Result<Container<Created>> {
        self.make()?.give(job).map_err(|not_given| match not_given {
            NotGiven::Invalid(_, error) | NotGiven::Lost(_, error) | NotGiven::Failed(error) => error,
        })
    }

    /// The life of the refill thread.
    fn refill(&self) {
        let mut stock = self.stock();
        loop {
            if stock.closing {
                return;
            }
            let discarded = std::mem::take(&mut stock.discarded);
            if !discarded.is_empty() {
                drop(stock);
                drop(discarded);
                stock = self.stock();
            } else if stock.members.len() < self.size {
                drop(stock);
                let made = self.make();
                stock = self.stock();
                stock = self.add(stock, made);
            } else {
                stock = self.wanted.wait(stock).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Adds what was made. After an error, waits before the next attempt.
    fn add<'a>(&self, mut stock: MutexGuard<'a, Stock>, made: Result<Member>) -> MutexGuard<'a, Stock> {
        let error = match made {
            Ok(member) => {
                stock.members.push_back(member);
                stock.failures = 0;
                self.refilled.notify_all();
                return stock;
            }
            Err(error) => error,
        };
        tracing::debug!(%error, "the pool cannot make a member");
        stock.error = Some(error);
        let pause = RETRY.0.saturating_mul(1 << stock.failures.min(16)).min(RETRY.1);
        stock.failures += 1;
        self.refilled.notify_all();
        let again = Instant::now() + pause;
        loop {
            let left = again.saturating_duration_since(Instant::now());
            if left.is_zero() || stock.closing {
                return stock;
            }
            stock = self.wanted.wait_timeout(stock, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Starts the refill thread. It blocks all signals from its first instruction on, so that they go to the program's own
/// threads.
fn spawn_blocked(refill: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).os(|| "pthread_sigmask()")?;
    let spawned = std::thread::Builder::new().name("cofferdam-pool".to_owned()).spawn(refill);
    before.thread_set_mask().os(|| "pthread_sigmask()")?;
    spawned.os(|| "clone3(thread)")
}
