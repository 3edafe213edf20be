//! What the container layer has to do, operation by operation, and the tests that would fail without it.
//!
//! A test is named by its file, below `tests` or from `src` on, and its function. A case of `compile_fail` is a file.
//! The test below holds every name against the files, so that the tables cannot rot.
//!
//! | Operation | What holds it |
//! |---|---|
//! | create | `api/lifecycle::every_phase_is_what_its_type_says`, `api/lifecycle::a_program_that_is_missing_is_creates_error` |
//! | create: a taken id | `api/lifecycle::a_taken_id_is_refused_and_its_owner_is_unharmed`, `faults/races::of_sixteen_processes_that_create_one_id_one_wins` |
//! | create: a failure undoes everything | `faults/failing_calls::a_call_that_fails_fails_the_container_and_leaves_nothing`, `faults/killed_processes::a_helper_killed_at_any_call_fails_the_caller_and_leaves_nothing` |
//! | create: hooks, and the PID file last | `oci/hooks::every_kind_runs_once_at_its_time_in_its_namespaces_with_its_state`, `oci/hooks::the_pid_file_is_written_when_the_hooks_of_creation_have_run` |
//! | create: in a sandbox that stands | `api/pods::the_annotations_of_engines_make_members_too`, `api/pods::a_pod_that_is_not_there_is_an_error_that_leaves_nothing`, `src/spec/cri::a_container_without_a_sandbox_is_an_error_that_names_the_key` |
//! | create: console socket | `api/console::a_console_socket_gets_the_terminal_once`, `api/console::a_console_socket_without_a_listener_is_creates_error_and_leaves_nothing` |
//! | start | `api/lifecycle::a_program_whose_interpreter_is_missing_is_starts_error`, `faults/races::of_two_processes_that_start_one_container_one_wins`, `compile_fail/start.rs` |
//! | start: hooks | `oci/hooks::a_failing_hook_of_creation_leaves_nothing_and_runs_poststop`, `oci/hooks::a_failing_start_container_hook_ends_the_container`, `isolation/posture_of_hooks::a_hook_of_the_image_is_what_the_workload_is`, `oci/hooks::a_failing_poststart_hook_is_a_warning_before_1_3_and_an_error_since` |
//! | restore | `api/restore::a_counter_goes_on_counting_in_a_new_container`, `api/restore::a_family_of_processes_keeps_its_streams_and_ends_with_its_own_status`, `api/restore::an_unprivileged_user_restores_what_root_has_dumped`, `api/restore::a_container_without_a_user_namespace_is_restored`, `api/restore::the_limits_of_the_new_configuration_hold` |
//! | restore: what is refused | `api/restore::an_image_that_asks_for_more_is_refused_before_it_runs`, `api/restore::what_a_restored_container_cannot_have_is_refused_by_its_name` |
//! | restore: a process is killed meanwhile | `api/restore::whichever_process_is_killed_while_the_container_is_held_nothing_stays`, `api/restore::criu_killed_at_any_time_fails_the_creation_and_leaves_nothing`, `api/restore::a_caller_that_is_killed_leaves_nothing_of_a_container_that_is_held` |
//! | run | `api/rules::run_leaves_nothing_whatever_fails`, `api/lifecycle::the_exit_code_is_the_programs` |
//! | run: what is read and written | `api/output::a_workload_that_writes_for_ever_is_killed_at_the_limit_and_the_outcome_says_so`, `api/output::output_is_over_with_the_container_while_another_process_holds_the_pipe`, `api/output::given_bytes_are_the_input_however_many_they_are_and_however_few_are_read`, `api/output::run_gives_null_for_a_pipe_so_the_workload_does_not_block` |
//! | exec | `api/exec::a_process_shares_every_namespace_with_init`, `api/exec::the_first_process_is_pid_2_and_its_parent_is_not_inside`, `api/exec::a_hundred_processes_at_once_all_come_back`, `compile_fail/exec.rs` |
//! | exec: before start | `api/exec_before_start::a_process_shares_every_namespace_with_an_init_that_waits`, `api/exec_before_start::what_it_prepares_is_there_when_the_workload_starts`, `api/exec_before_start::its_end_is_no_end_of_the_container_and_the_containers_end_is_its`, `api/exec_before_start::a_created_container_that_is_deleted_takes_its_processes_along`, `isolation/posture_of_exec::a_process_before_the_start_sees_nothing_of_the_sandbox_in_init` |
//! | exec: what is asked for | `api/exec::user_directory_and_environment_are_the_containers_unless_changed`, `api/exec::further_descriptors_get_the_numbers_they_were_given`, `api/console::an_executed_process_has_a_terminal_and_job_control_too` |
//! | exec: its time and its offspring | `api/exec::a_timeout_ends_everything_that_the_process_started`, `api/exec::a_timeout_holds_when_no_caller_waits`, `api/exec::a_tree_is_killed_whole_when_it_is_asked_for`, `api/exec::too_much_output_ends_everything_that_wrote_it`, `cgroups/bombs::a_fork_bomb_that_was_executed_is_gone_with_its_timeout_and_nothing_else_is` |
//! | exec: its own limits | `cgroups/exec_limits::a_process_beyond_its_own_memory_is_out_of_memory_and_all_others_go_on`, `cgroups/exec_limits::what_a_process_with_limits_left_behind_ends_with_its_time`, `cgroups/exec_limits::a_limit_that_cannot_be_set_is_refused_by_its_method_before_anything_runs`, `cgroups/exec_limits::many_processes_with_and_without_limits_start_at_the_same_time` |
//! | exec: a cgroup that exists | `cgroups/exec_limits::a_process_joins_an_existing_cgroup_below_its_containers_and_no_other` |
//! | exec: its failure | `api/exec::what_cannot_be_executed_is_a_typed_error_and_leaves_no_process`, `api/exec::a_user_is_found_by_name_in_the_image_or_is_an_error` |
//! | the user by name | `api/user_name::the_workload_is_the_user_that_the_containers_own_files_name`, `api/user_name::an_exec_without_a_user_is_the_workloads`, `api/user_name::a_user_that_cannot_be_is_refused_by_the_name_of_the_method` |
//! | wait | `api/lifecycle::waiting_is_repeatable_from_any_handle_and_long_after_the_end`, `api/rules::a_wait_is_over_when_everything_has_died`, `api/rules::a_wait_blocks_no_other_operation`, `api/attachment::a_detached_container_outlives_a_killed_caller`, `api/output::a_piped_input_that_was_not_taken_is_closed_before_every_wait` |
//! | wait pid | `api/exec::a_process_can_be_waited_for_by_its_pid_once`, `api/any_container::a_loaded_container_is_executed_in_signalled_detached_and_stopped`, `compile_fail/wait_pid.rs` |
//! | signal container | `api/signals::sigterm_ends_an_init_that_never_heard_of_it`, `api/signals::every_process_gets_what_is_sent_to_all`, `api/signals::kill_to_all_returns_when_all_are_gone`, `api/records::what_has_ended_refuses_signals_by_its_phase` |
//! | signal container: orphans | `api/lifecycle::the_end_of_init_is_the_end_of_its_orphans`, `api/pods::orphans_of_a_member_that_ended_are_killed_with_it` |
//! | signal container: while frozen | `cgroups/pause::a_frozen_container_is_deleted_by_force_without_delay`, `cgroups/pause::a_paused_container_is_killed_stopped_and_dropped` |
//! | signal process, group | `api/signals::one_process_is_signalled_by_its_pid_inside`, `api/signals::a_process_group_is_signalled_and_no_other`, `api/pods::a_member_without_pids_of_its_own_is_seen_by_the_root_container`, `compile_fail/signal_processes.rs` |
//! | signal foreground | `api/console::a_signal_to_the_foreground_is_for_the_job_there_and_not_for_the_shell`, `api/signals::without_a_terminal_there_is_no_foreground` |
//! | forward signals | `api/forward_signals::each_signal_of_this_process_reaches_the_workload_and_the_dispositions_come_back`, `api/forward_signals::an_executed_process_gets_them_too_and_init_does_not`, `api/forward_signals::a_member_of_a_pod_gets_them_over_its_pods_connection`, `compile_fail/forward_signals.rs` |
//! | pause, resume | `cgroups/pause::a_paused_container_makes_no_progress_and_a_resumed_one_does`, `cgroups/pause::pausing_twice_and_resuming_twice_are_errors_that_change_nothing`, `cgroups/pause::members_of_a_pod_are_paused_one_by_one`, `src/cgroup/tests/freezing::what_is_frozen_makes_no_progress_until_it_is_thawed`, `cgroups/pause::a_container_without_limits_has_a_place_to_freeze_and_its_sandbox_is_not_in_it` |
//! | events, stats | `cgroups/stats::statistics_are_what_the_kernels_files_say`, `cgroups/stats::a_controller_the_container_is_not_in_is_absent_and_not_zero`, `cgroups/stats::statistics_are_there_from_create_to_the_end_and_in_no_other_phase`, `src/cgroup/tests::an_oom_kill_is_heard_when_it_happens`, `api/events::paused_resumed_and_the_end_are_told_in_order_to_all_who_listen`, `api/events::an_oom_kill_is_told_before_the_end`, `api/events::statistics_come_as_often_as_they_were_asked_for` |
//! | processes | `api/processes::a_table_has_the_shell_and_its_children_as_the_container_counts_them`, `api/processes::a_zombie_is_not_in_the_table`, `api/processes::the_terminal_and_the_session_are_the_containers`, `compile_fail/table_of_nothing.rs` |
//! | files | `api/files::every_call_works_while_created_and_running_and_from_any_handle`, `api/files::what_the_workload_sees_is_what_is_seen_here`, `api/files::no_path_leads_out_of_the_root`, `api/files::a_tree_survives_the_trip_in_and_out`, `compile_fail/look_into.rs` |
//! | files after the end | `api/kept_files::a_stopped_container_has_the_files_that_its_program_left`, `api/kept_files::the_layer_of_a_stopped_container_is_the_one_that_it_had`, `api/kept_files::files_that_were_not_kept_are_refused_with_the_way_to_keep_them`, `api/kept_files::nothing_is_kept_that_was_not_asked_for_or_whose_value_is_gone`, `api/kept_files::the_worker_of_a_stopped_container_ends_with_its_caller`, `api/kept_files::a_container_of_a_pod_and_one_without_a_user_namespace_keep_theirs` |
//! | files: what changed | `api/export::a_diff_names_what_was_added_modified_and_deleted`, `api/export::an_exported_layer_on_top_of_the_image_is_what_the_container_shows` |
//! | files: mounts into a container that exists | `api/hot_mounts::a_bind_appears_and_goes_again_while_the_container_runs`, `api/hot_mounts::only_what_was_mounted_this_way_is_unmounted`, `api/hot_mounts::links_of_the_image_are_followed_inside_it_and_not_into_proc`, `api/hot_mounts::bad_input_is_refused_by_the_name_of_the_field`, `compile_fail/mounts_after_the_end.rs` |
//! | state | `api/rules::the_state_has_all_that_oci_asks_for`, `api/lifecycle::the_pids_are_those_of_sandbox_and_workload` |
//! | update | `cgroups/update::new_limits_are_in_the_kernel_and_on_the_record_and_the_others_stay`, `cgroups/update::what_the_kernel_refuses_sets_everything_back`, `compile_fail/update.rs` |
//! | destroy | `api/records::delete_is_idempotent`, `api/records::delete_refuses_what_lives_unless_forced`, `faults/killed_processes::a_caller_killed_at_any_call_leaves_nothing_that_cannot_be_deleted`, `compile_fail/delete.rs` |
//! | destroy: the caller is killed | `api/attachment::a_killed_caller_takes_its_attached_container_along`, `api/attachment::a_killed_caller_leaves_no_cgroup`, `api/attachment::a_killed_caller_leaves_no_cgroup_of_a_pod`, `api/attachment::a_killed_caller_leaves_nothing_of_a_member_that_shares_its_processes`, `api/attachment::a_caller_killed_after_the_end_of_its_container_leaves_the_record_and_no_cgroup`, `api/attachment::a_caller_killed_after_the_end_of_its_member_leaves_no_cgroup_of_it_and_the_pod_alone`, `api/attachment::a_container_that_was_detached_before_or_after_its_end_keeps_its_cgroups` |
//! | destroy: hooks | `oci/hooks::racing_deletes_run_poststop_once`, `oci/hooks::failing_poststop_hooks_keep_nothing_from_being_deleted` |
//! | pools: a job | `api/pool::a_job_has_arguments_variables_streams_and_a_directory_of_its_own`, `api/pool::a_taken_container_is_like_any_other`, `api/pool::limits_and_time_are_the_templates_unless_the_job_has_a_time_of_its_own`, `api/pool::nothing_of_one_job_reaches_another` |
//! | pools: its failure | `api/pool::a_job_that_is_wrong_is_told_as_by_build_and_uses_up_no_member`, `api/pool::a_program_that_is_not_there_is_told_as_by_create_and_the_member_is_destroyed` |
//! | pools: members | `api/pool::a_member_that_was_changed_is_not_given_away`, `api/pool::a_pool_that_cannot_be_refilled_says_why_and_recovers`, `api/pool::a_killed_owner_leaves_nothing_and_the_next_pool_deletes_its_records`, `api/pool::a_dropped_pool_leaves_nothing_and_its_thread_takes_no_signals`, `api/pool::eight_threads_take_sixty_four_jobs`, `api/pool::members_are_forked_by_a_zygote_or_execute_an_installed_helper` |
//! | templates: a clone goes on | `api/template::a_shell_goes_on_in_each_clone_with_its_variables_and_a_code_of_its_own`, `api/template::programs_of_several_kinds_are_cloned_and_work_on`, `api/template::static_programs_of_both_c_libraries_are_cloned`, `api/template::a_line_makes_a_template_of_pid_1_too_and_the_clone_waits_for_its_input`, `api/template::a_clone_with_less_memory_than_the_template_runs_out_of_its_own` |
//! | templates: what is refused | `api/template::a_process_that_cannot_be_cloned_is_refused_by_name_and_goes_on`, `api/template::a_clone_whose_root_has_another_version_of_a_mapped_file_is_refused` |
//! | templates: taking one fails | `api/template::a_container_that_cannot_be_deleted_comes_back_together_with_the_template`, `api/template::a_process_that_does_not_stop_in_time_is_killed_and_the_sandbox_works_on`, `api/template::a_template_that_is_killed_while_it_is_taken_is_an_error_and_leaves_nothing` |
//! | load | `api/records::an_exact_id_wins_over_those_it_begins`, `api/records::a_beginning_that_is_unique_names_a_container`, `src/state/store/tests::looking_for_an_unknown_id_leaves_nothing` |
//! | load: what is dead | `api/rules::what_is_dead_is_stopped_also_if_it_was_paused`, `cgroups/pause::a_paused_container_whose_sandbox_is_killed_has_stopped`, `api/lifecycle::a_killed_sandbox_takes_everything_along_and_the_outcome_says_lost` |
//! | list | `api/records::the_list_has_every_container_in_its_phase`, `api/records::a_damaged_record_does_not_hide_its_neighbours`, `faults/damaged_files::a_damaged_record_hides_no_neighbour_and_is_deleted_by_name` |
//! | every operation, after the end | `api/after_the_end::every_operation_is_ended_and_says_how`, `api/after_the_end::every_operation_on_a_loaded_value_is_ended_and_says_how`, `api/after_the_end::a_member_of_a_pod_ends_by_itself_and_says_so`, `api/after_the_end::every_operation_says_that_a_killed_sandbox_is_lost` |
//! | every operation, whatever the phase | `api/any_container::what_would_not_compile_is_refused_by_name_and_changes_nothing`, `api/any_container::a_whole_life_can_be_led_from_phase_to_phase`, `api/any_container::a_transition_that_fails_gives_back_what_became_of_the_container`, `api/any_container::ending_what_is_stopped_succeeds`, `compile_fail/any_transitions.rs` |
//!
//! | Rule | What holds it |
//! |---|---|
//! | OOM score: of workload and gofer | `cgroups/oom_score::everything_of_a_single_container_has_its_score` |
//! | OOM score: of the sandbox | `cgroups/oom_score::the_sandbox_has_the_lowest_score_of_its_containers_as_they_come_and_go`, `cgroups/oom_score::a_pause_container_does_not_count_and_none_left_is_the_score_from_before` |
//! | Pids: the program is 2, and PID 1 collects orphans | `api/init::without_an_init_the_program_is_pid_1`, `api/init::orphans_of_many_execs_are_collected`, `api/init::a_program_that_kills_itself_dies_of_sigkill`, `isolation/posture_of_init::the_reaper_can_do_nothing_and_holds_nothing` |
//! | Pids: without an init the program is 1, helpers use up none | `api/exec::the_first_process_is_pid_2_and_its_parent_is_not_inside`, `api/lifecycle::the_pids_are_those_of_sandbox_and_workload` |
//! | Pids: a further container may share | `api/pods::a_member_without_pids_of_its_own_is_seen_by_the_root_container` |
//! | Ids: each container of root has a range of its own, until it ends | `isolation/own_ids::containers_of_root_share_no_id_whatever_their_state_roots`, `isolation/own_ids::the_range_of_a_killed_caller_is_free_again`, `isolation/own_ids::a_full_region_is_refused_by_name_and_a_race_for_a_range_has_two_winners`, `isolation/own_ids::the_containers_of_a_pod_have_one_range` |
//! | Ids: files have the same owners for every range | `isolation/own_ids::a_volume_has_the_same_owners_for_containers_with_different_ranges`, `isolation/own_ids::files_that_a_stopped_container_leaves_keep_their_owners` |
//! | Ids: no container uses up another's share of the kernel | `isolation/peer_inflight::a_container_that_fills_sockets_with_descriptors_disturbs_no_other`, `isolation/own_ids::a_default_container_cannot_use_up_what_its_caller_needs` |
//! | exec: a failure after its effect says so | `isolation/peer_inflight::an_exec_whose_process_cannot_be_handed_over_says_that_its_program_ran` |
//! | Namespaces missing from a configuration are the runtime's | `api/rules::a_namespace_that_a_configuration_leaves_out_is_the_runtimes`, `api/processes::a_container_that_shares_the_hosts_pids_lists_its_own_only` |
//! | Namespaces of the builder's default are all its own | `isolation/posture::every_namespace_is_the_containers_own` |
//! | Environment: the last duplicate wins | `src/spec/tests::the_last_of_two_variables_wins_at_the_place_of_the_first` |
//! | Environment: `HOME` is the image's | `src/sandbox/init/accounts::homes_are_absolute_and_the_first_line_counts`, `isolation/workload_view::the_environment_is_what_was_set_and_nothing_of_the_callers` |
//! | A missing working directory is created | `isolation/workload_view::a_missing_working_directory_is_made_where_the_root_can_be_written` |
//! | Mount points: missing, or a symlink | `isolation/posture_of_helpers::a_mount_destination_that_is_a_symlink_stays_inside`, `isolation/posture_of_helpers::a_rootfs_whose_mount_points_lead_out_touches_nothing_outside` |
//! | A bind by its options | `api/rules::a_mount_of_no_type_is_a_bind_if_its_options_say_so` |
//! | Search path | `api/rules::the_search_path_skips_directories_and_what_may_not_be_executed` |
//! | Rootfs: any directory | `api/rules::the_hosts_own_root_can_be_the_rootfs_read_only`, `api/lifecycle::a_program_runs_on_a_directory_of_its_own` |
//! | Rootfs: propagation | `api/rules::the_root_propagates_as_asked` |
//! | Pods: what is shared and what is not | `api/pods::members_share_network_ipc_uts_and_user_and_have_their_own_mounts_and_pids` |
//! | Pods: one's end is not the others' | `api/pods::each_member_lives_and_ends_by_itself`, `api/pods::a_member_loses_its_gofer_and_ends_and_the_others_do_not` |
//! | Pods: the root container's end is | `api/pods::the_end_of_the_root_container_is_the_end_of_all`, `api/lifecycle::a_killed_gofer_ends_its_container` |
//! | Pods: shared volumes | `api/pod_volumes::what_one_container_writes_the_others_see_and_it_outlives_each_of_them`, `api/pod_volumes::the_root_container_shares_too_and_names_are_different_volumes`, `api/pod_volumes::a_volume_is_its_pods_alone_and_goes_with_it` |
//! | Checkpoint: an image is whole, or there is none | `api/checkpoint/mod::a_snapshot_is_whole_and_the_container_goes_on`, `api/checkpoint/failures::a_caller_that_is_killed_leaves_no_image_or_a_whole_one`, `src/image/tests::a_file_that_is_not_as_it_was_written_is_named` |
//! | Checkpoint: it ends the container, and everyone learns why | `api/checkpoint/mod::a_checkpoint_ends_the_container_and_everyone_learns_why` |
//! | Checkpoint: what would be missing in an image is refused | `api/checkpoint/refusals::processes_that_its_program_did_not_start_are_named`, `api/checkpoint/refusals::connections_and_locks_are_named` |
//! | Ids | `src/id::ids_of_every_engine_are_accepted`, `src/id::ids_that_could_be_paths_or_options_are_refused` |
//! | Without cgroups | `cgroups/pause::a_container_can_do_without_a_cgroup`, `cgroups/limits::limits_that_cannot_be_set_are_refused_and_not_dropped`, `cgroups/stats::a_controller_the_container_is_not_in_is_absent_and_not_zero` |
//! | Without root | `isolation/posture::the_ids_are_mapped_to_none_of_the_hosts_users`, and every other test: the suite is also run as another user |
//! | Deleting what does not exist | `api/records::a_beginning_that_is_unique_names_a_container`, `api/records::delete_is_idempotent` |
//!
//! Not here, because it is not there: restore, for which there is no method to call; and the JSON
//! log lines of engines, which belong to a command line.

