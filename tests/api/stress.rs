//! Several programs act on the same containers at once. If only one of them can succeed, one does and the others get an
//! error that says why; what another program reads meanwhile is consistent; and nothing is left on the host.

use crate::kit::caller::{self, Caller};
use crate::kit::{Stage, start};
use cofferdam::info::Listed;
use cofferdam::{
    AnyContainer, Container, ContainerBuilder, ErrorKind, Exec, Pod, Rootfs, Running, Signal, StateRoot,
    Stdio,
};
use std::time::Duration;

/// How often each race is run. None of them takes its turn by time, so each round may come out differently.
const ROUNDS: usize = 6;
const GRACE: Duration = Duration::from_secs(10);

/// What becomes of an act that came too late for its container.
const TOO_LATE: [&str; 3] = ["NotFound", "Ended", "WrongState"];

#[test]
fn of_several_creators_one_wins() {
    let Some(stage) = stage() else { return };
    let mut programs = Programs::new(&stage, 6);
    for round in 0..ROUNDS {
        let id = stage.id(&format!("create{round}"));
        let words = programs.all_do(&format!("create {id}"));
        assert_eq!(count(&words, "won"), 1, "{words:?}");
        assert_eq!(count(&words, "AlreadyExists"), words.len() - 1, "{words:?}");
        assert_eq!(programs.one_does(&format!("delete {id}")), "won");
    }
    programs.finish();
}

#[test]
fn of_several_starters_one_wins() {
    let Some(stage) = stage() else { return };
    let mut programs = Programs::new(&stage, 5);
    for round in 0..ROUNDS {
        let id = stage.id(&format!("start{round}"));
        assert_eq!(programs.one_does(&format!("create {id}")), "won");
        let words = programs.all_do(&format!("start {id}"));
        assert_eq!(count(&words, "won"), 1, "{words:?}");
        assert_eq!(count(&words, "WrongState"), words.len() - 1, "{words:?}");
        assert_eq!(programs.one_does(&format!("delete {id}")), "won");
    }
    programs.finish();
}

#[test]
fn what_is_done_to_a_container_that_is_being_deleted_succeeds_or_says_why_not() {
    let Some(stage) = stage() else { return };
    let mut programs = Programs::new(&stage, 6);
    for round in 0..ROUNDS {
        let id = stage.id(&format!("delete{round}"));
        assert_eq!(programs.one_does(&format!("create {id}")), "won");
        // Not started in every round: what is created is deleted too.
        let acts = if round % 2 == 0 {
            ["start", "delete", "start", "signal", "delete", "list"]
        } else {
            assert_eq!(programs.one_does(&format!("start {id}")), "won");
            ["exec", "delete", "kill", "stop", "wait", "list"]
        };
        let words = programs.do_each(&acts.map(|act| format!("{act} {id}")));
        for (act, word) in acts.iter().zip(&words) {
            // A program that loads the container after another has deleted it finds nothing to delete.
            let too_late = if *act == "delete" { &TOO_LATE[..1] } else { &TOO_LATE };
            let expected = word == "won" || too_late.contains(&word.as_str());
            assert!(expected, "round {round}: {act}: {word} of {words:?}");
        }
        assert_eq!(programs.one_does(&format!("start {id}")), "NotFound", "deleted is gone");
    }
    programs.finish();
}

#[test]
fn ends_are_asked_for_by_many_and_come_once() {
    let Some(stage) = stage() else { return };
    let mut programs = Programs::new(&stage, 6);
    for round in 0..ROUNDS {
        let container = start(stage.container(&format!("end{round}")).args(["sleep", "1000"]));
        let id = container.id().clone();
        let acts = ["kill", "stop", "signal", "kill", "exec", "signal"];
        for (act, word) in acts.iter().zip(programs.do_each(&acts.map(|act| format!("{act} {id}")))) {
            assert!(word == "won" || TOO_LATE.contains(&word.as_str()), "round {round}: {act}: {word}");
        }
        let exit = container.wait().unwrap();
        let outcomes = programs.all_do(&format!("outcome {id}"));
        assert_eq!(outcomes, vec![format!("{:?}", exit.outcome); outcomes.len()]);
        container.wait_stopped().unwrap().delete().unwrap();
    }
    programs.finish();
}

#[test]
fn every_waiter_gets_the_same_exit() {
    let Some(stage) = stage() else { return };
    let mut programs = Programs::new(&stage, 5);
    for round in 0..ROUNDS {
        let builder = stage.shell(&format!("wait{round}"), "read line; exit 7").stdin(Stdio::piped());
        let mut container = start(builder);
        programs.tell(&format!("outcome {}", container.id()));
        drop(container.take_stdin());
        let words = programs.hear();
        assert_eq!(words, vec!["Exited { code: 7 }"; words.len()]);
        assert_eq!(container.wait().unwrap().outcome.shell_code(), 7);
    }
    programs.finish();
}

