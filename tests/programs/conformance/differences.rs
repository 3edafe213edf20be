//! Where a runtime does not do as the specification says, and why.

/// A case that does not hold.
pub(crate) struct Difference {
    /// `ours`, or the name of the runtime's file.
    pub(crate) runtime: &'static str,
    pub(crate) case: &'static str,
    pub(crate) why: &'static str,
}

pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        runtime: "ours",
        case: "a_created_container_is_not_deleted",
        why: "Engines delete what was never started, without force, and expect it to be gone, as with runc.",
    },
    Difference {
        runtime: "runc",
        case: "a_created_container_is_not_deleted",
        why: "It kills and deletes what was never started.",
    },
    Difference {
        runtime: "ours",
        case: "the_pid_file_has_the_pid_of_the_state_and_nothing_else",
        why: "Engines wait for the process in the PID file as for their child: that is the sandbox, init's parent.",
    },
    Difference {
        runtime: "runc",
        case: "a_stream_that_is_null_is_the_containers_null",
        why: "exec hands on the null of its caller.",
    },
    Difference {
        runtime: "runc",
        case: "an_invalid_version_is_an_error",
        why: "It does not read ociVersion.",
    },
    Difference {
        runtime: "runc",
        case: "a_masked_path_is_absolute",
        why: "It passes over paths that are not there, and looks for relative ones from its own directory.",
    },
    Difference {
        runtime: "runc",
        case: "a_read_only_path_is_absolute",
        why: "It passes over paths that are not there, and looks for relative ones from its own directory.",
    },
    Difference {
        runtime: "runc",
        case: "a_root_is_shared_if_asked_for",
        why: "The mount that it moves to / is private: pivot_root(2) takes no shared one, and it shares none after.",
    },
    Difference {
        runtime: "runc",
        case: "a_root_is_unbindable_if_asked_for",
        why: "It makes the host's / unbindable in its namespace first, and the bind of the root then fails.",
    },
    Difference {
        runtime: "ours",
        case: "a_limit_of_tcp_buffers_is_set",
        why: "It is passed over, as runc does: \"NOT RECOMMENDED\".",
    },
    Difference {
        runtime: "runc",
        case: "a_limit_of_tcp_buffers_is_set",
        why: "It is passed over: \"NOT RECOMMENDED\".",
    },
    Difference {
        runtime: "runc",
        case: "poststart_hooks_are_called_after_the_program_was_started",
        why: "1.1.5 calls them at the end of create, when the program still waits.",
    },
    Difference {
        runtime: "runc",
        case: "hooks_are_given_the_status_of_their_time",
        why: "1.1.5 calls poststart hooks at the end of create, and tells them so.",
    },
    Difference {
        runtime: "runc",
        case: "a_poststart_hook_that_fails_changes_nothing",
        why: "It ends the container, as later versions of the specification demand (1.3).",
    },
    Difference {
        runtime: "runc",
        case: "a_poststop_hook_that_fails_changes_nothing",
        why: "It calls no further hook after one that failed.",
    },
];
