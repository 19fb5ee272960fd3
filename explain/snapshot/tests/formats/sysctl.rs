use knet_snapshot::sysctl::parse;

use crate::{path, sample, text};

#[test]
fn keys_are_with_dots_however_they_were_asked_for() {
    let bytes = sample!("sysctl.txt");
    let (sysctls, problems) = parse(path("sysctl.txt"), bytes);
    assert_eq!(problems, []);
    assert_eq!(sysctls.number("net.ipv4.conf.eth0.100.rp_filter"), Some(2));
    assert_eq!(sysctls.number("net.ipv4.conf.eth1.7.rp_filter"), Some(1));
    assert_eq!(sysctls.number("net.ipv4.ip_forward"), Some(1));
    assert_eq!(sysctls.get("net.ipv4.ip_local_port_range"), Some("32768\t60999"));
    assert_eq!(sysctls.number("net.ipv4.ip_local_port_range"), Some(32768));
    assert_eq!(sysctls.get("net.ipv4.no_such"), None);
    let (_, at) = sysctls.values["net.ipv6.conf.all.forwarding"];
    assert_eq!(text(bytes, at), "net.ipv6.conf.all.forwarding = 0");
}

#[test]
fn complaints_of_the_tool_are_no_keys() {
    let (sysctls, problems) = parse(
        path("sysctl.txt"),
        b"sysctl: permission denied on key 'x'\nnonsense\nnet.a = \n",
    );
    assert_eq!((sysctls.values.len(), problems.len()), (1, 1));
    assert_eq!(sysctls.get("net.a"), Some(""));
}
