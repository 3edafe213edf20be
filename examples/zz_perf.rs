use cofferdam::*;
use std::time::Instant;
fn main() {
    let n: usize = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(100);
    let mut t: [Vec<f64>; 6] = Default::default();
    for i in 0..n {
        let s = Instant::now();
        let b = ContainerBuilder::new(format!("perf-{}-{i}", std::process::id()))
            .rootfs(Rootfs::directory("/tmp/bbroot"))
            .args(["/bin/true"])
            .build()
            .unwrap();
        let a1 = Instant::now();
        let c = b.create().unwrap();
        let a2 = Instant::now();
        let r = c.start().unwrap();
        let a3 = Instant::now();
        let st = r.wait_stopped().unwrap();
        let a4 = Instant::now();
        st.delete().unwrap();
        let a5 = Instant::now();
        for (k, d) in [a1 - s, a2 - a1, a3 - a2, a4 - a3, a5 - a4, a5 - s].into_iter().enumerate() {
            t[k].push(d.as_secs_f64() * 1e3);
        }
    }
    for (k, name) in ["build", "create", "start", "wait", "delete", "total"].iter().enumerate() {
        t[k].sort_by(f64::total_cmp);
        println!("{name:7} p50 {:.3} p95 {:.3} min {:.3}", t[k][n / 2], t[k][n * 95 / 100], t[k][0]);
    }
}
