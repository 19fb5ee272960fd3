//! The program that is sent to the nodes.

use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The Linux build to send.
///
/// # Errors
/// When this is none and no other was given.
pub(super) fn program(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    match asked {
        Some(path) => Ok(path.to_owned()),
        None if cfg!(target_os = "linux") => Ok(std::env::current_exe()?),
        None => Err(Failure::message("this program does not run on the cluster's nodes")
            .hint("pass --agent-binary with its Linux build, or --agent image")),
    }
}

/// `e_machine` of a 64-bit ELF file, by Kubernetes' name for it.
pub(super) fn elf_machine(bytes: &[u8]) -> Option<&'static str> {
    let machine = bytes.get(18..20).filter(|_| bytes.starts_with(b"\x7fELF"))?;
    match u16::from_le_bytes([machine[0], machine[1]]) {
        62 => Some("amd64"),
        183 => Some("arm64"),
        243 => Some("riscv64"),
        21 => Some("ppc64le"),
        22 => Some("s390x"),
        _ => None,
    }
}

/// A program header of type `PT_INTERP`.
pub(super) fn needs_loader(bytes: &[u8]) -> bool {
    let number = |at: usize, len: usize| {
        let raw = bytes.get(at..at + len)?;
        raw.iter()
            .rev()
            .try_fold(0_usize, |sum, b| sum.checked_mul(256)?.checked_add(usize::from(*b)))
    };
    let (Some(start), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return false;
    };
    const PT_INTERP: usize = 3;
    (0..count).any(|i| {
        let at = i.checked_mul(size).and_then(|at| at.checked_add(start));
        at.is_some_and(|at| at < bytes.len() && number(at, 4) == Some(PT_INTERP))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_program_is_known_for_what_it_is() {
        let ours = std::fs::read(std::env::current_exe().expect("a test knows its file")).expect("it can be read");
        let name = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            _ => return,
        };
        assert_eq!(elf_machine(&ours), Some(name));
        assert!(needs_loader(&ours) != cfg!(target_feature = "crt-static"));
        assert_eq!(elf_machine(b"#!/bin/sh\n"), None);
        for cut in [0, 10, 19, 40, 60, 70] {
            let _ = (elf_machine(&ours[..cut]), needs_loader(&ours[..cut]));
        }
    }
}
