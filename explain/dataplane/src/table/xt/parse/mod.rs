//! One `-A` line to one [`Rule`].
//!
//! Whatever cannot be read becomes `Match::Unknown` or `Target::Unknown` with its text, and nothing else
//! of the rule is lost.

mod meta;
mod nat;
mod options;
mod proto;
mod state;

mod target;
#[cfg(test)]
mod tests;
mod value;

use knet_snapshot::Row;
use knet_snapshot::id::Family;

use super::matches::Match;
use super::rule::{ChainRef, Dev, Head, Proto, Rule};
use super::target::Target;
use super::token::{Token, tokens};

/// One option with what belongs to it.
struct Opt<'t> {
    name: &'t str,
    neg: bool,
    args: Vec<&'t str>,
}

impl Opt<'_> {
    fn arg(&self) -> Option<&str> {
        self.args.first().copied()
    }
}

/// A match or target with its options.
struct Group<'t> {
    module: &'t str,
    opts: Vec<Opt<'t>>,
}

impl Group<'_> {
    /// The text of the module as a save would print it, for what cannot be read.
    fn text(&self, flag: &str) -> Box<str> {
        let mut out = format!("{flag} {}", self.module);
        for opt in &self.opts {
            if opt.neg {
                out.push_str(" !");
            }
            out.push_str(" --");
            out.push_str(opt.name);
            for arg in &opt.args {
                out.push(' ');
                out.push_str(arg);
            }
        }
        out.into_boxed_str()
    }

    fn has(&self, name: &str) -> bool {
        self.opts.iter().any(|o| o.name == name)
    }
}

/// Reads the rule that starts at `-A` (or `-I`); `at` is where it stands. `chain` finds a chain of the
/// same table by name.
#[must_use]
pub fn rule(line: &str, at: Row, family: Family, chain: &dyn Fn(&str) -> Option<ChainRef>) -> Rule {
    let tokens = tokens(line);
    let mut raw = Raw {
        family,
        ..Raw::default()
    };
    raw.read(&tokens);
    let Raw {
        head,
        groups,
        jump,
        goto,
        strays,
        ..
    } = raw;
    let mut matches = Vec::new();
    for group in &groups {
        if group.module != "comment" {
            matches.push(one_match(group, family).unwrap_or_else(|| Match::Unknown(group.text("-m"))));
        }
    }
    matches.extend(strays.into_iter().map(|s| Match::Unknown(s.into_boxed_str())));
    let target = match jump {
        None => Target::None,
        Some(group) => match chain(group.module) {
            Some(to) if goto => Target::Goto(to),
            Some(to) => Target::Jump(to),
            None if goto => Target::Unknown(group.text("-g")),
            None => target::target(&group, family).unwrap_or_else(|| Target::Unknown(group.text("-j"))),
        },
    };
    Rule {
        at,
        head,
        matches: matches.into_boxed_slice(),
        target,
    }
}

fn one_match(group: &Group<'_>, family: Family) -> Option<Match> {
    // Every option must be one the module has, or the match is not understood.
    if group
        .opts
        .iter()
        .any(|o| options::arity(group.module, o.name) != Some(o.args.len()))
    {
        return None;
    }
    proto::matches(group, family)
        .or_else(|| state::matches(group, family))
        .or_else(|| meta::matches(group, family))
}

/// The line, cut into header, matches and target.
struct Raw<'t> {
    family: Family,
    head: Head,
    groups: Vec<Group<'t>>,
    jump: Option<Group<'t>>,
    goto: bool,
    /// Options that belong to nothing, and header options that cannot be read.
    strays: Vec<String>,
}

impl Default for Raw<'_> {
    fn default() -> Self {
        Self {
            family: Family::V4,
            head: Head::default(),
            groups: Vec::new(),
            jump: None,
            goto: false,
            strays: Vec::new(),
        }
    }
}

