//! A ruleset as a value: it can be written down for the kernel's tools, and made smaller.

use std::fmt::Write;

use knet_snapshot::artifact::name;

use super::lab;

/// Which program loads a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Back {
    Ipset,
    Legacy,
    Legacy6,
    XtNft,
    XtNft6,
    Nft,
    Ipvs,
}

impl Back {
    fn argv(self) -> &'static [&'static str] {
        match self {
            Self::Ipset => &["ipset", "restore"],
            Self::Legacy => &["iptables-legacy-restore"],
            Self::Legacy6 => &["ip6tables-legacy-restore"],
            Self::XtNft => &["iptables-nft-restore"],
            Self::XtNft6 => &["ip6tables-nft-restore"],
            Self::Nft => &["nft", "-f", "-"],
            Self::Ipvs => &["ipvsadm", "-R"],
        }
    }

    /// Artifacts that change when a part is loaded.
    pub fn artifacts(self) -> &'static [&'static str] {
        match self {
            Self::Ipset => &[name::IPSET],
            Self::Legacy => &[name::IPTABLES_LEGACY],
            Self::Legacy6 => &[name::IP6TABLES_LEGACY],
            Self::XtNft => &[name::IPTABLES_NFT, name::NFT_JSON],
            Self::XtNft6 => &[name::IP6TABLES_NFT, name::NFT_JSON],
            Self::Nft => &[name::NFT_JSON, name::NFT_TEXT],
            Self::Ipvs => &[name::IPVS, name::IPVS_CONN],
        }
    }
}

/// A rule: what it asks, each piece removable, and what it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub matches: Vec<String>,
    pub action: String,
}

/// A chain. `head` is the policy (`ACCEPT`, `-`) for iptables, and the hook line (or nothing) for nft.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    pub name: String,
    pub head: String,
    pub rules: Vec<Rule>,
}

/// A table. `head` is `nat` for iptables and `ip knet` for nft.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub head: String,
    /// Sets and maps of nft, each as its whole text.
    pub objects: Vec<String>,
    pub chains: Vec<Chain>,
}

/// What one program loads.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub back: Back,
    /// Lines for ipset.
    pub lines: Vec<String>,
    pub tables: Vec<Table>,
}

/// A whole ruleset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ruleset {
    pub parts: Vec<Part>,
}

impl Part {
    /// The text for its program.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            let _ = writeln!(out, "{line}");
        }
        for table in &self.tables {
            match self.back {
                Back::Nft => nft(table, &mut out),
                _ => xt(table, &mut out),
            }
        }
        out
    }
}

fn xt(table: &Table, out: &mut String) {
    let _ = writeln!(out, "*{}", table.head);
    for chain in &table.chains {
        let _ = writeln!(out, ":{} {} [0:0]", chain.name, chain.head);
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            let _ = write!(out, "-A {}", chain.name);
            for m in &rule.matches {
                let _ = write!(out, " {m}");
            }
            let _ = writeln!(out, " {}", rule.action);
        }
    }
    out.push_str("COMMIT\n");
}

fn nft(table: &Table, out: &mut String) {
    let _ = writeln!(out, "table {} {{", table.head);
    for object in &table.objects {
        let _ = writeln!(out, "  {object}");
    }
    for chain in &table.chains {
        let _ = writeln!(out, "  chain {} {{\n    {}", chain.name, chain.head);
        for rule in &chain.rules {
            let _ = writeln!(out, "    {} {}", rule.matches.join(" "), rule.action);
        }
        out.push_str("  }\n");
    }
    out.push_str("}\n");
}

impl Ruleset {
    /// Artifacts that the ruleset touches.
    pub fn artifacts(&self) -> Vec<&'static str> {
        let mut all: Vec<_> = self
            .parts
            .iter()
            .flat_map(|p| p.back.artifacts().iter().copied())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// How many rules.
    pub fn rules(&self) -> usize {
        self.chains().map(|c| c.rules.len()).sum()
    }

    fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.parts.iter().flat_map(|p| &p.tables).flat_map(|t| &t.chains)
    }

    /// Ready for people: each part as it is loaded.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for part in &self.parts {
            let _ = writeln!(out, "# {}\n{}", part.back.argv().join(" "), part.text());
        }
        out
    }
}

