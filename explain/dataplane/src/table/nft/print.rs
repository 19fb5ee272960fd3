//! Rules and elements as `nft -a list ruleset` would print them, for snapshots without `nft.txt`.

use std::fmt::Write as _;

use knet_snapshot::nft::{ChainDecl, Elem, Expr, Lookup, NatKind, Rule, Stateful, Stmt, Verdict};

/// A rule on one line, without its handle.
#[must_use]
pub fn rule(rule: &Rule) -> String {
    let mut out = String::new();
    for stmt in &rule.expr {
        push(&mut out, &statement(stmt));
    }
    if let Some(comment) = &rule.comment {
        push(&mut out, &format!("comment {comment:?}"));
    }
    out
}

/// A set or map element.
#[must_use]
pub fn element(expr: &Expr) -> String {
    match expr {
        Expr::List(pair) if pair.len() == 2 => format!("{} : {}", element(&pair[0]), element(&pair[1])),
        Expr::Elem(elem) => elem_text(elem),
        _ => expression(expr),
    }
}

/// A base chain's declaration.
#[must_use]
pub fn chain(decl: &ChainDecl) -> String {
    let ChainDecl {
        name,
        kind,
        hook,
        prio,
        policy,
        ..
    } = decl;
    let mut out = format!("chain {name}");
    if let (Some(kind), Some(hook)) = (kind, hook) {
        let _ = write!(
            out,
            " {{ type {kind} hook {hook} priority {};",
            prio.unwrap_or_default()
        );
        if let Some(policy) = policy {
            let _ = write!(out, " policy {policy};");
        }
        out.push_str(" }");
    }
    out
}

fn push(out: &mut String, word: &str) {
    if !out.is_empty() && !word.is_empty() {
        out.push(' ');
    }
    out.push_str(word);
}

fn elem_text(elem: &Elem) -> String {
    let Elem {
        val,
        timeout,
        expires,
        comment,
        stmts,
    } = elem;
    let mut out = expression(val);
    for (key, body) in stmts {
        push(&mut out, &other(key, body));
    }
    if let Some(t) = timeout {
        push(&mut out, &format!("timeout {t}s"));
    }
    if let Some(t) = expires {
        push(&mut out, &format!("expires {t}s"));
    }
    if let Some(comment) = comment {
        push(&mut out, &format!("comment {comment:?}"));
    }
    out
}

fn statement(stmt: &Stmt) -> String {
    match stmt {
        Stmt::Match(m) => {
            let op = match &*m.op {
                "==" if spelled_out(&m.left) && !matches!(m.right, Expr::Set(_)) => "== ".to_owned(),
                "==" | "in" => String::new(),
                "!" => "! ".to_owned(),
                op => format!("{op} "),
            };
            format!("{} {op}{}", expression(&m.left), operand(&m.left, &m.right))
        }
        Stmt::Verdict(v) => verdict(v),
        Stmt::Vmap(lookup) => format!("{} vmap {}", expression(&lookup.key), expression(&lookup.data)),
        Stmt::Mangle(m) => format!("{} set {}", expression(&m.key), operand(&m.key, &m.value)),
        Stmt::Nat(kind, nat) => {
            let mut out = match kind {
                NatKind::Snat => "snat",
                NatKind::Dnat => "dnat",
                NatKind::Masquerade => "masquerade",
                NatKind::Redirect => "redirect",
                NatKind::Tproxy => "tproxy",
            }
            .to_owned();
            if let Some(family) = &nat.family {
                push(&mut out, family);
            }
            if nat.type_flags.iter().any(|f| &**f == "prefix") {
                push(&mut out, "prefix");
            }
            match (&nat.addr, &nat.port) {
                (Some(addr), Some(port)) => {
                    let text = expression(addr);
                    let text = if text.contains(':') { format!("[{text}]") } else { text };
                    push(&mut out, &format!("to {text}:{}", expression(port)));
                }
                (Some(addr), None) => push(&mut out, &format!("to {}", expression(addr))),
                (None, Some(port)) => push(&mut out, &format!("to :{}", expression(port))),
                (None, None) => {}
            }
            let flags: Vec<&str> = nat.flags.iter().map(|f| &**f).filter(|f| *f != "netmap").collect();
            push(&mut out, &flags.join(","));
            out
        }
        Stmt::Reject(reject) => {
            let code = reject.expr.as_ref().map(expression).unwrap_or_default();
            match reject.kind.as_deref() {
                None => "reject".to_owned(),
                Some("tcp reset") => "reject with tcp reset".to_owned(),
                Some(kind) => format!("reject with {kind} {code}"),
            }
        }
        Stmt::Notrack => "notrack".to_owned(),
        Stmt::Counter(s) => stateful("counter", s),
        Stmt::Limit(s) => stateful("limit", s),
        Stmt::Quota(s) => stateful("quota", s),
        Stmt::Log(body) => other("log", body),
        Stmt::Queue(body) => other("queue", body),
        Stmt::Set(update) => {
            let mut elem = element(&update.elem);
            for stmt in &update.stmt {
                push(&mut elem, &statement(stmt));
            }
            if let Some(data) = &update.data {
                let _ = write!(elem, " : {}", expression(data));
            }
            format!("{} {} {{ {elem} }}", update.op, update.set)
        }
        Stmt::CtHelper(name) => format!("ct helper set {name}"),
        Stmt::Xt(kind, name) => format!("xt {kind} {name:?}"),
        Stmt::Other(key, body) => other(key, body),
    }
}

