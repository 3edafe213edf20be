//! Where in the unified hierarchy a container goes, on hosts laid out as people have them.

use super::*;

/// What its owner may do nothing with.
fn foreign(point: DelegationPoint) -> DelegationPoint {
    DelegationPoint { may_make: false, may_move: false, may_enable: false, ..point }
}

fn populated(point: DelegationPoint) -> DelegationPoint {
    DelegationPoint { populated: true, ..point }
}

/// The root of the hierarchy, as every user but root finds it.
fn foreign_top() -> DelegationPoint {
    foreign(DelegationPoint { kind: CgroupType::Root, populated: true, ..point("/cg", ALL, ALL) })
}

/// A host by the cgroups from the caller's to the top.
fn host(points: Vec<DelegationPoint>) -> CgroupLayout {
    let own = Path::new("/").join(points[0].dir.strip_prefix("/cg").unwrap());
    let unified = UnifiedHierarchy { mountpoint: "/cg".into(), own, bound_by_namespaces: false, points };
    CgroupLayout { v1: Vec::new(), unified: Some(unified) }
}

/// The same where the caller may make the named directory, below some other.
fn with_named(mut layout: CgroupLayout) -> CgroupLayout {
    layout.unified.as_mut().unwrap().points.last_mut().unwrap().may_make = true;
    layout
}

const ALL: &str = "cpuset cpu io memory pids";

fn cpu_and_pids() -> Resources {
    let cpu = CpuLimits { quota: Some(50_000), ..CpuLimits::default() };
    Resources { cpu, ..pids(9) }
}

/// The base with what is enabled there, and the leaf.
fn chosen(layout: &CgroupLayout, resources: &Resources, path: Option<&str>) -> Vec<String> {
    let plan = plan(resources, path.map(Path::new), id(), layout, true).unwrap();
    let lines = show(&plan);
    let lines = lines.into_iter().filter(|line| !line.starts_with("  ") || line.contains("subtree"));
    let leaf = lines.clone().position(|line| line.starts_with("Outer")).unwrap();
    lines.take(leaf + 1).collect()
}

/// Why limits of the processor and of processes are refused.
fn why(layout: &CgroupLayout, path: Option<&str>) -> String {
    let error = plan(&cpu_and_pids(), path.map(Path::new), id(), layout, true).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unsupported { .. }));
    error.to_string().split(" (").next().unwrap().to_owned()
}

/// `user@1000.service` is the user's, and has the controllers that systemd delegates.
fn user_service() -> Vec<DelegationPoint> {
    let user = "/cg/user.slice/user-1000.slice";
    vec![
        point(&format!("{user}/user@1000.service"), "cpu memory pids", "cpu memory pids"),
        foreign(point(user, "cpu memory pids", "cpu memory pids")),
        foreign(point("/cg/user.slice", ALL, "cpu memory pids")),
        foreign_top(),
    ]
}

#[test]
fn in_a_systemd_user_session_the_slice_of_the_callers_unit_is_used() {
    let user = "/cg/user.slice/user-1000.slice/user@1000.service";
    let mut points = vec![
        populated(point(&format!("{user}/app.slice/foo.scope"), "memory pids", "")),
        point(&format!("{user}/app.slice"), "cpu memory pids", "memory pids"),
    ];
    points.extend(user_service());
    let layout = host(points);
    assert_eq!(
        chosen(&layout, &pids(9), None),
        [format!("Base {user}/app.slice"), format!("Outer {user}/app.slice/cofferdam-job-1-0000f00d")]
    );
    let enabling = "  cgroup.subtree_control = +[\"cpu\", \"pids\"] ?[]".to_owned();
    assert_eq!(
        chosen(&layout, &cpu_and_pids(), None),
        [
            format!("Base {user}/app.slice"),
            enabling,
            format!("Outer {user}/app.slice/cofferdam-job-1-0000f00d")
        ]
    );
}

#[test]
fn a_controller_that_only_a_higher_cgroup_of_ours_has_leads_there() {
    let user = "/cg/user.slice/user-1000.slice/user@1000.service";
    let mut points = vec![
        populated(point(&format!("{user}/app.slice/foo.scope"), "pids", "")),
        point(&format!("{user}/app.slice"), "pids", "pids"),
    ];
    points.extend(user_service());
    assert_eq!(
        chosen(&host(points), &cpu_and_pids(), None),
        [format!("Base {user}"), format!("Outer {user}/cofferdam-job-1-0000f00d")]
    );
}

#[test]
fn a_login_session_beside_the_users_service_has_no_place() {
    let mut points = user_service();
    points[0] =
        foreign(populated(point("/cg/user.slice/user-1000.slice/session-1.scope", "cpu memory pids", "")));
    let layout = host(points);
    let own =
        "the caller may not write in \"/cg/user.slice/user-1000.slice/session-1.scope\" or any above it";
    assert_eq!(why(&layout, None), format!("linux.resources.cpu.quota: no cgroup can be made: {own}"));
    // Its own service is writable, but the way there leads through a cgroup that is not.
    let named = "/user.slice/user-1000.slice/user@1000.service/job";
    let reachable = with_named(layout);
    assert_eq!(
        why(&reachable, Some(named)),
        "linux.resources.cpu.quota: no cgroup can be made: the caller may not write in \
         \"/cg/user.slice/user-1000.slice/cgroup.procs\""
    );
    assert!(plan(&Resources::default(), None, id(), &reachable, true).unwrap().is_empty());
}

