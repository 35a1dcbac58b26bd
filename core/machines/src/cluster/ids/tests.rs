//! Ids as text and as order, and which addresses there are.

use std::net::{IpAddr, Ipv6Addr};

use super::{Addr, Entropy, Incarnation, Life, NodeId, Session};

#[test]
fn a_node_id_is_shown_and_read_as_32_lower_case_digits() {
    let text = "521f8f5d132ea5fb81be5786a868d693";
    let node = NodeId::parse(text).unwrap();
    assert_eq!(node.to_string(), text);
    assert_eq!(node.to_bytes()[..2], [0x52, 0x1F]);
    assert_eq!(NodeId::parse(&text.to_uppercase()), None);
    assert_eq!(NodeId::parse(&text[1..]), None);
    assert_eq!(NodeId::parse(&format!("+{}", &text[1..])), None);
}

#[test]
fn node_ids_are_ordered_by_their_bytes() {
    let mut low = [0xFF; 16];
    low[0] = 1;
    let mut high = [0; 16];
    high[0] = 2;
    assert!(NodeId::from_bytes(low) < NodeId::from_bytes(high));
}

#[test]
fn a_life_is_ordered_by_session_first() {
    let old = Life { session: Session(1), incarnation: Incarnation::MAX };
    assert!(old < Life::first_of(Session(2)));
    assert!(old > Life::first_of(Session(1)));
}

/// C4: what a handshake drew does not outlive it, and is not printed.
#[test]
fn entropy_is_wiped_and_not_printed() {
    assert!(std::mem::needs_drop::<Entropy>());
    assert_eq!(format!("{:?}", Entropy([7; 64])), "…");
}

#[test]
fn sessions_end() {
    assert_eq!(Session::FIRST.next(), Some(Session(2)));
    assert_eq!(Session(u32::MAX - 2).next(), Some(Session::MAX));
    assert_eq!(Session::MAX.next(), None);
}

/// C12: port 0, unspecified and multicast addresses are none.
#[test]
fn an_address_is_one_that_can_be_reached() {
    let new = |ip: &str, tcp, udp| Addr::new(ip.parse::<IpAddr>().unwrap(), tcp, udp);
    assert!(new("10.0.0.1", 1, 1).is_some());
    assert!(new("fe80::1", 1, 1).is_some());
    assert_eq!(new("10.0.0.1", 0, 1), None);
    assert_eq!(new("10.0.0.1", 1, 0), None);
    for ip in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "::ffff:224.0.0.1"] {
        assert_eq!(new(ip, 1, 1), None, "{ip}");
    }
}

#[test]
fn an_ipv4_address_is_held_mapped_and_used_plain() {
    let addr = Addr::new([10, 0, 0, 1].into(), 7400, 7401).unwrap();
    assert_eq!(addr.ip(), "::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(addr.tcp().to_string(), "10.0.0.1:7400");
    assert_eq!(addr.udp().to_string(), "10.0.0.1:7401");
}
