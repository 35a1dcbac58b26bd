//! Goal: two nodes' sockets carry datagrams and streams as the port promises.
//! Method: two `Sockets` on loopback; waits are bounded by a deadline that only a failure meets.

use std::net::Ipv4Addr;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const CLOSING_MAX: u32 = 8;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { timeout(PATIENCE, future).await.expect("it took too long") })
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn bound() -> Sockets {
    Sockets::bind(any_port(), 64 << 10, CLOSING_MAX).unwrap()
}

/// Connects `a` to `b`, and returns the names of the stream at both ends.
async fn linked(a: &mut Sockets, b: &mut Sockets) -> (Conn, Conn) {
    a.dial(Conn(2), b.addr().unwrap());
    let (here, there) = futures_util::future::join(a.next(), b.next()).await;
    assert_eq!(here.unwrap(), Happened::Connected { conn: Conn(2) });
    let Happened::Accepted { conn, source } = there.unwrap() else {
        panic!("nobody was accepted");
    };
    assert_eq!(source, Ipv4Addr::LOCALHOST);
    (Conn(2), conn)
}

#[test]
fn a_datagram_arrives_whole() {
    block_on(async {
        let (mut a, mut b) = (bound(), bound());
        a.datagram(b.addr().unwrap(), vec![7; 1_200]);
        assert_eq!(b.next().await.unwrap(), Happened::Datagram(vec![7; 1_200]));
    });
}

#[test]
fn a_datagram_can_be_taken_before_tokio_knows_of_it() {
    block_on(async {
        let (mut a, mut b) = (bound(), bound());
        // Nothing is awaited between sending and taking, so tokio cannot have heard of it.
        a.datagram(b.addr().unwrap(), vec![7]);
        assert_eq!(b.ready(), Some(vec![7]));
        assert_eq!(b.ready(), None);
    });
}

#[test]
fn accepted_streams_have_odd_names_that_are_never_used_again() {
    block_on(async {
        let (mut a, mut b) = (bound(), bound());
        let (_, first) = linked(&mut a, &mut b).await;
        b.close(first);
        assert_eq!(a.next().await.unwrap(), Happened::Closed { conn: Conn(2) });
        let (_, second) = linked(&mut a, &mut b).await;
        assert_eq!((first, second), (Conn(1), Conn(3)));
    });
}

#[test]
fn every_byte_arrives_in_order_and_is_told_as_written() {
    const TOTAL: usize = 3 << 20;
    block_on(async {
        let (mut a, mut b) = (bound(), bound());
        let (here, there) = linked(&mut a, &mut b).await;
        let bytes: Vec<u8> = (0..=250).cycle().take(TOTAL).collect();
        for part in bytes.chunks(100_000) {
            a.write(here, part.to_vec());
        }
        let send = async {
            let mut told = 0;
            while told < TOTAL {
                let Happened::Wrote { conn, count } = a.next().await.unwrap() else {
                    panic!("only writing happens here");
                };
                assert_eq!(conn, here);
                told += count as usize;
            }
            told
        };
        let receive = async {
            let mut read = Vec::new();
            while read.len() < TOTAL {
                let Happened::Bytes { conn, bytes } = b.next().await.unwrap() else {
                    panic!("only reading happens there");
                };
                assert_eq!(conn, there);
                read.extend(bytes);
            }
            read
        };
        let (told, read) = futures_util::future::join(send, receive).await;
        assert_eq!(told, TOTAL);
        assert!(read == bytes, "the bytes differ");
    });
}

#[test]
fn what_was_written_before_a_close_arrives_although_the_peer_keeps_talking() {
    block_on(async {
        let (mut a, mut b) = (bound(), bound());
        let (here, there) = linked(&mut a, &mut b).await;
        // Unread bytes at the closing end are what makes a kernel answer with a reset.
        a.write(here, vec![1; 1_000]);
        b.write(there, b"goodbye".to_vec());
        b.close(there);
        futures_util::future::join(b.finish(), async {
            let mut read = Vec::new();
            loop {
                match a.next().await.unwrap() {
                    Happened::Bytes { bytes, .. } => read.extend(bytes),
                    Happened::Wrote { .. } => {}
                    Happened::Closed { conn } => break assert_eq!(conn, here),
                    other @ (Happened::Datagram(_)
                    | Happened::Connected { .. }
                    | Happened::DialFailed { .. }
                    | Happened::Accepted { .. }) => panic!("unexpected: {other:?}"),
                }
            }
            assert_eq!(read, b"goodbye");
        })
        .await;
        assert!(b.closing.is_empty());
    });
}

