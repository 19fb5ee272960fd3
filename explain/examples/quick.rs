#![allow(warnings)]
use knet_dataplane::{trace::*, walk, world::World};
use knet_explain::*;
use std::io::{BufRead, Write};
use std::sync::Arc;
fn read(dir: &std::path::Path, root: &std::path::Path, out: &mut Vec<(String, knet_snapshot::store::Blob)>) {
    for e in std::fs::read_dir(dir).unwrap() {
        let p = e.unwrap().path();
        if p.is_dir() {
            read(&p, root, out)
        } else {
            out.push((
                p.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
                Arc::new(std::fs::read(&p).unwrap()),
            ))
        }
    }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let snap = a
        .iter()
        .position(|x| x == "--snapshot")
        .map(|i| a[i + 1].clone())
        .unwrap();
    let verbose = a.iter().any(|x| x == "-v");
    let mut files = vec![];
    let root = std::path::PathBuf::from(&snap);
    read(&root, &root, &mut files);
    let s = knet_snapshot::Snapshot::from_files(files).unwrap();
    let w = World::new(&s);
    let names = names::Names::new(&w);
    for l in std::io::stdin().lock().lines() {
        let l = l.unwrap();
        if l.trim().is_empty() {
            continue;
        }
        let v: serde_json::Value = serde_json::from_str(&l).unwrap();
        let q: query::Query = serde_json::from_str(&l).unwrap();
        let r = match resolve::resolve(
            resolve::Context {
                world: &w,
                names: &names,
            },
            &q,
        ) {
            Ok(r) => r,
            Err(e) => {
                println!(
                    "{}",
                    serde_json::json!({"id": v["id"], "error": e.to_string(), "branches": []})
                );
                continue;
            }
        };
        let mut bs = vec![];
        for st in &r.starts {
            let t = walk::trace(
                &w,
                st,
                if verbose { Detail::Decisions } else { Detail::Outcome },
                walk::Limits::default(),
            );
            if verbose {
                for b in &t.branches {
                    println!(
                        "=== {} {:?} {:?} sees {:?} {:?}",
                        b.at_least, b.end.outcome, b.end.reason, b.client_sees, b.end.packet
                    );
                    for c in &b.path {
                        println!("  choice {:?} {}/{}", c.fork, c.option, c.options)
                    }
                    let show = |hs: &[Hop]| {
                        for h in hs {
                            let sp = w.space(h.ns);
                            println!(
                                "  [{} {}] {:?} iif {:?} oif {:?}",
                                sp.name.node,
                                sp.name,
                                h.stage,
                                h.iif.map(|i| sp.links().name(i)),
                                h.oif.map(|i| sp.links().name(i))
                            );
                            for st in &h.steps {
                                println!(
                                    "      {:?}  {}",
                                    st.what,
                                    st.evidence
                                        .iter()
                                        .map(|e| e.text.to_string())
                                        .collect::<Vec<_>>()
                                        .join(" | ")
                                )
                            }
                        }
                    };
                    show(&b.hops);
                    if let Some(r) = &b.reply {
                        println!(
                            "  -- reply {:?} {:?} {:?} fits {}",
                            r.answer, r.end.outcome, r.end.reason, r.fits
                        );
                        show(&r.hops);
                    }
                    if let Some(f) = &b.followup {
                        println!("  -- followup {:?} {:?}", f.end.outcome, f.end.reason);
                        show(&f.hops);
                    }
                }
            }
            for b in &t.branches {
                let out = match b.end.outcome {
                    Outcome::Delivered => "delivered",
                    Outcome::Rejected => "rejected",
                    Outcome::Dropped => "dropped",
                    Outcome::NoRoute => "no-route",
                    Outcome::Blackholed => "blackholed",
                    Outcome::NeighbourFailed => "neighbour-failed",
                    Outcome::NoListener => "no-listener",
                    Outcome::Loop => "loop",
                    Outcome::LeavesCluster => "leaves-cluster",
                    Outcome::Unknown => "unknown",
                };
                let sees = format!("{:?}", b.client_sees).to_lowercase();
                let ns = b.end.place.ns.filter(|_| b.end.outcome != Outcome::LeavesCluster);
                let pod = ns.and_then(|n| {
                    let nm = w.space(n).name;
                    s.node(&nm.node)
                        .and_then(|x| x.netns_info.get())
                        .and_then(|v| v.iter().find(|i| Some(i.id.as_str()) == nm.id.as_deref()))
                        .and_then(|i| i.pod.as_ref())
                        .map(|p| format!("{}/{}", p.namespace, p.name))
                });
                bs.push(serde_json::json!({"probability": b.at_least.to_string(), "outcome": out, "client_sees": sees, "reason": format!("{:?}", b.end.reason), "at": {"node": ns.map(|n| w.space(n).name.node.clone()), "pod": pod}, "packet": {"src": b.end.packet.src, "dst": b.end.packet.dst, "dport": b.end.packet.dport().map(|p| p.value)}, "snat": b.snat, "dnat": b.dnat }));
            }
        }
        if !verbose {
            println!("{}", serde_json::json!({"id": v["id"], "branches": bs}));
        }
    }
}
