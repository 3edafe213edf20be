//! The role of a container in a pod, from the annotations of a container engine (Kubernetes CRI).

use super::ValidSpec;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use std::collections::BTreeMap;

/// The role of a container in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PodRole {
    /// It gets a sandbox of its own, and is the root of a pod if others join it.
    Root,
    /// It joins the sandbox of the container with this id.
    Member(ContainerId),
}

/// The annotation keys of each engine: the kind of container, and the id of its sandbox.
const ENGINES: [(&str, &str); 2] = [
    // containerd
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
    // CRI-O
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),
];
const SANDBOX: &str = "sandbox";
const CONTAINER: &str = "container";

impl ValidSpec {
    /// Whether the annotations say that this is the pause container: the root container that an engine makes only to
    /// hold a pod.
    #[must_use]
    pub(crate) fn is_pause(annotations: &BTreeMap<String, String>) -> bool {
        ENGINES.iter().any(|(kind_key, _)| annotations.get(*kind_key).is_some_and(|kind| kind == SANDBOX))
    }

    /// The role that the annotations give. Without them a container is its own root.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::error::ErrorKind::InvalidSpec) naming the annotation: an unknown kind, a
    /// container without a sandbox, a sandbox that is no id.
    pub(crate) fn pod_role(annotations: &BTreeMap<String, String>) -> Result<PodRole> {
        for (kind_key, sandbox_key) in ENGINES {
            let field = |key: &str| format!("annotations[{key:?}]");
            let Some(kind) = annotations.get(kind_key) else { continue };
            return match (kind.as_str(), annotations.get(sandbox_key)) {
                (SANDBOX, _) => Ok(PodRole::Root),
                (CONTAINER, Some(sandbox)) => ContainerId::new(sandbox.clone())
                    .map(PodRole::Member)
                    .map_err(|error| Error::spec("config.json", field(sandbox_key), error)),
                (CONTAINER, None) => {
                    let error = Error::spec("config.json", field(sandbox_key), "is missing");
                    Err(error.hint("a container of a pod names its sandbox"))
                }
                _ => {
                    let problem = format!("{kind:?} is neither {SANDBOX:?} nor {CONTAINER:?}");
                    Err(Error::spec("config.json", field(kind_key), problem))
                }
            };
        }
        Ok(PodRole::Root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(annotations: &[(&str, &str)]) -> Result<PodRole> {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ValidSpec::pod_role(&annotations.collect())
    }

    #[test]
    fn the_keys_of_both_engines_are_known() {
        let pod = || PodRole::Member(ContainerId::new("pod").unwrap());
        assert_eq!(role(&[]).unwrap(), PodRole::Root);
        for (kind, sandbox) in ENGINES {
            assert_eq!(role(&[(kind, "sandbox"), (sandbox, "self")]).unwrap(), PodRole::Root);
            assert_eq!(role(&[(kind, "container"), (sandbox, "pod")]).unwrap(), pod());
        }
    }

    #[test]
    fn a_container_without_a_sandbox_is_an_error_that_names_the_key() {
        let problem = |annotations: &[(&str, &str)]| role(annotations).unwrap_err().to_string();
        let key = "io.kubernetes.cri.container-type";
        assert_eq!(
            problem(&[(key, "container")]),
            "config.json: annotations[\"io.kubernetes.cri.sandbox-id\"]: is missing \
             (a container of a pod names its sandbox)"
        );
        assert!(problem(&[(key, "pod")]).contains("\"pod\" is neither \"sandbox\" nor \"container\""));
        assert!(
            problem(&[(key, "container"), ("io.kubernetes.cri.sandbox-id", "../x")]).contains("sandbox-id")
        );
    }
}
