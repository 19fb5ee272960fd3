//! Faults of other simulators, each numbered as in the list of them we keep.

use super::*;

/// b.1.1: stock kube-proxy does not drop healthy traffic between pods.
#[test]
fn a_new_connection_is_not_invalid() {
    let run = forward(
        "filter",
        ":FORWARD DROP [0:0]\n:KUBE-FORWARD - [0:0]\n-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP\n\
         -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -s 10.244.0.0/16 -j ACCEPT\n",
        &pod(),
    );
    assert_eq!(run.verdict, Verdict::Accept);
    assert_eq!(run.rules().len(), 2, "the jump and the accept of the pod network");
}

/// b.1.2: RELATED,ESTABLISHED does not hide a drop that follows it.
#[test]
fn established_does_not_match_a_first_packet() {
    let body = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -j DROP\n";
    assert_eq!(forward("filter", body, &pod()).verdict, Verdict::Drop { policy: false });
}

/// b.1.3: RETURN from a chain two deep goes on in the chain that jumped.
#[test]
fn return_resumes_in_the_calling_chain() {
    let body = ":A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -j B\n-A A -j ACCEPT\n-A B -j RETURN\n-A B -j DROP\n";
    let run = forward("filter", body, &pod());
    assert_eq!(run.verdict, Verdict::Accept);
    assert_eq!(
        run.rules(),
        ["-A FORWARD -j A", "-A A -j B", "-A B -j RETURN", "-A A -j ACCEPT"]
    );
}

/// b.1.4: what a goto leads to returns to the caller of the chain that jumped.
#[test]
fn goto_does_not_come_back() {
    let body =
        ":A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A FORWARD -j ACCEPT\n-A A -g B\n-A A -j DROP\n-A B -p udp -j DROP\n";
    assert_eq!(forward("filter", body, &pod()).verdict, Verdict::Accept);
    // From a base chain there is nobody to return to: the policy decides.
    let body = ":FORWARD DROP [0:0]\n:B - [0:0]\n-A FORWARD -g B\n-A FORWARD -j ACCEPT\n-A B -j RETURN\n";
    assert_eq!(forward("filter", body, &pod()).verdict, Verdict::Drop { policy: true });
}

/// b.1.5: REJECT rejects, and says how.
#[test]
fn reject_says_how() {
    let body = "-A FORWARD -p tcp -m tcp --dport 80 -j REJECT --reject-with tcp-reset\n";
    assert_eq!(
        forward("filter", body, &pod()).verdict,
        Verdict::Reject(Reject::TcpReset)
    );
    let body = "-A FORWARD -j REJECT\n";
    assert_eq!(
        forward("filter", body, &pod()).verdict,
        Verdict::Reject(Reject::IcmpPortUnreachable)
    );
}

/// b.1.6: MASQUERADE translates to the output device's address on the next hop's subnet.
#[test]
fn masquerade_takes_the_address_of_the_next_hops_subnet() {
    let mut skb = pod();
    skb.nexthop = Some("10.0.0.1".parse().expect("an address"));
    let run = at(
        Hook::Postrouting,
        "nat",
        "-A POSTROUTING -j MASQUERADE --random-fully\n",
        &skb,
    );
    let entry = run.ct.entry(run.skb.ct).expect("a connection");
    assert_eq!(run.verdict, Verdict::Accept);
    assert!(entry.snat && entry.reply.dport.drawn);
    assert_eq!(entry.reply.dst.to_string(), "10.0.0.7");
}

/// b.1.7: MARK is not terminal and marks; DNAT translates; NOTRACK untracks.
#[test]
fn targets_do_what_they_say() {
    let run = at(
        Hook::Prerouting,
        "nat",
        ":KUBE-MARK-MASQ - [0:0]\n:KUBE-SEP - [0:0]\n-A PREROUTING -d 10.244.2.6/32 -p tcp -m tcp --dport 80 -j KUBE-SEP\n\
         -A KUBE-SEP -j KUBE-MARK-MASQ\n-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
         -A KUBE-SEP -p tcp -m tcp -j DNAT --to-destination 10.244.3.9:8080\n",
        &pod(),
    );
    assert_eq!((run.verdict.clone(), run.skb.mark), (Verdict::Accept, 0x4000));
    let reply = run.ct.entry(run.skb.ct).expect("a connection").reply;
    assert_eq!(
        (reply.src.to_string(), reply.sport.value),
        ("10.244.3.9".to_owned(), 8080)
    );

    let run = at(
        Hook::Prerouting,
        "raw",
        "-A PREROUTING -j CT --notrack\n-A PREROUTING -j NOTRACK\n",
        &pod(),
    );
    assert_eq!((run.verdict, run.skb.ct), (Verdict::Accept, Ct::Untracked));
}