use std::collections::BTreeSet;
use std::path::Path;

/// The rows of the tables above: what is held, and the names in its second column.
fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let docs = include_str!("semantics.rs").lines().map_while(|line| line.strip_prefix("//!"));
    let rows = docs.filter_map(|line| line.trim().strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    rows.filter(|(_, held)| held.contains('`'))
        .map(|(what, held)| (what, held.split('`').skip(1).step_by(2).collect()))
        .collect()
}

/// Whether the file has this function, and cargo runs it as a test.
fn is_a_test(source: &str, name: &str) -> bool {
    let mut attributes = BTreeSet::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.insert(line);
        } else if line
            .strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
        {
            return attributes.contains("#[test]");
        } else {
            attributes.clear();
        }
    }
    false
}

#[test]
fn every_test_of_the_tables_exists() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = rows();
    assert!(rows.len() > 50, "the tables are read: {}", rows.len());
    let mut missing = Vec::new();
    for (what, names) in rows {
        assert!(!names.is_empty(), "{what}: held by nothing");
        for name in names {
            let exists = match name.rsplit_once("::") {
                None => name.starts_with("compile_fail/") && package.join("tests").join(name).is_file(),
                Some((file, function)) => {
                    let below =
                        if file.starts_with("src/") { package.to_owned() } else { package.join("tests") };
                    let source = std::fs::read_to_string(below.join(file).with_extension("rs"));
                    source.is_ok_and(|source| is_a_test(&source, function))
                }
            };
            if !exists {
                missing.push(format!("{what}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    let source =
        "#[test]\n#[expect(unsafe_code)]\nfn one() {\n}\nfn helper() {}\n#[test]\nfn one_more() {}\n";
    assert!(is_a_test(source, "one") && is_a_test(source, "one_more"));
    assert!(!is_a_test(source, "helper") && !is_a_test(source, "on") && !is_a_test(source, "two"));
}