/// `nft` prints `==` where leaving it out would mean "one of these bits", and behind an operator.
fn spelled_out(left: &Expr) -> bool {
    match left {
        Expr::Binary(..) => true,
        Expr::Payload(p) => p.field.as_deref() == Some("flags"),
        Expr::Ct(ct) => matches!(&*ct.key, "state" | "status"),
        _ => false,
    }
}

/// A statement whose body the model keeps as text: the JSON reads well enough.
fn other(key: &str, body: &str) -> String {
    match body {
        "null" => key.to_owned(),
        _ => format!("{key} {body}"),
    }
}

fn stateful(key: &str, state: &Stateful) -> String {
    match state {
        Stateful::Map(lookup) => format!("{key} name {}", map(lookup)),
        Stateful::Text(text) => match serde_json::from_str::<serde_json::Value>(text) {
            Ok(serde_json::Value::String(name)) => format!("{key} name {name:?}"),
            Ok(serde_json::Value::Object(o)) if key == "counter" => {
                let n = |k: &str| o.get(k).and_then(serde_json::Value::as_u64).unwrap_or_default();
                format!("counter packets {} bytes {}", n("packets"), n("bytes"))
            }
            Ok(serde_json::Value::Object(o)) if key == "limit" => {
                let word = |k: &str| o.get(k).and_then(serde_json::Value::as_str).unwrap_or_default();
                let rate = o.get("rate").and_then(serde_json::Value::as_u64).unwrap_or_default();
                let over = if o.get("inv").is_some() { "over " } else { "" };
                let unit = if word("rate_unit").is_empty() {
                    String::new()
                } else {
                    format!(" {}", word("rate_unit"))
                };
                format!("limit rate {over}{rate}{unit}/{}", word("per"))
            }
            _ => other(key, text),
        },
    }
}

fn verdict(v: &Verdict) -> String {
    match v {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Queue => "queue".to_owned(),
        Verdict::Jump(to) => format!("jump {to}"),
        Verdict::Goto(to) => format!("goto {to}"),
    }
}

fn map(lookup: &Lookup) -> String {
    format!("{} map {}", expression(&lookup.key), expression(&lookup.data))
}

/// The right side of a comparison: marks are hexadecimal, names quoted, `true` is `exists`.
fn operand(left: &Expr, right: &Expr) -> String {
    let mark = match left {
        Expr::Meta(key) => &**key == "mark",
        Expr::Ct(key) => &*key.key == "mark",
        Expr::Binary(_, list) => match list.first() {
            Some(first) => return operand(first, right),
            None => false,
        },
        _ => false,
    };
    let quoted = match left {
        Expr::Meta(key) => key.ends_with("name") || matches!(&**key, "iif" | "oif" | "iifkind" | "oifkind"),
        Expr::Ct(key) => &*key.key == "helper",
        Expr::Fib(fib) => &*fib.result == "oifname",
        _ => false,
    };
    match right {
        Expr::Number(n) if mark => format!("{n:#010x}"),
        Expr::Text(text) if quoted && !text.starts_with('@') => format!("{text:?}"),
        Expr::Bool(b) => if *b { "exists" } else { "missing" }.to_owned(),
        Expr::Binary(op, list) if mark => {
            let words: Vec<String> = list.iter().map(|e| operand(left, e)).collect();
            words.join(&format!(" {} ", op.text()))
        }
        Expr::Set(elems) if quoted || mark => {
            let words: Vec<String> = elems.iter().map(|e| operand(left, e)).collect();
            format!("{{ {} }}", words.join(", "))
        }
        _ => expression(right),
    }
}

