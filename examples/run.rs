fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match cofferdam::ContainerBuilder::new(format!("run-{}", std::process::id()))
        .args(args)
        .inherit_stdio()
        .run()
    {
        Ok(exit) => {
            eprintln!("{exit:?}");
            std::process::exit(exit.outcome.shell_code())
        }
        Err(e) => {
            eprintln!("run: {e}");
            std::process::exit(1)
        }
    }
}