/// b.1.8: `cali+` is a prefix, and `+` alone is every device and none.
#[test]
fn a_plus_is_a_prefix() {
    let body = "-A FORWARD -i cali+ -o + ! -o cali+ -j DROP\n";
    assert_eq!(forward("filter", body, &pod()).verdict, Verdict::Drop { policy: false });
}

/// b.1.9: `-o` matches once the packet is routed and never before.
#[test]
fn the_output_device_is_known_after_routing() {
    assert_eq!(
        forward("filter", "-A FORWARD -o eth0 -j DROP\n", &pod()).verdict,
        Verdict::Drop { policy: false }
    );
    let run = at(Hook::Prerouting, "mangle", "-A PREROUTING ! -o eth0 -j DROP\n", &pod());
    assert_eq!(run.verdict, Verdict::Drop { policy: false }, "no device is not eth0");
}

/// b.1.10: after DNAT the rules see the backend's port, and `--ctorigdstport` the service's.
#[test]
fn the_original_port_is_kept_in_the_connection() {
    let snapshot = snapshot(&[(
        "iptables-nft.save",
        &save(
            "filter",
            "-A FORWARD -p tcp -m tcp --dport 80 -j DROP\n-A FORWARD -m conntrack --ctorigdst 10.96.0.1 --ctorigdstport 80 --ctstate NEW,DNAT -j ACCEPT\n-A FORWARD -j DROP\n",
        ),
    )]);
    let world = World::new(&snapshot);
    let ns = &world.spaces()[0];
    let (mut ct, mut oracle) = (Conntrack::with_captured(false), Oracle::default());
    let mut skb = tcp(POD.0, "10.96.0.1", 80);
    let _ = ct.track(ns, &mut skb);
    let range = crate::stage::conntrack::NatRange {
        addrs: Some((
            "10.244.2.6".parse().expect("an address"),
            "10.244.2.6".parse().expect("an address"),
        )),
        ports: Some((8080, 8080)),
        ..Default::default()
    };
    crate::stage::conntrack::setup_nat(
        ns,
        &skb,
        &mut ct,
        &mut oracle,
        crate::stage::conntrack::Manip::Dst,
        &range,
    );
    skb.packet.dst = "10.244.2.6".parse().expect("an address");
    skb.packet.set_dport(8080.into());
    let run = one(ns, "filter", Hook::Forward, skb, ct, &mut oracle, Detail::Decisions);
    assert_eq!(run.verdict, Verdict::Accept);
}

/// b.1.11: marks are 32 bits without a sign.
#[test]
fn marks_use_bit_31() {
    let mut skb = pod();
    skb.mark = 0x8000_0000;
    let body = "-A FORWARD -m mark --mark 0x80000000/0xffff0000 -j MARK --set-xmark 0xc0000000/0xffff0000\n";
    assert_eq!(forward("mangle", body, &skb).skb.mark, 0xc000_0000);
}

/// b.1.12: statistic is a choice with the exact share kube-proxy means; physdev and socket are decided.
#[test]
fn chance_is_exact() {
    let body = "-A PREROUTING -m statistic --mode random --probability 0.33333333349 -j DNAT --to-destination 10.0.0.1\n\
                -A PREROUTING -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.0.0.2\n\
                -A PREROUTING -j DNAT --to-destination 10.0.0.3\n";
    let snapshot = snapshot(&[("iptables-nft.save", &save("nat", body))]);
    let world = World::new(&snapshot);
    let all = every(&world.spaces()[0], "nat", Hook::Prerouting, &pod(), Detail::Decisions);
    let shares: Vec<_> = all
        .leaves
        .iter()
        .map(|leaf| {
            leaf.path
                .iter()
                .map(|t| t.weights.as_ref().expect("chance")[t.option].clone())
                .product::<crate::choice::Ratio>()
        })
        .collect();
    assert_eq!(shares, vec![ratio(1, 3); 3]);

    let mut bridged = pod();
    (bridged.physin, bridged.physout) = (Some(IfIndex(3)), Some(IfIndex(2)));
    let body = "-A FORWARD -m physdev --physdev-in cali+ --physdev-is-bridged -j DROP\n";
    assert_eq!(
        forward("filter", body, &bridged).verdict,
        Verdict::Drop { policy: false }
    );
    assert_eq!(forward("filter", body, &pod()).verdict, Verdict::Accept);
    let body = "-A FORWARD -m physdev ! --physdev-is-in ! --physdev-is-bridged -j DROP\n";
    assert_eq!(forward("filter", body, &pod()).verdict, Verdict::Drop { policy: false });
}

