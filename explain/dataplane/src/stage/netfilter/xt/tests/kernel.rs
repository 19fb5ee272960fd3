//! What a kernel, or its source, told us.

use std::fmt::Write as _;

use super::*;

/// xt_recent.c: what this walk put on a list is on it; what it took off is not.
#[test]
fn recent_remembers_its_own_walk() {
    let body = ":SVC - [0:0]\n:SEP - [0:0]\n-A PREROUTING -j SVC\n-A SVC -m recent --rcheck --seconds 10800 --reap --name A --rsource -j SEP\n\
                -A SVC -j SEP\n-A SEP -p tcp -m recent --set --name A --rsource -m tcp -j MARK --set-mark 1\n\
                -A SEP -m recent --rcheck --seconds 1 --name A --rsource -j MARK --set-mark 2\n\
                -A SEP -m recent --remove --name A --rsource -j MARK --set-mark 3\n-A SEP -m recent ! --rcheck --name A --rsource -j ACCEPT\n-A SEP -j DROP\n";
    let snapshot = snapshot(&[("iptables-nft.save", &save("nat", body))]);
    let world = World::new(&snapshot);
    let all = every(&world.spaces()[0], "nat", Hook::Prerouting, &pod(), Detail::Decisions);
    assert_eq!(all.leaves.len(), 2, "only the first look at the list is open");
    for leaf in &all.leaves {
        assert_eq!((leaf.value.verdict.clone(), leaf.value.skb.mark), (Verdict::Accept, 3));
    }
}

/// xt_conntrack.c: without a connection only the state counts, whatever else the rule asks.
#[test]
fn invalid_matches_whatever_else_is_asked() {
    let mut skb = pod();
    skb.ct = Ct::Invalid;
    let body = "-A FORWARD -m conntrack --ctorigdst 9.9.9.9 -j DROP\n-A FORWARD -m connmark ! --mark 0x1 -j DROP\n\
                -A FORWARD -m conntrack --ctstate INVALID --ctorigdst 9.9.9.9 -j ACCEPT\n-A FORWARD -j DROP\n";
    assert_eq!(forward("filter", body, &skb).verdict, Verdict::Accept);
    // Before conntrack runs there is no connection either.
    let body = "-A PREROUTING -m state --state INVALID -j DROP\n";
    assert_eq!(
        at(Hook::Prerouting, "raw", body, &pod()).verdict,
        Verdict::Drop { policy: false }
    );
}

/// xt_owner.c: a packet without a socket matches only when everything asked is inverted.
#[test]
fn forwarded_packets_have_no_owner() {
    let body = "-A POSTROUTING -m owner --uid-owner 0 -j DROP\n-A POSTROUTING ! -o lo -m owner ! --uid-owner 1337 ! --gid-owner 1337 -j MARK --set-mark 1\n";
    let run = at(Hook::Postrouting, "mangle", body, &pod());
    assert_eq!((run.verdict, run.skb.mark), (Verdict::Accept, 1));
    let mut local = pod();
    local.sender = Some(Sender {
        uid: Some(0),
        gid: Some(0),
        socket: true,
        control: false,
    });
    assert_eq!(
        at(Hook::Postrouting, "mangle", body, &local).verdict,
        Verdict::Drop { policy: false }
    );
}

/// A port that NAT draws is nowhere in particular.
#[test]
fn a_drawn_port_is_unknown() {
    let mut skb = pod();
    skb.packet.set_sport(crate::packet::Port {
        value: 40000,
        drawn: true,
    });
    let body = "-A FORWARD -p tcp -m tcp --sport 0:65535 -j MARK --set-mark 1\n-A FORWARD -p tcp -m tcp --sport 40000 -j DROP\n";
    let snapshot = snapshot(&[("iptables-nft.save", &save("filter", body))]);
    let world = World::new(&snapshot);
    let all = every(&world.spaces()[0], "filter", Hook::Forward, &skb, Detail::Decisions);
    assert_eq!(all.leaves.len(), 2);
    assert!(all.leaves.iter().all(|l| l.value.skb.mark == 1));
}

/// A certain no anywhere in a rule beats a match that cannot be decided before it.
#[test]
fn a_certain_no_wins() {
    let body = "-A FORWARD -m time --timestart 08:00 -p tcp -m tcp --dport 443 -j DROP\n-A FORWARD -m string --string x --algo bm -m mark --mark 0x1 -j DROP\n";
    assert_eq!(forward("filter", body, &pod()).verdict, Verdict::Accept);
}

/// The index of a long chain finds what a linear search finds, in the same order.
#[test]
fn a_long_chain_is_the_same_with_its_index() {
    let mut body = String::from(":SVC - [0:0]\n-A FORWARD -j SVC\n");
    for i in 0..300u32 {
        let (b, c) = (i / 100, i % 100);
        let line = match i % 7 {
            0 => format!(
                "-A SVC -d 10.244.2.6/32 -p tcp -m tcp --dport {} -j MARK --xor-mark {i}",
                78 + i % 5
            ),
            1 => format!("-A SVC -s 10.244.1.5/32 -d 10.244.2.6/32 -j MARK --set-xmark {i}/0xf0"),
            2 => format!("-A SVC ! -d 10.244.2.6/32 -j DROP -m comment --comment {i}"),
            3 => "-A SVC -d 10.244.0.0/16 -j MARK --or-mark 0x1000".to_owned(),
            4 => format!("-A SVC -s 10.244.1.5/32 ! -d 10.96.{b}.{c}/32 -j MARK --xor-mark 0x10000"),
            _ => format!("-A SVC -d 10.96.{b}.{c}/32 -j DROP"),
        };
        writeln!(body, "{line}").expect("writing to a string");
    }
    body += "-A SVC -d 10.244.2.6/32 -j ACCEPT\n-A SVC -j DROP\n";
    let snapshot = snapshot(&[("iptables-nft.save", &save("filter", &body))]);
    let world = World::new(&snapshot);
    let ns = &world.spaces()[0];
    let indexed = every(ns, "filter", Hook::Forward, &pod(), Detail::Decisions)
        .leaves
        .remove(0)
        .value;
    let linear = every(ns, "filter", Hook::Forward, &pod(), Detail::Full)
        .leaves
        .remove(0)
        .value;
    assert_eq!(indexed.verdict, Verdict::Accept);
    assert_eq!(indexed.skb, linear.skb);
    assert_eq!(indexed.rules(), linear.rules());
    assert!(linear.steps.len() > 300, "at full detail every rule is shown");
}