impl<'t> Raw<'t> {
    fn read(&mut self, tokens: &'t [Token<'t>]) {
        let mut neg = false;
        let mut i = 0;
        while let Some(token) = tokens.get(i) {
            let text: &'t str = &token.text;
            i += 1;
            if token.quoted {
                self.strays.push(text.to_owned());
                continue;
            }
            if text == "!" {
                neg = true;
                continue;
            }
            if let Some(kind) = self.head_option(text) {
                // The old spelling: `-s ! 10.0.0.0/8`.
                if tokens.get(i).is_some_and(|t| !t.quoted && t.text == "!") {
                    neg = true;
                    i += 1;
                }
                let arg: &'t str = tokens.get(i).map_or("", |t| &t.text);
                i += usize::from(kind.takes_word());
                if kind == HeadOption::Counters {
                    i += 1;
                }
                if self.take_head(kind, arg, neg).is_none() {
                    self.strays.push(format!("{}{text} {arg}", if neg { "! " } else { "" }));
                }
            } else if let Some(name) = text.strip_prefix("--") {
                i += self.take_option(name, neg, &tokens[i..]);
            } else {
                self.strays.push(text.to_owned());
            }
            neg = false;
        }
    }

    fn head_option(&self, text: &str) -> Option<HeadOption> {
        use HeadOption as H;
        // `-m policy --proto esp` is not the header's --proto.
        if let Some(long) = text.strip_prefix("--")
            && let Some(group) = self.current()
            && options::arity(group.module, long).is_some()
        {
            return None;
        }
        Some(match text {
            "-A" | "--append" | "-I" | "--insert" => H::Chain,
            "-s" | "--source" | "--src" => H::Source,
            "-d" | "--destination" | "--dst" => H::Destination,
            "-i" | "--in-interface" => H::In,
            "-o" | "--out-interface" => H::Out,
            "-p" | "--protocol" | "--proto" => H::Protocol,
            "-f" | "--fragments" => H::Fragment,
            "-m" | "--match" => H::Match,
            "-j" | "--jump" => H::Jump,
            "-g" | "--goto" => H::Goto,
            "-c" | "--set-counters" => H::Counters,
            "-4" | "-6" | "--ipv4" | "--ipv6" => H::FamilyFlag,
            _ => return None,
        })
    }

    fn current(&self) -> Option<&Group<'t>> {
        self.jump.as_ref().or(self.groups.last())
    }

    fn take_head(&mut self, kind: HeadOption, arg: &'t str, neg: bool) -> Option<()> {
        use HeadOption as H;
        match kind {
            H::Chain | H::Counters | H::FamilyFlag => {}
            H::Source => self.head.src = Some(value::net(arg, self.family, neg)?),
            H::Destination => self.head.dst = Some(value::net(arg, self.family, neg)?),
            H::In => self.head.iif = Some(dev(arg, neg)?),
            H::Out => self.head.oif = Some(dev(arg, neg)?),
            H::Protocol => {
                let number = value::protocol(arg)?;
                if number == 0 && neg {
                    return None;
                }
                self.head.proto = (number != 0).then_some(Proto { number, invert: neg });
            }
            H::Fragment => self.head.fragment = Some(neg),
            H::Match => self.groups.push(Group {
                module: arg,
                opts: Vec::new(),
            }),
            H::Jump | H::Goto => {
                self.jump = Some(Group {
                    module: arg,
                    opts: Vec::new(),
                });
                self.goto = kind == H::Goto;
            }
        }
        Some(())
    }

    /// Gives an option to the module it belongs to; returns how many of the following words it took.
    fn take_option(&mut self, name: &'t str, mut neg: bool, rest: &'t [Token<'t>]) -> usize {
        let mut used = 0;
        let owner = self.owner(name);
        // The old spelling: `--dport ! 80`. After an option without a value it belongs to the next option.
        let takes_value = !matches!(owner, Some((_, Some(0))));
        if takes_value && rest.first().is_some_and(|t| !t.quoted && t.text == "!") {
            neg = true;
            used = 1;
        }
        let words = match owner {
            Some((_, Some(n))) => n,
            // Of an unknown module: all words up to the next option.
            _ => rest[used..]
                .iter()
                .take_while(|t| t.quoted || !(t.text.starts_with('-') || t.text == "!"))
                .count(),
        };
        let args: Vec<&'t str> = rest[used..].iter().take(words).map(|t| &*t.text).collect();
        used += args.len();
        let opt = Opt { name, neg, args };
        match owner {
            Some((Owner::Target, _)) => {
                if let Some(group) = &mut self.jump {
                    group.opts.push(opt);
                }
            }
            Some((Owner::Match(i), _)) => self.groups[i].opts.push(opt),
            Some((Owner::Implicit(module), _)) => self.groups.push(Group {
                module,
                opts: vec![opt],
            }),
            None => {
                let stray = Group {
                    module: "",
                    opts: vec![opt],
                };
                self.strays.push(stray.text("").trim_start().to_owned());
            }
        }
        used
    }

    /// Who has this option: the target, the latest match, an earlier one, the match that `-p` implies, or
    /// the nearest module this model does not know.
    fn owner(&self, name: &str) -> Option<(Owner, Option<usize>)> {
        let known = |module: &str| options::arity(module, name);
        if let Some(target) = &self.jump {
            if let Some(n) = known(target.module) {
                return Some((Owner::Target, Some(n)));
            }
            if !options::is_known(target.module) {
                return Some((Owner::Target, None));
            }
        }
        for (i, group) in self.groups.iter().enumerate().rev() {
            if let Some(n) = known(group.module) {
                return Some((Owner::Match(i), Some(n)));
            }
        }
        if let Some(module) = self.implied()
            && let Some(n) = known(module)
        {
            return Some((Owner::Implicit(module), Some(n)));
        }
        let unknown = self.groups.iter().rposition(|g| !options::is_known(g.module));
        unknown.map(|i| (Owner::Match(i), None))
    }

    fn implied(&self) -> Option<&'static str> {
        let proto = self.head.proto.filter(|p| !p.invert)?;
        Some(match proto.number {
            1 => "icmp",
            6 => "tcp",
            17 => "udp",
            33 => "dccp",
            50 => "esp",
            51 => "ah",
            58 => "icmp6",
            132 => "sctp",
            135 => "mh",
            136 => "udplite",
            _ => return None,
        })
    }
}

#[derive(Clone, Copy)]
enum Owner {
    Target,
    Match(usize),
    Implicit(&'static str),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HeadOption {
    Chain,
    Source,
    Destination,
    In,
    Out,
    Protocol,
    Fragment,
    Match,
    Jump,
    Goto,
    Counters,
    FamilyFlag,
}

impl HeadOption {
    fn takes_word(self) -> bool {
        !matches!(self, Self::Fragment | Self::FamilyFlag)
    }
}

/// A device pattern. Interface names have at most 15 bytes.
fn dev(arg: &str, invert: bool) -> Option<Dev> {
    if arg.is_empty() {
        return None;
    }
    let (name, prefix) = arg.strip_suffix('+').map_or((arg, false), |n| (n, true));
    Some(Dev {
        name: name.into(),
        prefix,
        invert,
    })
}