#[test]
fn processes_are_executed_until_the_container_ends_and_not_after() {
    let Some(stage) = stage() else { return };
    let mut programs = Programs::new(&stage, 5);
    for round in 0..ROUNDS {
        let builder = stage.shell(&format!("exec{round}"), "read line; exit 7").stdin(Stdio::piped());
        let mut container = start(builder);
        let id = container.id().clone();
        programs.tell(&format!("exec-until-refused {id}"));
        assert!(container.exec_output(Exec::new(["true"])).unwrap().exit.outcome.success());
        drop(container.take_stdin());
        assert_eq!(container.wait().unwrap().outcome.shell_code(), 7, "no executed process changes that");
        for word in programs.hear() {
            assert!(TOO_LATE.contains(&word.as_str()), "round {round}: {word}");
        }
    }
    programs.finish();
}

#[test]
fn a_hundred_processes_executed_at_once_each_have_their_own_end() {
    let Some(stage) = stage() else { return };
    let container = start(stage.container("hundred").args(["sleep", "1000"]));
    let mut programs = Programs::new(&stage, 4);
    for _ in 0..2 {
        let words = programs.all_do(&format!("exec-25 {}", container.id()));
        assert_eq!(words, vec!["won"; words.len()]);
    }
    assert_eq!(container.processes().unwrap().len(), 1, "and nothing of them is left");
    programs.finish();
}

#[test]
fn a_container_that_is_paused_and_resumed_takes_processes_in_between_or_says_why_not() {
    let Some(stage) = stage() else { return };
    let mut programs = Programs::new(&stage, 4);
    let container = start(stage.container("paused").args(["sleep", "1000"]));
    let id = container.id();
    let acts = ["pause-and-resume", "exec-between-pauses", "exec-between-pauses", "pause-and-resume"];
    assert_eq!(programs.do_each(&acts.map(|act| format!("{act} {id}"))), ["won"; 4]);
    assert!(container.exec_output(Exec::new(["true"])).unwrap().exit.outcome.success(), "it runs");
    programs.finish();
}

#[test]
fn twenty_containers_of_one_pod_live_and_die_at_once() {
    let Some(stage) = stage() else { return };
    let pod = start(stage.container("pod").args(["sleep", "1000"]));
    let mut programs = Programs::new(&stage, 5);
    for round in 0..3 {
        let ids = |program: usize| (0..4).map(move |n| format!("m{round}-{program}-{n}"));
        for act in ["join", "start", "exec", "signal", "outcome", "delete"] {
            for member in 0..4 {
                let acts: Vec<_> = (0..5)
                    .map(|program| {
                        let id = stage.id(&ids(program).nth(member).expect("one of four"));
                        format!("{act} {id} {} {}", pod.id(), member % 2)
                    })
                    .collect();
                let expected = if act == "outcome" { "Killed { signal: Signal(15) }" } else { "won" };
                let words = programs.do_each(&acts);
                assert_eq!(words, vec![expected; words.len()], "{act}");
            }
        }
        assert_eq!(pod.pod().containers().unwrap().len(), 1);
        assert!(pod.try_wait().unwrap().is_none());
    }
    programs.finish();
}

#[test]
fn members_come_and_go_without_disturbing_each_other() {
    let Some(stage) = stage() else { return };
    let pod = start(stage.container("pod").args(["sleep", "1000"]));
    let mut programs = Programs::new(&stage, 4);
    let acts: Vec<_> = (0..4)
        .map(|program| {
            // Two for themselves, two about one and the same name.
            let name = if program < 2 { program } else { 2 };
            format!("come-and-go {} {} {}", stage.id(&format!("member{name}")), pod.id(), program % 2)
        })
        .collect();
    assert_eq!(programs.do_each(&acts), ["won"; 4]);
    assert!(pod.try_wait().unwrap().is_none());
    assert_eq!(pod.pod().containers().unwrap().len(), 1);
    programs.finish();
}

#[test]
fn a_pod_that_ends_ends_also_what_is_just_being_made_in_it() {
    let Some(stage) = stage() else { return };
    let mut programs = Programs::new(&stage, 5);
    for round in 0..ROUNDS {
        let builder = stage.shell(&format!("pod{round}"), "read line; exit 7").stdin(Stdio::piped());
        let mut pod = start(builder);
        let old = start(pod.pod().container(stage.id("old")).args(["sleep", "1000"]));
        let acts = [
            format!("join {} {} 0", stage.id("new0"), pod.id()),
            format!("join {} {} 1", stage.id("new1"), pod.id()),
            format!("exec-until-refused {}", old.id()),
            format!("exec-until-refused {}", pod.id()),
            format!("list {}", pod.id()),
        ];
        programs.tell_each(&acts);
        drop(pod.take_stdin());
        assert_eq!(pod.wait().unwrap().outcome.shell_code(), 7);
        for (act, word) in acts.iter().zip(programs.hear()) {
            assert!(word == "won" || TOO_LATE.contains(&word.as_str()), "round {round}: {act}: {word}");
        }
        assert!(!old.wait().unwrap().outcome.success());
        pod.pod().delete().unwrap();
    }
    programs.finish();
}

