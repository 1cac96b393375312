//! Arguments → logging → run.

use std::process::ExitCode;

use clap::Parser as _;
use withheld::cli::{self, Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    withheld::telemetry::start(matches!(cli.command, Command::Serve(_)));
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let code = runtime.block_on(cli::run(cli));
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            code
        }
        Err(error) => {
            eprintln!("error: the operating system refuses threads: {error}");
            ExitCode::FAILURE
        }
    }
}