/// What has to be emptied before the next ruleset.
#[derive(Debug, Default)]
pub struct Loaded {
    legacy: bool,
    legacy6: bool,
    tables: bool,
    sets: bool,
    services: bool,
}

impl Loaded {
    /// Something was loaded.
    pub fn note(&mut self, back: Back) {
        match back {
            Back::Legacy => self.legacy = true,
            Back::Legacy6 => self.legacy6 = true,
            Back::Ipset => self.sets = true,
            Back::Ipvs => self.services = true,
            Back::XtNft | Back::XtNft6 | Back::Nft => self.tables = true,
        }
    }

    /// Puts a ruleset in the place of what was loaded before.
    pub fn replace(&mut self, rules: &Ruleset) -> Result<(), String> {
        let next = |back: Back| rules.parts.iter().any(|p| p.back == back);
        if self.sets {
            // Old rules hold on to old sets.
            self.clear();
        }
        // A legacy part has every table, and takes the place of what was in it.
        self.clear_legacy(self.legacy && !next(Back::Legacy), self.legacy6 && !next(Back::Legacy6));
        if self.services {
            self.clear_services();
        }
        let native_only = next(Back::Nft) && !next(Back::XtNft) && !next(Back::XtNft6);
        if self.tables && !native_only {
            self.clear_tables();
        }
        for part in &rules.parts {
            let mut text = part.text();
            if part.back == Back::Nft && native_only {
                text.insert_str(0, "flush ruleset\n");
            }
            if matches!(part.back, Back::Legacy | Back::Legacy6) {
                let given = text.clone();
                let absent = |name: &str| !given.contains(&format!("*{name}\n"));
                for (table, hooks) in HOOKS.iter().filter(|(name, _)| absent(name)) {
                    empty(table, hooks, &mut text);
                }
            }
            self.note(part.back);
            let output = lab::run(part.back.argv(), &text);
            if !output.status.success() {
                let stderr = String::from_utf8_lossy(&output.stderr);
                return Err(format!("{:?}: {}", part.back, stderr.trim()));
            }
        }
        Ok(())
    }

    fn clear_tables(&mut self) {
        lab::must(&["nft", "flush", "ruleset"], "");
        self.tables = false;
    }

    fn clear_services(&mut self) {
        lab::must(&["ipvsadm", "-C"], "");
        self.services = false;
    }

    fn clear_legacy(&mut self, v4: bool, v6: bool) {
        if v4 {
            lab::must(&["iptables-legacy-restore"], &empty_legacy());
            self.legacy = false;
        }
        if v6 {
            lab::must(&["ip6tables-legacy-restore"], &empty_legacy());
            self.legacy6 = false;
        }
    }

    /// Empties everything that was loaded.
    pub fn clear(&mut self) {
        if self.tables {
            self.clear_tables();
        }
        if self.services {
            self.clear_services();
        }
        self.clear_legacy(self.legacy, self.legacy6);
        if self.sets {
            // nf_tables lets go of the sets of its rules a moment after they are gone.
            // A list of sets holds on to its members until it is flushed.
            lab::run(&["ipset", "flush"], "");
            for _ in 0..200 {
                if lab::run(&["ipset", "destroy"], "").status.success() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            self.sets = false;
        }
    }
}

/// Chains of the iptables tables.
pub const HOOKS: [(&str, &[&str]); 5] = [
    ("raw", &["PREROUTING", "OUTPUT"]),
    ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
    ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
    ("security", &["INPUT", "FORWARD", "OUTPUT"]),
];

/// An iptables table without rules.
fn empty(table: &str, hooks: &[&str], out: &mut String) {
    let _ = writeln!(out, "*{table}");
    for hook in hooks {
        let _ = writeln!(out, ":{hook} ACCEPT [0:0]");
    }
    out.push_str("COMMIT\n");
}

fn empty_legacy() -> String {
    let mut out = String::new();
    for (table, hooks) in HOOKS {
        empty(table, hooks, &mut out);
    }
    out
}
