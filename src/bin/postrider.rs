//! The operator's tool: arguments → cli.

use std::process::ExitCode;

use clap::Parser;
use postrider::boot::{self, Role};
use postrider::cli::context::{Access, Lent};
use postrider::cli::{self, Cli};

pub(crate) fn main() -> ExitCode {
    // Before the runtime: a wrong command line starts no threads.
    let cli = Cli::parse();
    let mut code = ExitCode::SUCCESS;
    let ended = boot::main(async {
        code = cli::run(cli, LENT).await;
        Ok(())
    });
    if ended == ExitCode::SUCCESS { code } else { ended }
}

const LENT: Lent = Lent {
    connect: |database, access| {
        Box::pin(async move {
            match access {
                Access::Operator => boot::connect(&database, Role::Operator).await,
                Access::OperatorWhenAsked => boot::connect_when_asked(&database, Role::Operator),
                Access::Owner => boot::connect(&database, Role::Owner).await,
            }
        })
    },
    shutdown: boot::shutdown_signal,
};