/// b.1.13: a table without the hook's chain has none at that hook.
#[test]
fn a_table_may_lack_a_chain() {
    let snapshot = snapshot(&[("iptables-nft.save", "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n")]);
    let world = World::new(&snapshot);
    let xt = world.spaces()[0].xt();
    assert!(xt.base_chains(Family::V4, Hook::Input).is_empty());
    assert_eq!(xt.base_chains(Family::V4, Hook::Prerouting).len(), 1);
}

/// b.1.14: a jump to a chain the save does not hold is a question, not a crash.
#[test]
fn a_missing_chain_is_unknown() {
    let snapshot = snapshot(&[(
        "iptables-nft.save",
        &save("filter", "-A FORWARD -j GONE\n-A FORWARD -j DROP\n"),
    )]);
    let world = World::new(&snapshot);
    let all = every(&world.spaces()[0], "filter", Hook::Forward, &pod(), Detail::Decisions);
    let verdicts: Vec<_> = all.leaves.iter().map(|l| l.value.verdict.clone()).collect();
    assert_eq!(verdicts, [Verdict::Drop { policy: false }, Verdict::Unknown]);
}

/// b.2.15: a match nobody knows splits the walk where the packet meets it, and nowhere else.
#[test]
fn one_unknown_match_does_not_cost_the_ruleset() {
    let body = "-A FORWARD -p udp -m zorch --level 9 -j DROP\n-A FORWARD -p tcp -m zorch ! --level 9 extra -m tcp --dport 81 -j DROP\n\
                -A FORWARD -m limit --limit 5/min -j NFLOG --nflog-prefix \"DROP by policy\"\n\
                -A FORWARD -p tcp -m zorch --level \"9 9\" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable\n";
    let snapshot = snapshot(&[("iptables-nft.save", &save("filter", body))]);
    let world = World::new(&snapshot);
    let all = every(&world.spaces()[0], "filter", Hook::Forward, &pod(), Detail::Decisions);
    let verdicts: Vec<_> = all.leaves.iter().map(|l| l.value.verdict.clone()).collect();
    assert_eq!(
        verdicts,
        [Verdict::Reject(Reject::IcmpPortUnreachable), Verdict::Accept]
    );
    assert_eq!(unknowns(&all), 1, "rules that only log are not worth a question");
    let Fork::Unknown(crate::choice::Unknown::Match(evidence)) = &all.leaves[0].path[0].fork else {
        panic!("a question about a match")
    };
    assert!(
        evidence.text.contains("zorch --level \"9 9\""),
        "the text stays as written"
    );
}

/// b.2.15: everything peers.md lists as a trigger is read.
#[test]
fn common_rules_are_all_understood() {
    let body = "-A FORWARD -m limit --limit 1/sec -j LOG\n-A FORWARD -p icmp -m icmp --icmp-type 3/4 -j ACCEPT\n\
                -A FORWARD -m state --state INVALID -j DROP\n-A FORWARD -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-X --mask 255.255.255.255 --rsource -j ACCEPT\n\
                -A FORWARD -m nfacct --nfacct-name  x -j ACCEPT\n-A FORWARD -m physdev --physdev-is-in -j ACCEPT\n-A FORWARD -m socket --transparent -j ACCEPT\n\
                -A FORWARD -j LOG --log-prefix \"a b\" --log-level 4\n-A FORWARD -d 169.254.20.10/32 -p udp -m udp --dport 53 -j CT --notrack\n\
                -A FORWARD -p tcp -j REDIRECT --to-ports 15001\n-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\n\
                -A FORWARD -p tcp -m tcp --dport 30000:32767 -j ACCEPT\n-A FORWARD -m owner --uid-owner 1337 -j RETURN\n\
                -A FORWARD -m hashlimit --hashlimit-above 10/sec --hashlimit-mode srcip --hashlimit-name a -j DROP\n-A FORWARD -m iprange --src-range 10.0.0.1-10.0.0.9 -j ACCEPT\n\
                -A FORWARD -m u32 --u32 \"0x6&0xff=0x1\" -j DROP\n-A FORWARD -m mac --mac-source 02:00:00:00:00:01 -j DROP\n-A FORWARD -m connmark ! --mark 0x1/0x1 -j ACCEPT\n\
                -A FORWARD -p sctp -m sctp --dport 80 -j ACCEPT\n-A FORWARD -m length --length 0:100 -j ACCEPT\n-A FORWARD -j NFQUEUE --queue-num 3 --queue-bypass\n\
                -A FORWARD -j CONNMARK --save-mark --nfmask 0xffff0000 --ctmask 0xffff0000\n-A FORWARD -j CHECKSUM --checksum-fill\n-A FORWARD -j TRACE\n\
                -A FORWARD -j SET --add-set x src,dst --exist\n-A FORWARD -j NETMAP --to 10.0.0.0/24\n-A FORWARD -j AUDIT --type accept\n-A FORWARD -j CLASSIFY --set-class 1:10\n";
    let snapshot = snapshot(&[("iptables-legacy.save", &save("filter", body))]);
    let world = World::new(&snapshot);
    let table = &world.spaces()[0].xt().tables()[0];
    let chain = table
        .chain(table.find("FORWARD").expect("a chain").index)
        .expect("a chain");
    assert_eq!(chain.len(), 28);
    for i in 0..chain.len() {
        let rule = table.rule(chain, i).expect("a rule");
        let unknown = rule
            .matches
            .iter()
            .any(|m| matches!(m, crate::table::xt::matches::Match::Unknown(_)))
            || matches!(rule.target, crate::table::xt::target::Target::Unknown(_));
        assert!(!unknown, "{}", table.text(rule.at));
    }
}