fn expression(expr: &Expr) -> String {
    let joined = |list: &[Expr], with: &str| list.iter().map(expression).collect::<Vec<_>>().join(with);
    match expr {
        Expr::Text(text) => text.to_string(),
        Expr::Number(n) => n.to_string(),
        Expr::Bool(b) => b.to_string(),
        Expr::List(list) => joined(list, ","),
        Expr::Concat(list) => joined(list, " . "),
        Expr::Set(elems) => format!("{{ {} }}", elems.iter().map(element).collect::<Vec<_>>().join(", ")),
        Expr::Prefix(addr, len) => format!("{}/{len}", expression(addr)),
        Expr::Range(ends) => format!("{}-{}", expression(&ends.0), expression(&ends.1)),
        Expr::Map(lookup) => map(lookup),
        Expr::Elem(elem) => elem_text(elem),
        Expr::Payload(p) => match (&p.protocol, &p.field, &p.base) {
            (Some(protocol), Some(field), _) => format!("{protocol} {field}"),
            (_, _, Some(base)) => format!("@{base},{},{}", p.offset, p.len),
            (Some(protocol), None, None) => protocol.to_string(),
            _ => "payload".to_owned(),
        },
        Expr::Option(o) => {
            let mut out = o.class.to_string();
            push(&mut out, o.name.as_deref().unwrap_or_default());
            push(&mut out, o.field.as_deref().unwrap_or_default());
            out
        }
        Expr::Meta(key) => match &**key {
            "mark" | "priority" | "l4proto" | "protocol" | "nfproto" | "length" | "random" | "secpath" | "ipsec"
            | "time" | "hour" | "day" | "iiftype" | "oiftype" | "iifkind" | "oifkind" | "pkttype" | "cpu"
            | "cgroup" | "rtclassid" | "skuid" | "skgid" | "nftrace" => {
                format!("meta {key}")
            }
            key => key.to_owned(),
        },
        Expr::Ct(ct) => {
            let mut out = "ct".to_owned();
            push(&mut out, ct.dir.as_deref().unwrap_or_default());
            push(&mut out, ct.family.as_deref().unwrap_or_default());
            push(&mut out, &ct.key);
            out
        }
        Expr::Rt(rt) => {
            let mut out = "rt".to_owned();
            push(&mut out, rt.family.as_deref().unwrap_or_default());
            push(&mut out, &rt.key);
            out
        }
        Expr::Fib(fib) => format!("fib {} {}", fib.flags.join(" . "), fib.result),
        Expr::Numgen(n) => format!("numgen {} mod {}{}", n.mode, n.modulus, offset(n.offset)),
        Expr::Jhash(h) => {
            let seed = h.seed.map(|s| format!(" seed {s:#x}")).unwrap_or_default();
            format!(
                "jhash {} mod {}{seed}{}",
                expression(&h.expr),
                h.modulus,
                offset(h.offset)
            )
        }
        Expr::Symhash(h) => format!("symhash mod {}{}", h.modulus, offset(h.offset)),
        Expr::Socket(key) => format!("socket {key}"),
        Expr::Binary(op, list) => {
            let words: Vec<String> = list
                .iter()
                .enumerate()
                .map(|(i, e)| binary_operand(i, e, list))
                .collect();
            words.join(&format!(" {} ", op.text()))
        }
        Expr::Verdict(v) => verdict(v),
        Expr::Unknown(key, body) => other(key, body),
    }
}

/// Masks are written as the left operand's type writes its values.
fn binary_operand(i: usize, expr: &Expr, list: &[Expr]) -> String {
    match (expr, list.first()) {
        (Expr::Binary(..), _) => format!("({})", expression(expr)),
        (Expr::Number(_), Some(first)) if i > 0 && !matches!(first, Expr::Binary(..)) => operand(first, expr),
        _ => expression(expr),
    }
}

fn offset(n: u32) -> String {
    if n == 0 { String::new() } else { format!(" offset {n}") }
}
