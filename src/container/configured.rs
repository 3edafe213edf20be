//! The configuration of a container, parsed and validated once for each value of the container.

use crate::error::Result;
use crate::spec::{Origin, ValidSpec};
use crate::state::{RawSpec, Record};
use oci_spec::runtime::Process;
use std::sync::{Arc, Mutex, PoisonError};

/// What later operations need of the configuration: the defaults of an executed process, and the rules for checking it.
#[derive(Debug)]
pub(super) struct Configured {
    /// The text that was parsed. Compared with the record's, because an update writes another configuration there.
    raw: RawSpec,
    /// `process`, as in the configuration.
    pub(super) process: Process,
    pub(super) valid: ValidSpec,
}

/// The last one, shared by all threads that use the container.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Option<Arc<Configured>>>);

impl Cache {
    /// The configuration in `record`.
    pub(super) fn of(&self, record: &Record) -> Result<Arc<Configured>> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Comparing the text costs much less than parsing it.
        if let Some(known) = cached.as_ref().filter(|known| known.raw == record.spec) {
            return Ok(Arc::clone(known));
        }
        #[cfg(test)]
        tests::PARSES.with(|parses| parses.set(parses.get() + 1));
        let spec = record.spec.parse()?;
        let valid = ValidSpec::new(&spec, Some(&record.bundle), Origin::Record)?;
        let process = spec.process().clone().unwrap_or_default();
        let raw = record.spec.clone();
        Ok(Arc::clone(cached.insert(Arc::new(Configured { raw, process, valid }))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Exec;
    use crate::container::handle::Handle;
    use crate::id::ContainerId;
    use crate::state::StateRoot;
    use std::cell::Cell;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::time::Duration;

    thread_local! {
        /// How often this thread parsed a configuration.
        pub(super) static PARSES: Cell<u32> = const { Cell::new(0) };
    }

    fn spec(resources: &str) -> RawSpec {
        let text = format!(
            r#"{{"ociVersion": "1.0.2", "root": {{"path": "rootfs"}},
                "process": {{"args": ["sh"], "cwd": "/srv", "env": ["A=1"], "user": {{"uid": 0, "gid": 0}}}},
                "linux": {{"namespaces": [{{"type": "mount"}}, {{"type": "pid"}}], "resources": {resources}}}}}"#
        );
        RawSpec::new(text).unwrap()
    }

    fn handle(root: StateRoot) -> Handle {
        let id = ContainerId::new("parsed").unwrap();
        let record = Record::new(id.clone(), id, "/bundle".into(), spec("{}"));
        Handle::new(root, record, None)
    }

    #[test]
    fn a_configuration_is_parsed_once_however_often_it_is_executed_in() {
        let directory = tempfile::tempdir().unwrap();
        let mut handle = handle(StateRoot::open(directory.path().join("state")).unwrap());
        let parses = || PARSES.with(Cell::get);
        for _ in 0..3 {
            let (plan, _) = Exec::new(["true"]).env("B", "2").plan(&handle).unwrap();
            assert_eq!((plan.process.argv, plan.process.cwd), (vec![c"true".into()], "/srv".into()));
            assert_eq!(plan.process.envp, [c"A=1".to_owned(), c"B=2".to_owned()]);
        }
        assert_eq!(parses(), 1);
        handle.record.spec = spec(r#"{"pids": {"limit": 5}}"#);
        for _ in 0..3 {
            assert_eq!(handle.configured().unwrap().valid.resources.pids_limit, Some(5));
        }
        assert_eq!(parses(), 2, "an update is seen");
    }

    #[test]
    fn a_limit_of_zero_is_refused_by_the_name_of_the_method() {
        let directory = tempfile::tempdir().unwrap();
        let handle = handle(StateRoot::open(directory.path().join("state")).unwrap());
        let refused = |exec: Exec| exec.plan(&handle).unwrap_err().to_string();
        let timeout = refused(Exec::new(["true"]).timeout(Duration::ZERO));
        assert_eq!(timeout, "Exec::timeout: must not be 0 (to set no limit, leave the call out)");
        let output = refused(Exec::new(["true"]).output_limit(0));
        assert_eq!(
            output,
            "Exec::output_limit: must not be 0 (to collect nothing, use `exec` without pipes)"
        );
    }

    #[test]
    fn arguments_variables_and_the_working_directory_need_not_be_utf_8() {
        let directory = tempfile::tempdir().unwrap();
        let handle = handle(StateRoot::open(directory.path().join("state")).unwrap());
        let odd = OsStr::from_bytes(b"\xff");
        let exec = Exec::new([odd]).env("C", odd).env_clear().env("B", odd);
        let (plan, _) = exec.cwd(Path::new("/").join(odd)).plan(&handle).unwrap();
        let sealed = crate::helper::spawn::seal_plan(&plan).unwrap();
        assert_eq!(crate::helper::spawn::read_plan::<crate::plan::ExecPlan>(sealed).unwrap(), plan);
        let words = |words: Vec<std::ffi::CString>| words.into_iter().map(Vec::from).collect::<Vec<_>>();
        assert_eq!(words(plan.process.argv), [b"\xff"]);
        assert_eq!(words(plan.process.envp), [b"B=\xff"]);
        let error = Exec::new(["a\0"]).plan(&handle).unwrap_err();
        assert_eq!(error.to_string(), "exec: process.args[0]: contains a NUL byte");
        let error = Exec::new(["a"]).env("", "b").plan(&handle).unwrap_err();
        assert_eq!(error.to_string(), "exec: process.env[1]: has an empty name (write NAME=value)");
    }
}