/// A save cut off in the middle of a table: the last chain may have had more rules.
#[test]
fn a_cut_save_is_not_the_end_of_the_chain() {
    let cut = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\n-A FORWARD -p udp -j DROP\n-A FORW";
    let snapshot = snapshot(&[("iptables-nft.save", cut)]);
    let world = World::new(&snapshot);
    let all = every(&world.spaces()[0], "filter", Hook::Forward, &pod(), Detail::Decisions);
    let verdicts: Vec<_> = all.leaves.iter().map(|l| l.value.verdict.clone()).collect();
    assert_eq!(verdicts, [Verdict::Accept, Verdict::NotCaptured]);
    let all = every(&world.spaces()[0], "filter", Hook::Input, &pod(), Detail::Decisions);
    assert_eq!(all.leaves.len(), 1, "INPUT stands before the cut");
}

/// A save damaged into a loop ends.
#[test]
fn a_loop_ends() {
    let body = ":A - [0:0]\n:B - [0:0]\n-A FORWARD -g A\n-A A -g B\n-A B -g A\n";
    assert_eq!(forward("filter", body, &pod()).verdict, Verdict::Unknown);
}

/// CONNMARK moves marks between packet and connection.
#[test]
fn connmark_saves_and_restores() {
    let body = "-A FORWARD -j MARK --set-mark 0x12345678\n-A FORWARD -j CONNMARK --save-mark --nfmask 0xffff0000 --ctmask 0xffff0000\n\
                -A FORWARD -j CONNMARK --set-xmark 0xff/0xff\n-A FORWARD -j MARK --set-mark 0\n-A FORWARD -j CONNMARK --restore-mark --nfmask 0xff00ffff --ctmask 0x00ff00ff\n";
    let run = forward("mangle", body, &pod());
    assert_eq!(run.ct.entry(run.skb.ct).and_then(|e| e.mark), Some(0x1234_00ff));
    assert_eq!(run.skb.mark, 0x0034_00ff);
}

/// REDIRECT: to the first address of the input device, and to loopback from OUTPUT.
#[test]
fn redirect_depends_on_the_hook() {
    let mut skb = pod();
    skb.iif = Some(IfIndex(2));
    let body = "-A PREROUTING -p tcp -j REDIRECT --to-ports 15001\n-A OUTPUT -p tcp -j REDIRECT --to-ports 15001\n";
    let to = |run: &Run| {
        run.ct
            .entry(run.skb.ct)
            .map(|e| (e.reply.src.to_string(), e.reply.sport.value))
    };
    assert_eq!(
        to(&at(Hook::Prerouting, "nat", body, &skb)),
        Some(("192.168.0.7".to_owned(), 15001))
    );
    assert_eq!(
        to(&at(Hook::Output, "nat", body, &skb)),
        Some(("127.0.0.1".to_owned(), 15001))
    );
    // A device without an address: "if (!newdst.ip) return NF_DROP".
    assert_eq!(
        at(Hook::Prerouting, "nat", body, &pod()).verdict,
        Verdict::Drop { policy: false }
    );
}

/// A reply is ESTABLISHED in the reply direction.
#[test]
fn replies_are_established() {
    let snapshot = snapshot(&[(
        "iptables-nft.save",
        &save(
            "filter",
            "-A FORWARD -m conntrack --ctdir REPLY --ctstate ESTABLISHED --ctstatus SEEN_REPLY -j ACCEPT\n-A FORWARD -j DROP\n",
        ),
    )]);
    let world = World::new(&snapshot);
    let ns = &world.spaces()[0];
    let (mut ct, mut oracle) = (Conntrack::with_captured(false), Oracle::default());
    let mut first = pod();
    let _ = ct.track(ns, &mut first);
    ct.confirm(&first);
    let mut back = tcp(POD.1, POD.0, 40000);
    back.packet.l4 = L4::Tcp {
        sport: 80.into(),
        dport: 40000.into(),
        flags: tcp_flag::SYN | tcp_flag::ACK,
    };
    let _ = ct.track(ns, &mut back);
    assert!(matches!(
        back.ct,
        Ct::Of {
            dir: Dir::Reply,
            state: CtState::Established,
            ..
        }
    ));
    let run = one(ns, "filter", Hook::Forward, back, ct, &mut oracle, Detail::Decisions);
    assert_eq!(run.verdict, Verdict::Accept);
    let What::Rule { verdict, .. } = &run.steps[0].what else {
        panic!("a rule")
    };
    assert_eq!(*verdict, Some(RuleVerdict::Accept));
}
