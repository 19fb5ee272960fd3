//! What each command does: open, ask the core, print.

#[cfg(feature = "cluster")]
mod collect;
pub mod complete;
mod completion;
mod explain;
mod flows;
mod load;
mod man;
mod node_collect;
mod redact;
mod schema;
mod show;
mod trace;
mod vip;

use crate::args::{Command, Output, SnapshotAction, Topic};
use crate::console::Console;
use crate::exit::{Exit, Failure};

pub use load::load;

/// Runs a command.
///
/// # Errors
/// When the question or the snapshot is wrong; the caller prints it and ends with 2.
pub fn run(command: Command, console: &Console) -> Result<Exit, Failure> {
    match command {
        Command::Trace(args) => match args.flows.clone() {
            Some(file) => flows::run(*args, &file, console),
            None => trace::run(*args, console),
        },
        Command::Explain(args) => match args.topic {
            Topic::Nodeport(args) => explain::nodeport(&args, console),
            Topic::Clusterip(args) => explain::clusterip(&args, console),
            Topic::KubeIpvs0(args) => explain::kube_ipvs0(&args, console),
        },
        Command::Vip(args) => vip::run(&args, console),
        Command::Snapshot(args) => match args.action {
            SnapshotAction::Redact { from, to } => redact::run(&from, &to, console),
            SnapshotAction::Show { path, output } => show::run(&path, output, console),
        },
        #[cfg(feature = "cluster")]
        Command::Collect(args) => collect::run(&args, console),
        #[cfg(feature = "cluster")]
        Command::Cleanup(args) => collect::cleanup(&args, console),
        #[cfg(feature = "cluster")]
        Command::Rbac { read_only } => collect::rbac(read_only, console),
        Command::AgentWait { seconds } => {
            std::thread::sleep(std::time::Duration::from_secs(seconds));
            Ok(Exit::Delivered)
        }
        Command::NodeCollect(args) => node_collect::run(&args, console),
        Command::Schema { of } => schema::run(of, console),
        Command::Completion { shell } => completion::run(shell, console),
        Command::Man { directory } => man::run(&directory, console),
        Command::Version => {
            console.print(&format!("kubectl-knet {}", env!("CARGO_PKG_VERSION")))?;
            Ok(Exit::Delivered)
        }
    }
}

/// Prints a document as JSON for a program, indented for a person who looks at it.
fn print_document(value: &serde_json::Value, output: Output, console: &Console) -> Result<(), Failure> {
    match output {
        Output::Yaml => console.print(&knet_explain::render::json::to_yaml(value)),
        Output::Json | Output::Text => console.print(&serde_json::to_string_pretty(value)?),
    }
}