/// b.2.16: a set nobody captured is a question, not a no; one that was captured is looked up.
#[test]
fn sets_are_looked_up_or_unknown() {
    let body = "-A FORWARD -m set ! --match-set S dst,dst -j DROP\n";
    let save = save("filter", body);
    let missing = snapshot(&[("iptables-nft.save", &save)]);
    let world = World::new(&missing);
    assert_eq!(
        unknowns(&every(
            &world.spaces()[0],
            "filter",
            Hook::Forward,
            &pod(),
            Detail::Decisions
        )),
        1
    );
    // One question for all sets; what asks for more than membership ends there.
    let wanted = "-A FORWARD -m set --match-set S dst,dst -j ACCEPT\n-A FORWARD -m set --match-set T src -j DROP\n";
    let wanted = super::save("filter", wanted);
    let lost = snapshot(&[("iptables-nft.save", &wanted)]);
    let world = World::new(&lost);
    let all = every(&world.spaces()[0], "filter", Hook::Forward, &pod(), Detail::Decisions);
    let verdicts: Vec<_> = all.leaves.iter().map(|leaf| leaf.value.verdict.clone()).collect();
    assert_eq!(verdicts, [Verdict::Accept, Verdict::NotCaptured]);
    let there = snapshot(&[
        ("iptables-nft.save", &save),
        (
            "ipset.save",
            "create S hash:ip,port family inet hashsize 1024 maxelem 65536\nadd S 10.244.2.6,tcp:80\n",
        ),
    ]);
    let world = World::new(&there);
    let all = every(&world.spaces()[0], "filter", Hook::Forward, &pod(), Detail::Full);
    assert_eq!(all.leaves[0].value.verdict, Verdict::Accept);
}

/// b.2.17: both back ends and both families are there, and what is missing or incompatible is named.
#[test]
fn both_back_ends_are_seen() {
    let filter = save("filter", "");
    let snapshot = snapshot(&[
        ("iptables-legacy.save", &filter),
        (
            "iptables-nft.save",
            &format!("{filter}# Table `nat' is incompatible, use 'nft' tool.\n"),
        ),
        ("ip6tables-nft.save", &filter),
    ]);
    let world = World::new(&snapshot);
    let xt = world.spaces()[0].xt();
    let engines = |family| {
        xt.base_chains(family, Hook::Forward)
            .iter()
            .map(|b| b.table.engine)
            .collect::<Vec<_>>()
    };
    use crate::trace::Engine::{XtLegacy, XtNft};
    assert_eq!(engines(Family::V4), [XtLegacy, XtNft]);
    assert_eq!(engines(Family::V6), [XtNft]);
    let missing: Vec<_> = xt
        .missing()
        .iter()
        .map(|m| (m.engine, m.family, m.what.clone()))
        .collect();
    assert!(matches!(missing[0], (XtLegacy, Family::V6, MissingWhat::Artifact(_))));
    assert_eq!(missing[1], (XtNft, Family::V4, MissingWhat::Incompatible("nat".into())));
}