/// This test's stage, as [`stage!`](crate::kit::stage) makes it. In a program that takes part in the test, this does not
/// return.
fn stage() -> Option<Stage> {
    if let Some(directory) = caller::role() {
        play(&directory);
    }
    Stage::in_own_process()
}

fn count(words: &[String], word: &str) -> usize {
    words.iter().filter(|said| *said == word).count()
}

/// Programs that do what the test asks of them, one thing after the other, and one that reads all the time.
struct Programs {
    actors: Vec<Caller>,
    onlooker: Caller,
}

impl Programs {
    fn new(stage: &Stage, count: usize) -> Self {
        let mut programs = (0..=count).map(|_| Caller::spawn(stage.path()));
        let mut onlooker = programs.next().expect("one more than actors");
        onlooker.tell("look");
        Self { actors: programs.collect(), onlooker }
    }

    fn tell(&mut self, act: &str) {
        self.actors.iter_mut().for_each(|actor| actor.tell(act));
    }

    fn tell_each(&mut self, acts: &[String]) {
        self.actors.iter_mut().zip(acts).for_each(|(actor, act)| actor.tell(act));
    }

    fn hear(&mut self) -> Vec<String> {
        self.actors.iter_mut().map(Caller::hear).collect()
    }

    fn all_do(&mut self, act: &str) -> Vec<String> {
        self.tell(act);
        self.hear()
    }

    fn do_each(&mut self, acts: &[String]) -> Vec<String> {
        assert_eq!(acts.len(), self.actors.len());
        self.tell_each(acts);
        self.hear()
    }

    fn one_does(&mut self, act: &str) -> String {
        self.actors[0].tell(act);
        self.actors[0].hear()
    }

    /// They end, and the one that looked on has seen nothing that makes no sense.
    fn finish(mut self) {
        self.actors.into_iter().for_each(Caller::finish);
        self.onlooker.tell("enough");
        let seen = self.onlooker.hear();
        let looks = seen.strip_prefix("looks: ").unwrap_or_else(|| panic!("an onlooker saw {seen}"));
        assert!(looks.parse::<usize>().unwrap() > 0);
        self.onlooker.finish();
    }
}

/// The whole life of one of the [`Programs`].
fn play(directory: &std::path::Path) -> ! {
    let root = caller::root(directory);
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).expect("a line from the test") > 0 {
        let told = std::mem::take(&mut line);
        let words: Vec<&str> = told.trim_end().split(' ').collect();
        if words == ["look"] {
            look_on(&root);
            continue;
        }
        match act(&root, &words) {
            Ok(word) => caller::say(word),
            Err(error) => caller::say(kind(&error)),
        }
    }
    std::process::exit(0);
}

/// The name of an error's kind; the whole error if it is none of those that an act may have.
fn kind(error: &cofferdam::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "NotFound".into(),
        ErrorKind::Ended => "Ended".into(),
        ErrorKind::HelperDied => "HelperDied".into(),
        ErrorKind::AlreadyExists => "AlreadyExists".into(),
        ErrorKind::WrongState { .. } => "WrongState".into(),
        other => format!("{other:?}: {error}"),
    }
}

