//! Messages as `ip_vs_genl_fill_service` and `ip_vs_genl_fill_dest` build them.

use super::*;

/// `TCP 10.96.0.1:443 sh, sh-port, persistent 10800`, in the byte order of x86.
#[cfg(target_endian = "little")]
const SERVICE: &[u8] = &[
    1, 1, 0, 0, // IPVS_CMD_NEW_SERVICE
    0x5c, 0, 0x01, 0x80, // nested IPVS_CMD_ATTR_SERVICE
    0x06, 0, 0x01, 0, 2, 0, 0, 0, // AF_INET
    0x06, 0, 0x02, 0, 6, 0, 0, 0, // TCP
    0x14, 0, 0x03, 0, 10, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // address
    0x06, 0, 0x04, 0, 0x01, 0xbb, 0, 0, // 443
    0x07, 0, 0x06, 0, b's', b'h', 0, 0, // scheduler
    0x0c, 0, 0x07, 0, 0x13, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // persistent, hashed, sh-port
    0x08, 0, 0x08, 0, 0x30, 0x2a, 0, 0, // 10800
    0x08, 0, 0x09, 0, 0xff, 0xff, 0xff, 0, // 255.255.255.0
    0x08, 0, 0x0a, 0x80, 0x04, 0, 0x01, 0, // (part of) its statistics
];

#[cfg(target_endian = "little")]
const SERVER: &[u8] = &[
    5, 1, 0, 0, // IPVS_CMD_NEW_DEST
    0x40, 0, 0x02, 0x80, // nested IPVS_CMD_ATTR_DEST
    0x14, 0, 0x01, 0, 10, 244, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // address
    0x06, 0, 0x02, 0, 0x19, 0x2b, 0, 0, // 6443
    0x08, 0, 0x03, 0, 0, 0, 0, 0, // masquerading
    0x08, 0, 0x04, 0, 1, 0, 0, 0, // weight
    0x08, 0, 0x05, 0, 9, 0, 0, 0, // upper threshold
    0x06, 0, 0x0b, 0, 2, 0, 0, 0, // AF_INET
];

#[test]
#[cfg(target_endian = "little")]
fn messages_become_the_lines_of_ipvsadm_save() {
    let service = service(SERVICE).expect("it is a service");
    let server = server(SERVER, &service.key).expect("it is a server");
    let table = Table {
        services: vec![(service, vec![server])],
        ..Table::default()
    };
    assert_eq!(
        table.to_string(),
        "-A -t 10.96.0.1:443 -s sh -p 10800 -M 255.255.255.0 -b sh-port\n\
         -a -t 10.96.0.1:443 -r 10.244.1.3:6443 -m -w 1 -x 9\n"
    );
    let read = knet_snapshot::ipvs::parse("ipvs.save".into(), table.to_string().as_bytes());
    assert_eq!((read.rows.len(), read.problems.len()), (2, 0));
}

#[test]
#[cfg(target_endian = "little")]
fn what_is_cut_off_is_refused_and_never_read_as_something_else() {
    for end in 0..SERVICE.len() {
        // With the address gone the rest says nothing.
        let cut = service(&SERVICE[..end]);
        assert!(end > 40 || cut.is_err(), "{end}: {cut:?}");
    }
    let key = Key::Mark { mark: 1, v6: false };
    for end in 0..SERVER.len() {
        let _ = server(&SERVER[..end], &key);
    }
}

#[test]
fn a_request_names_the_service_as_the_kernel_looks_it_up() {
    let keys = [
        Key::Address {
            protocol: 17,
            address: "fd00::10".parse().expect("an address"),
            port: 53,
        },
        Key::Address {
            protocol: 6,
            address: "10.96.0.1".parse().expect("an address"),
            port: 443,
        },
        Key::Mark { mark: 7, v6: true },
    ];
    for key in keys {
        // A request holds what an answer begins with, so it can be read as one.
        let request = servers_request(&key);
        assert_eq!(request[0], IPVS_CMD_GET_DEST);
        assert_eq!(service(&request).expect("it is a service").key, key);
    }
    assert_eq!(Key::Mark { mark: 7, v6: true }.to_string(), "-f 7 -6");
}

#[test]
fn a_kernel_without_ipvs_is_not_an_error() {
    if !std::path::Path::new("/proc/net/ip_vs").exists() {
        assert_eq!(read(Limits::default()).expect("families can be listed"), None);
    }
}
