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
    Difference {
        runtime: "runc",
        case: "a_filter_refuses_what_a_runtime_may_want_itself",
        why: "It asks for its own working directory after it has loaded the filter, and fails where getcwd(2) does.",
    },
    Difference {
        runtime: "runc",
        case: "a_stream_that_is_null_is_the_containers_null",
        why: "It hands its own null, the host's, on to processes of exec.",
    },
    Difference {
        runtime: "crun",
        case: "a_stream_that_is_null_is_the_containers_null",
        why: "It hands its own null, the host's, on to processes of exec.",
    },
    Difference {
        runtime: "crun",
        case: "a_created_container_is_not_deleted",
        why: "It kills and deletes what was never started.",
    },
    Difference {
        runtime: "crun",
        case: "a_stopped_container_has_no_processes_to_list_or_to_signal",
        why: "Its ps of a container that has ended is an error.",
    },
    Difference {
        runtime: "crun",
        case: "capabilities_that_cannot_be_granted_are_a_warning",
        why: "It passes over them without a word.",
    },
    Difference {
        runtime: "crun",
        case: "a_capability_for_an_executed_process_is_in_three_sets",
        why: "It gives what exec names and none of the container's own.",
    },
    Difference {
        runtime: "crun",
        case: "a_program_may_be_executable_by_a_capability_alone",
        why: "It finds at start, and not at create, that a program cannot be executed.",
    },
    Difference { runtime: "crun", case: "an_empty_home_is_the_users", why: "An empty value stays." },
    Difference {
        runtime: "crun",
        case: "a_masked_path_is_absolute",
        why: "It takes relative paths for such below the root.",
    },
    Difference {
        runtime: "crun",
        case: "a_read_only_path_is_absolute",
        why: "It takes relative paths for such below the root.",
    },
    Difference {
        runtime: "crun",
        case: "recursive_options_reach_what_is_mounted_below",
        why: "1.8 sets rnoatime without the mask that mount_setattr(2) wants with it: EINVAL.",
    },
    Difference {
        runtime: "crun",
        case: "weights_of_block_devices_are_set",
        why: "1.8 knows blkio.weight on v1 alone, which kernels since 5.0 do not have.",
    },
    Difference {
        runtime: "crun",
        case: "a_size_that_no_huge_page_has_is_an_error",
        why: "It leaves the cgroups of what it could not create.",
    },
    Difference {
        runtime: "crun",
        case: "a_prestart_hook_that_fails_is_an_error_and_the_end",
        why: "It calls no poststop hooks for what it could not create.",
    },
    Difference {
        runtime: "crun",
        case: "hooks_are_given_the_status_of_their_time",
        why: "It tells prestart hooks that the container is created.",
    },
    Difference {
        runtime: "crun",
        case: "create_container_hooks_change_a_root_that_will_be_read_only",
        why: "It makes the root read-only before it calls them.",
    },
    Difference {
        runtime: "crun",
        case: "start_container_hooks_are_called_before_the_program_as_what_it_will_be",
        why: "It gives the container's /dev/null, as what standard input is, to the user of the process.",
    },
    Difference {
        runtime: "crun",
        case: "user_and_groups_are_the_processs",
        why: "It gives the container's /dev/null, as what standard input is, to the user of the process.",
    },
];

/// What the checker finds in the full configuration with a runtime, whatever the case.
pub(crate) struct Fault {
    pub(crate) runtime: &'static str,
    /// The beginning of the checker's words.
    pub(crate) says: &'static str,
    pub(crate) why: &'static str,
}

pub(crate) const FAULTS: &[Fault] = &[];
