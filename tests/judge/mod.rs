//! The kernel as the judge of everything netfilter: random rules are loaded into a namespace, captured with
//! the reference commands, and every packet is put both to the kernel and to the model.

pub mod cases;
pub mod clock;
pub mod environment;
pub mod exchange;
pub mod flow;
pub mod ipsets;
pub mod ipvs;
pub mod lab;
pub mod nftables;
pub mod ours;
pub mod random;
pub mod report;
pub mod rules;
pub mod run;
pub mod shrink;
pub mod sys;
pub mod wire;
pub mod xtables;