#[test]
fn in_a_delegated_subtree_a_caller_in_a_leaf_gets_a_sibling() {
    let own = populated(point("/cg/delegated/session", ALL, ""));
    let layout = host(vec![own, point("/cg/delegated", ALL, ALL), foreign_top()]);
    let sibling = ["Base /cg/delegated", "Outer /cg/delegated/cofferdam-job-1-0000f00d"];
    for resources in [&cpu_and_pids(), &Resources::default()] {
        assert_eq!(chosen(&layout, resources, None), sibling);
    }
    let named = chosen(&with_named(layout), &pids(9), Some("/delegated/pod"));
    assert_eq!(named.last().unwrap(), "Outer /cg/delegated/pod", "what is enabled above needs no permission");
}

#[test]
fn a_cgroup_with_processes_is_passed_over_for_one_without() {
    let layout = host(vec![
        populated(point("/cg/delegated/inner/session", ALL, "")),
        populated(point("/cg/delegated/inner", ALL, "")),
        point("/cg/delegated", ALL, ""),
        foreign_top(),
    ]);
    let enabling = "  cgroup.subtree_control = +[\"cpu\", \"pids\"] ?[]";
    let leaf = "Outer /cg/delegated/cofferdam-job-1-0000f00d";
    assert_eq!(chosen(&layout, &cpu_and_pids(), None), ["Base /cg/delegated", enabling, leaf]);
    assert_eq!(
        why(&with_named(layout), Some("/delegated/inner/job")),
        "linux.resources.cpu.quota: the cpu controller is not available: \"/cg/delegated/inner\" holds processes \
         itself, and so cannot enable it in cgroup.subtree_control"
    );
}

#[test]
fn what_the_caller_may_not_move_through_or_enable_in_is_no_place() {
    let own = || foreign(populated(point("/cg/delegated/session", ALL, "")));
    let nothing_enabled = || point("/cg/delegated", ALL, "");
    let fixed = DelegationPoint { may_enable: false, ..nothing_enabled() };
    assert_eq!(
        why(&host(vec![own(), fixed, foreign_top()]), None),
        "linux.resources.cpu.quota: the cpu controller is not available: the caller may not enable it in \
         cgroup.subtree_control of \"/cg/delegated\""
    );
    let threaded = DelegationPoint { kind: CgroupType::Threaded, ..nothing_enabled() };
    for closed in [DelegationPoint { may_move: false, ..nothing_enabled() }, threaded] {
        let why = why(&host(vec![own(), closed, foreign_top()]), None);
        assert!(
            why.contains("the caller may not write in \"/cg/delegated/session\" or any above it"),
            "{why}"
        );
    }
}

#[test]
fn the_full_root_of_a_cgroup_namespace_can_be_frozen_in_but_not_limited() {
    // Docker in a container: all that is seen is one cgroup with everything in it.
    let layout = host(vec![populated(point("/cg", ALL, ""))]);
    assert_eq!(
        why(&layout, None),
        "linux.resources.cpu.quota: the cpu controller is not available: \"/cg\" holds processes itself, and so \
         cannot enable it in cgroup.subtree_control"
    );
    assert_eq!(
        chosen(&layout, &Resources::default(), None),
        ["Base /cg", "Outer /cg/cofferdam-job-1-0000f00d"]
    );
    assert_eq!(why(&layout, Some("/job")), why(&layout, None));
}

#[test]
fn a_service_with_its_process_in_its_own_delegated_cgroup_can_be_frozen_in_but_not_limited() {
    let own = populated(point("/cg/system.slice/foo.service", ALL, ""));
    let layout = host(vec![own, foreign(point("/cg/system.slice", ALL, ALL)), foreign_top()]);
    let message = why(&layout, None);
    assert!(message.contains("\"/cg/system.slice/foo.service\" holds processes itself"), "{message}");
    assert_eq!(
        chosen(&layout, &Resources::default(), None),
        ["Base /cg/system.slice/foo.service", "Outer /cg/system.slice/foo.service/cofferdam-job-1-0000f00d"]
    );
}

#[test]
fn root_at_the_root_is_below_it_and_elsewhere_as_near_as_the_controllers_are() {
    let enabling = "  cgroup.subtree_control = +[\"cpu\", \"pids\"] ?[]";
    let at_the_top = ["Base /cg", enabling, "Outer /cg/cofferdam-job-1-0000f00d"];
    assert_eq!(chosen(&v2_host("/", ALL, ""), &cpu_and_pids(), None), at_the_top);
    let session = v2_host("/user/session", ALL, "pids");
    assert_eq!(chosen(&session, &cpu_and_pids(), None), at_the_top);
    assert_eq!(
        chosen(&session, &pids(9), None),
        ["Base /cg/user", "Outer /cg/user/cofferdam-job-1-0000f00d"]
    );
}

#[test]
fn a_controller_the_kernel_lacks_is_named_with_where_it_was_looked_for() {
    let layout = v2_host("/user/session", "memory pids", "memory pids");
    assert_eq!(
        why(&layout, None),
        "linux.resources.cpu.quota: the cpu controller is not available: cgroup v2 at \"/cg/user\" without it in \
         cgroup.controllers"
    );
}

#[test]
fn a_relative_path_is_below_the_same_place() {
    let own = populated(point("/cg/delegated/session", ALL, ""));
    let layout = host(vec![own, point("/cg/delegated", ALL, "memory pids"), foreign_top()]);
    let observing = "  cgroup.subtree_control = +[\"pids\"] ?[\"memory\"]";
    assert_eq!(
        chosen(&layout, &pids(9), Some("pod/app")),
        ["Base /cg/delegated", "Ancestor /cg/delegated/pod", observing, "Outer /cg/delegated/pod/app"]
    );
}