#[test]
fn nothing_more_is_told_about_a_stream_that_was_closed() {
    block_on(async {
        let (mut a, mut b) = (bound(), bound());
        let (here, there) = linked(&mut a, &mut b).await;
        b.write(there, vec![1; 100]);
        a.write(here, vec![2; 100]);
        a.close(here);
        a.datagram(a.addr().unwrap(), vec![9]);
        // The told bytes, the peer's bytes and its end are all swallowed.
        assert_eq!(a.next().await.unwrap(), Happened::Datagram(vec![9]));
        b.close(there);
        a.finish().await;
        assert!(a.told.is_empty());
        assert!(a.closing.is_empty());
    });
}

#[test]
fn a_dial_that_nobody_answers_fails_and_one_given_up_is_silent() {
    block_on(async {
        let mut a = bound();
        let free = bound().addr().unwrap();
        a.dial(Conn(2), free);
        a.close(Conn(2));
        a.dial(Conn(4), free);
        assert_eq!(a.next().await.unwrap(), Happened::DialFailed { conn: Conn(4) });
    });
}

#[test]
fn an_address_in_use_is_refused() {
    block_on(async {
        let a = bound();
        let error =
            Sockets::bind(a.addr().unwrap(), 64 << 10, CLOSING_MAX).err().expect("it is in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    });
}

#[test]
fn a_flood_of_datagrams_does_not_keep_streams_waiting_for_ever() {
    block_on(async {
        let (mut a, mut b) = (bound(), bound());
        let (here, there) = linked(&mut a, &mut b).await;
        for _ in 0..150 {
            a.datagram(b.addr().unwrap(), vec![7]);
        }
        a.write(here, vec![1]);
        tokio::task::yield_now().await;

        let mut before = 0;
        while matches!(b.next().await.unwrap(), Happened::Datagram(_)) {
            before += 1;
        }
        assert!(before <= 2 * DATAGRAMS_IN_A_ROW, "{before} datagrams came first");
        b.close(there);
    });
}

/// Opens a stream to `b` that its holder never closes.
async fn stranger(b: &mut Sockets) -> (std::net::TcpStream, Conn) {
    let stream = std::net::TcpStream::connect(b.addr().unwrap()).unwrap();
    let Happened::Accepted { conn, .. } = b.next().await.unwrap() else {
        panic!("only connecting happens here");
    };
    (stream, conn)
}

/// Goal: connections that are refused without a byte (C21) hold nothing.
/// Method: strangers that keep their end open; each is refused, and finds itself cut off although
/// the sockets are not asked for anything any more.
#[test]
fn a_flood_of_connections_that_are_refused_without_a_byte_holds_no_socket() {
    block_on(async {
        let mut b = bound();
        let mut strangers = Vec::new();
        for _ in 0..200 {
            let (stream, conn) = stranger(&mut b).await;
            b.close(conn);
            assert_eq!(b.held(), 0);
            strangers.push(stream);
        }
        for mut stream in strangers {
            use std::io::{Read, Write};
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it was closed without a byte");
            // A socket that is only half closed takes both; one that is gone resets at the first.
            stream.write_all(&[1]).unwrap();
            stream.write_all(&[1]).expect_err("the socket is gone");
        }
        assert_eq!(b.counts().cut(), 0);
    });
}

/// Goal: those that were answered are capped too, the oldest goes first, and it is counted.
#[test]
fn a_flood_of_connections_that_are_answered_stays_under_the_cap() {
    const FLOOD: u64 = 50;
    block_on(async {
        let mut b = bound();
        let mut strangers = Vec::new();
        for n in 1..=FLOOD {
            let (stream, conn) = stranger(&mut b).await;
            b.write(conn, vec![7]);
            b.close(conn);
            assert!(b.held() <= CLOSING_MAX as usize, "{} are held", b.held());
            assert_eq!(b.counts().cut(), n.saturating_sub(u64::from(CLOSING_MAX)));
            strangers.push((stream, conn));
        }
        let youngest = strangers.iter().rev().take(CLOSING_MAX as usize).rev();
        assert!(b.closing.keys().eq(youngest.map(|(_, conn)| conn)), "the oldest went first");
        drop(strangers);
        b.finish().await;
        assert_eq!(b.held(), 0);
    });
}

/// Goal: whoever connects all the time does not keep those that are connected waiting.
#[test]
fn a_flood_of_connections_does_not_keep_streams_waiting_for_ever() {
    block_on(async {
        let (mut a, mut b) = (bound(), bound());
        let (here, there) = linked(&mut a, &mut b).await;
        let addr = b.addr().unwrap();
        let _strangers: Vec<_> =
            (0..100).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        a.write(here, vec![1]);
        tokio::time::sleep(Duration::from_millis(50)).await;

        let mut before = 0;
        while let Happened::Accepted { conn, .. } = b.next().await.unwrap() {
            b.close(conn);
            before += 1;
        }
        assert!(before <= 2, "{before} connections came first");
        b.close(there);
    });
}