fn act(root: &StateRoot, words: &[&str]) -> cofferdam::Result<String> {
    let won = || Ok("won".to_owned());
    let (what, id) = (words[0], words[1]);
    match what {
        "create" => {
            builder(root, id).build()?.create()?.detach()?;
            won()
        }
        "join" => {
            let pod = Pod::load(root, words[2])?;
            let member = pod.container(id).args(["sleep", "1000"]);
            let member = if words[3] == "1" { member.share_pid_namespace() } else { member };
            member.build()?.create()?.detach()?;
            won()
        }
        "come-and-go" => {
            for _ in 0..8 {
                match act(root, &["join", id, words[2], words[3]]) {
                    // Another program has the name, and may give it back any time.
                    Err(error) if *error.kind() == ErrorKind::AlreadyExists => continue,
                    joined => joined?,
                };
                for next in ["start", "exec", "delete"] {
                    act(root, &[next, id])?;
                }
            }
            won()
        }
        "pause-and-resume" => {
            for _ in 0..25 {
                allow_wrong_phase(pause(AnyContainer::load(root, id)?))?;
                allow_wrong_phase(resume(AnyContainer::load(root, id)?))?;
            }
            // The last program leaves it running.
            won()
        }
        "exec-between-pauses" => {
            for _ in 0..100 {
                if let AnyContainer::Running(running) = AnyContainer::load(root, id)? {
                    allow_wrong_phase(running.exec(Exec::new(["true"])).map(drop))?;
                }
            }
            won()
        }
        "list" => look(root).map_or_else(won, Ok),
        _ => match (what, AnyContainer::load(root, id)?) {
            ("start", AnyContainer::Created(created)) => {
                created.start()?.detach()?;
                won()
            }
            ("delete", container) => {
                container.delete(true)?;
                won()
            }
            ("kill", AnyContainer::Running(running)) => {
                running.kill().map(drop).map_err(Into::into).and_then(|()| won())
            }
            ("stop", AnyContainer::Running(running)) => {
                running.stop(GRACE).map(drop).map_err(Into::into).and_then(|()| won())
            }
            ("signal", container) => container.as_alive()?.signal(Signal::TERM).and_then(|()| won()),
            ("wait", container) => container.wait().and_then(|_| won()),
            ("outcome", container) => Ok(format!("{:?}", container.wait()?.outcome)),
            ("exec", AnyContainer::Running(running)) => {
                let process = running.exec(Exec::new(["true"]))?;
                process.wait().and_then(|_| won())
            }
            ("exec-until-refused", AnyContainer::Running(running)) => loop {
                running.exec(Exec::new(["true"]))?.wait()?;
            },
            ("exec-25", AnyContainer::Running(running)) => Ok(execute_25(&running)),
            // The container is no longer, or not yet, in the expected phase.
            (_, _) => Ok("WrongState".to_owned()),
        },
    }
}

fn builder(root: &StateRoot, id: &str) -> ContainerBuilder {
    ContainerBuilder::new().id(id).state_root(root.clone()).rootfs(Rootfs::host()).args(["sleep", "1000"])
}

fn pause(container: AnyContainer) -> cofferdam::Result<()> {
    match container {
        AnyContainer::Running(running) => running.pause().map(drop).map_err(Into::into),
        _ => Ok(()),
    }
}

fn resume(container: AnyContainer) -> cofferdam::Result<()> {
    match container {
        AnyContainer::Paused(paused) => paused.resume().map(drop).map_err(Into::into),
        _ => Ok(()),
    }
}

/// Another program paused or resumed it first.
fn allow_wrong_phase(done: cofferdam::Result<()>) -> cofferdam::Result<()> {
    match done {
        Err(error) if matches!(error.kind(), ErrorKind::WrongState { .. } | ErrorKind::InvalidInput) => {
            Ok(())
        }
        done => done,
    }
}

fn execute_25(container: &Container<Running>) -> String {
    let execute = |code: i32| {
        let output = container.exec_output(Exec::new(["sh", "-c", &format!("echo {code}; exit {code}")]))?;
        let right =
            output.exit.outcome.shell_code() == code && output.stdout == format!("{code}\n").as_bytes();
        Ok::<_, cofferdam::Error>(if right { None } else { Some(format!("{code}: {output:?}")) })
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..25).map(|code| scope.spawn(move || execute(code))).collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        let wrong: Vec<_> =
            outcomes.filter_map(|outcome| outcome.unwrap_or_else(|error| Some(error.to_string()))).collect();
        if wrong.is_empty() { "won".to_owned() } else { wrong.join("; ") }
    })
}

/// Reads the list and the containers until the test sends a line.
fn look_on(root: &StateRoot) {
    let (told, enough) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = std::io::stdin().read_line(&mut String::new());
            let _ = told.send(());
        });
        let mut looks = 0;
        while enough.try_recv().is_err() {
            looks += 1;
            if let Some(nonsense) = look(root) {
                let _ = enough.recv();
                return caller::say(nonsense);
            }
        }
        caller::say(format_args!("looks: {looks}"));
    });
}

/// One look at everything there is: what makes no sense.
fn look(root: &StateRoot) -> Option<String> {
    let listed = match AnyContainer::list(root) {
        Ok(listed) => listed,
        Err(error) => return Some(format!("list: {error}")),
    };
    listed.into_iter().find_map(|entry| match entry {
        Listed::Damaged { id, error } => Some(format!("{id} is damaged: {error}")),
        Listed::Container(container) => {
            let id = container.id().to_string();
            let state = container.oci_state().map_err(|error| format!("{id}: {error}"));
            match (state, AnyContainer::load(root, &id)) {
                (Err(error), _) => Some(error),
                (Ok(state), _) if state.id != id => Some(format!("the state of {id} says {:?}", state.id)),
                (_, Err(error)) if *error.kind() != ErrorKind::NotFound => {
                    Some(format!("load {id}: {error}"))
                }
                _ => None,
            }
        }
    })
}
