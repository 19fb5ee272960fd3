//! `kubectl-knet`, which `kubectl` runs as `kubectl knet`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubectl_knet::run(std::env::args_os()).into()
}
