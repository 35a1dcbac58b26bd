//! The links of a node under any bytes: of a stranger before there are keys, of a peer after.

use std::collections::VecDeque;
use std::sync::Arc;

use machines::cluster::config::LinksConfig;
use machines::cluster::identity::{Allowed, StaticKey};
use machines::cluster::ids::{Addr, Conn, Entropy, Incarnation, Instance, Life, NodeId, Session};
use machines::cluster::links::io::{Input, Output};
use machines::cluster::links::{Links, LinksParams};
use machines::cluster::sealer::Suite;
use machines::cluster::wire::DATAGRAM_MAX;
use machines::digest::Digest;
use machines::{Choices, Instant};

const NOW: Instant = Instant::from_millis(1);
/// The one stream between two nodes, as the dialler and as the acceptor call it.
const DIALLED: Conn = Conn(2);
const ACCEPTED: Conn = Conn(3);

fn links(node: u8) -> Links {
    let addr = Addr::new([10, 0, 0, node].into(), 7400, 7400);
    Links::new(LinksParams {
        config: LinksConfig::standard(),
        cluster: "demo".to_owned(),
        schemas: [(1, [1; 16])].into(),
        key: StaticKey::from_secret([node; 32]),
        instance: Instance(u64::from(node)),
        life: Life { session: Session(1), incarnation: Incarnation(0) },
        addr: addr.expect("10.0.0.x is an address"),
        allowed: Arc::new(Allowed::Any),
        choices: Choices::new(u64::from(node)),
        suite: Suite::Null,
    })
}

fn drain(links: &mut Links) -> Vec<Output> {
    std::iter::from_fn(|| links.poll()).collect()
}

/// An acceptor that gets `bytes`, in pieces as long as the first byte says.
///
/// It never comes up, keeps no more than one connection, and holds none once its time is over.
/// Means something if it answered.
#[must_use]
pub fn links_handshake(bytes: &[u8]) -> bool {
    let Some((piece, rest)) = bytes.split_first() else {
        return false;
    };
    let mut links = links(1);
    links.handle(
        NOW,
        Input::Accepted { conn: ACCEPTED, source: [10, 0, 0, 2].into(), entropy: Entropy([7; 64]) },
    );
    let mut told = drain(&mut links);
    for piece in rest.chunks(usize::from(*piece) + 1) {
        let bytes = piece.to_vec();
        let conn = ACCEPTED;
        links.handle(NOW, Input::Bytes { conn, bytes });
        told.extend(drain(&mut links));
        assert!(links.sizes().conns <= 1, "one connection came");
    }
    links.handle(Instant::from_millis(10_000), Input::Tick);
    told.extend(drain(&mut links));
    if links.up() == 0 {
        assert_eq!(links.sizes().conns, 0, "a handshake ends in time");
        assert_eq!(links.sizes().half_open, 0);
    }
    told.iter().any(|output| matches!(output, Output::Write { .. }))
}

/// Two nodes with a link; one side of the stream gets `bytes` that the peer did not write, or a
/// datagram. The first byte says which.
///
/// What does not open changes no hash (C133), and the stream breaks at the most.
#[must_use]
pub fn links_stream(bytes: &[u8]) -> bool {
    let Some((which, bytes)) = bytes.split_first() else {
        return false;
    };
    let [mut dialler, mut acceptor] = linked();
    let (node, conn) = match which & 1 {
        0 => (&mut dialler, DIALLED),
        _ => (&mut acceptor, ACCEPTED),
    };
    if which & 2 != 0 {
        let bytes = bytes[..bytes.len().min(DATAGRAM_MAX + 1)].to_vec();
        let before = Digest::of(&*node);
        node.handle(NOW, Input::Datagram(bytes));
        let told = drain(node);
        let opened = told.iter().any(|output| matches!(output, Output::Message { .. }));
        assert!(opened || Digest::of(&*node) == before, "forged, yet noted");
        return opened;
    }
    let bytes = bytes.to_vec();
    node.handle(NOW, Input::Bytes { conn, bytes });
    let told = drain(node);
    let closed = told.iter().any(|output| matches!(output, Output::Close { .. }));
    assert_eq!(closed, node.up() == 0, "it closes, or it stands");
    node.up() == 1
}

/// Brings up one link between two nodes.
fn linked() -> [Links; 2] {
    let mut nodes = [links(1), links(2)];
    let peer: NodeId = nodes[1].node();
    let addr = Addr::new([10, 0, 0, 2].into(), 7400, 7400).expect("10.0.0.2 is an address");
    let mut todo = VecDeque::from([(0, Input::Dial { peer, addr })]);
    while let Some((node, input)) = todo.pop_front() {
        nodes[node].handle(NOW, input);
        for output in drain(&mut nodes[node]) {
            if let Output::Dial { conn, .. } = output {
                todo.push_back((
                    1,
                    Input::Accepted {
                        conn: ACCEPTED,
                        source: [10, 0, 0, 1].into(),
                        entropy: Entropy([7; 64]),
                    },
                ));
                let entropy = Entropy([8; 64]);
                todo.push_back((0, Input::Connected { conn, entropy }));
            } else if let Output::Write { bytes, .. } = output {
                let conn = if node == 0 { ACCEPTED } else { DIALLED };
                todo.push_back((1 - node, Input::Bytes { conn, bytes }));
            }
        }
    }
    assert!(nodes.iter().all(|node| node.up() == 1), "they are linked");
    nodes
}
