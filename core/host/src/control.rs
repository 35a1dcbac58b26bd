//! The control socket: the command line asks a running node, one JSON object a line.
//!
//! ```text
//!   → {"command":"members"}
//!   ← {"ok":[…]}            or {"error":"why"}
//! ```
//!
//! After a command of the kernel ([`commands`](crate::commands)) more may follow on the connection;
//! after anything else it is closed. Who wants events ([`events`](crate::events)) gets lines until
//! there are no more, or until it closes its side. A node that still reads its journal says so;
//! what it cannot do before it has started waits for that.
//!
//! Whoever closes its side has left, and is waited for no longer: an agent that it began goes on, a
//! task that comes is another's. A line is looked at before it is taken apart: what is no JSON, or
//! too long or too deep, is refused, and the next line is read.
//!
//! It is a Unix-domain socket in a folder that only its owner may enter; whoever can open it may
//! do everything. The folder is made with mode 0700 before the socket is, and a folder that
//! others may enter is refused, so there is no moment at which others could connect.

mod reading;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use machines::kernel::housekeeping::StopMode;
use machines::kernel::time::Millis;
use machines::kernel::{Code, Command, CommandBody, Refusal};
use runtime::{Gone, Won, race};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::agents;
use crate::commands::{self, Asked};
use crate::events::{self, Place, Places, Wanted};
use crate::failure::Failure;
use crate::files::{self, Folder};
use crate::leases;
use crate::node::View;
use crate::status::KernelStatus;
use reading::Reading;

/// The longest request, in bytes (K394).
const REQUEST_MAX: usize = 4 << 20;
/// How many connections there may be at a time: each may hold a request.
const CONNECTIONS_MAX: usize = 256;
/// How many more there may be for commands of the node alone: whoever wants to know how it is, or
/// that it leaves, gets through though all others wait for a disk that hangs.
const COMMANDS_MAX: usize = 16;
/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client waits for an answer; leaving takes the longest.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// How often who asked too early looks whether the node has started.
const LOOK: Duration = Duration::from_millis(20);

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// The membership table.
    Members,
    /// Everything of C121.
    Status,
    /// Leave the cluster and stop; answered when the node has left.
    Leave,
    /// How the kernel is, and how far: its last record and event, and the state root after them.
    Kernel,
}

/// One line of a client.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Command { command: Request },
    Kernel { kernel: Value },
    Events { events: Wanted },
}

/// One line, as it is spelled.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelled {
    command: Option<Request>,
    kernel: Option<commands::Line>,
    events: Option<Wanted>,
}

/// One line, as the node reads it.
#[derive(Debug)]
enum Wish {
    Command(Request),
    Kernel(commands::Line),
    Events(Wanted),
}

/// What a client is answered.
struct Answer {
    told: Value,
    next: Next,
    /// Its place among those who wait, until it is answered: the node's end waits for that.
    place: Option<Place>,
}

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Another line of the client.
    More,
    /// The end of the connection.
    Close,
    /// The end of the node, which has left its cluster.
    Stop,
    /// The end of the node, which takes on nothing new already (K363).
    ShutDown { mode: StopMode, deadline: Option<Millis> },
}

/// Makes the socket of a node on `folder`. A socket left by a crash is replaced: the folder is
/// locked, so nobody listens there.
pub(crate) fn listen(folder: &Folder) -> Result<UnixListener, Failure> {
    let path = folder.control();
    let failed = |error| Failure::Folder { path: path.clone(), error };
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    UnixListener::bind(&path).map_err(failed)
}

/// Where the view of a node is once it has started, for those who ask before.
pub(crate) type Door = Arc<OnceLock<View>>;

/// Answers until it is dropped, with the node.
pub(crate) async fn serve(listener: UnixListener, door: Door) {
    serve_up_to(CONNECTIONS_MAX, COMMANDS_MAX, listener, door).await;
}

async fn serve_up_to(most: usize, more: usize, listener: UnixListener, door: Door) {
    let (connections, commands) = (Places::of(most), Places::of(more));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = connections.take();
                let narrow = place.is_none().then_some(most);
                let place = place.or_else(|| commands.take());
                // A node that does not start takes the door with it.
                let door = Arc::downgrade(&door);
                tokio::spawn(async move {
                    let served = match &place {
                        Some(_) => answer(stream, &door, narrow).await,
                        None => turn_away(stream, most).await,
                    };
                    if let Err(error) = served {
                        debug!(%error, "a control connection broke");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "a control connection could not be accepted");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Tells a client that there are too many, before it has asked for anything.
async fn turn_away(stream: UnixStream, most: usize) -> io::Result<()> {
    let (_, mut write) = stream.into_split();
    tell(&mut write, &one_too_many(most)).await?;
    write.shutdown().await
}

fn one_too_many(most: usize) -> Value {
    overloaded(&format!("{most} connections to the control socket are open"))
}

fn overloaded(text: &str) -> Value {
    commands::refused(&Refusal::new(Code::Overloaded, text))
}

/// Waits until the node has started; nothing if it does not.
async fn enter(door: &Weak<OnceLock<View>>) -> Option<View> {
    loop {
        if let Some(view) = door.upgrade()?.get() {
            return Some(view.clone());
        }
        sleep(LOOK).await;
    }
}

/// What a node says that still reads its journal; nothing of what has to wait.
fn starting(wish: &Wish) -> Option<Value> {
    let why = "the node reads its journal";
    match wish {
        Wish::Command(Request::Kernel) => Some(json!({ "ok": KernelStatus::of("starting", why) })),
        Wish::Command(Request::Status) => {
            Some(json!({ "error": format!("it is starting: {why}") }))
        }
        Wish::Command(Request::Members | Request::Leave) | Wish::Kernel(_) | Wish::Events(_) => {
            None
        }
    }
}

/// Answers a client until it has left. Only commands of the node if the connection is a `narrow`
/// one, beside so many others.
async fn answer(
    stream: UnixStream,
    door: &Weak<OnceLock<View>>,
    narrow: Option<usize>,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = Reading::new(read);
    while let Some(wish) = timeout(PATIENCE, next_wish(&mut read)).await?? {
        let started = door.upgrade().is_some_and(|door| door.get().is_some());
        let early = wish.as_ref().ok().filter(|_| !started).and_then(starting);
        if let Some(told) = early {
            return tell(&mut write, &told).await;
        }
        let wish = match wish {
            Ok(wish) => wish,
            Err(Answer { told, next, .. }) => {
                tell(&mut write, &told).await?;
                if next == Next::More {
                    continue;
                }
                return write.shutdown().await;
            }
        };
        if let (Some(most), Wish::Kernel(_) | Wish::Events(_)) = (narrow, &wish) {
            tell(&mut write, &one_too_many(most)).await?;
            return write.shutdown().await;
        }
        let Some(view) = enter(door).await else {
            return Ok(());
        };
        let Answer { told, next, place } = match wish {
            Wish::Kernel(line) => decide(line, &view, &mut read).await,
            Wish::Command(request) => obey(request, &view).await,
            Wish::Events(wanted) => {
                return stream_to(wanted, &view, read.into_inner(), write).await;
            }
        };
        let written = tell(&mut write, &told).await;
        drop(place);
        if next != Next::More {
            return end(next, written, write, &view).await;
        }
        written?;
    }
    Ok(())
}

/// Ends a connection, and the node if that is what comes next.
async fn end(
    next: Next,
    mut written: io::Result<()>,
    mut write: OwnedWriteHalf,
    view: &View,
) -> io::Result<()> {
    if written.is_ok() {
        written = write.shutdown().await;
    }
    // Only now: a node that has stopped may end its process before the answer is written.
    match next {
        Next::More | Next::Close => {}
        // Gone: it has stopped already.
        Next::Stop => drop(view.stop()),
        Next::ShutDown { mode, deadline } => {
            info!(mode = mode.name(), "asked to shut down");
            view.stop_at_rest(mode, deadline.map(Duration::from_millis)).await;
        }
    }
    written
}

/// Reads what a client wants next; nothing at the end. Inside, what is wrong with it.
async fn next_wish(read: &mut Reading<OwnedReadHalf>) -> io::Result<Option<Result<Wish, Answer>>> {
    let line = read.line(REQUEST_MAX).await?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() > REQUEST_MAX {
        let text = format!("line: more than {REQUEST_MAX} bytes");
        return Ok(Some(Err(Answer::more(commands::refused(&Refusal::new(Code::TooLarge, text))))));
    }
    Ok(Some(wish(&line)))
}

/// Takes a line apart, once it is known how deep it is and how much is in it.
fn wish(line: &[u8]) -> Result<Wish, Answer> {
    commands::check(line).map_err(|refusal| Answer::more(commands::refused(&refusal)))?;
    let wrong = |why: String| Answer::last(json!({ "error": format!("no such request: {why}") }));
    match serde_json::from_slice::<Spelled>(line).map_err(|error| wrong(error.to_string()))? {
        Spelled { command: Some(request), kernel: None, events: None } => {
            Ok(Wish::Command(request))
        }
        Spelled { command: None, kernel: Some(line), events: None } => Ok(Wish::Kernel(line)),
        Spelled { command: None, kernel: None, events: Some(wanted) } => Ok(Wish::Events(wanted)),
        Spelled { .. } => Err(wrong("one of command, kernel and events is needed".to_owned())),
    }
}

async fn tell(write: &mut OwnedWriteHalf, told: &Value) -> io::Result<()> {
    let mut text = serde_json::to_vec(told)?;
    text.push(b'\n');
    write.write_all(&text).await
}

impl Answer {
    const fn more(told: Value) -> Self {
        Self { told, next: Next::More, place: None }
    }

    const fn last(told: Value) -> Self {
        Self { told, next: Next::Close, place: None }
    }
}

/// Shows events to whoever follows them.
async fn stream_to(
    wanted: Wanted,
    view: &View,
    read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
) -> io::Result<()> {
    // The node's end waits for it.
    let Some(place) = view.stream() else {
        tell(&mut write, &full("nothing is followed")).await?;
        return write.shutdown().await;
    };
    events::serve(wanted, view.keeper(), read, &mut write).await?;
    let ended = write.shutdown().await;
    drop(place);
    ended
}

/// Tells a client that so many wait already that it cannot.
fn full(what: &str) -> Value {
    overloaded(&format!("{} connections follow events or wait: {what}", events::PLACES_MAX))
}

/// Has the kernel decide or tell, and waits until all that it says is durable.
async fn decide(line: commands::Line, view: &View, read: &mut Reading<OwnedReadHalf>) -> Answer {
    let keeper = view.keeper();
    let gone = |gone: Gone| json!({ "error": gone.to_string() });
    match line.asked() {
        Err(refusal) => Answer::more(commands::refused(&refusal)),
        Ok(Asked::Command(command)) => command_of(*command, view).await,
        Ok(Asked::Query(asked)) => {
            let (by, query) = *asked;
            let answer = keeper.query(by, query).await;
            Answer::more(answer.map_or_else(gone, |answer| commands::answered(&answer)))
        }
        Ok(Asked::Agent(command)) => {
            let Some(place) = view.stream() else {
                return Answer::more(full("nothing was begun"));
            };
            match race(agents::execute(*command, keeper), read.left()).await {
                Won::Left(told) => Answer { place: Some(place), ..Answer::more(told) },
                Won::Right(()) => {
                    let why = "whoever closes its side has left: what was begun goes on";
                    Answer::last(json!({ "error": why }))
                }
            }
        }
        Ok(Asked::Lease(command, wait)) => {
            let Some(place) = view.stream() else {
                return Answer::more(full("nothing was leased"));
            };
            let told = leases::lease(*command, wait, view.desk(), read.left()).await;
            Answer { place: Some(place), ..Answer::more(told) }
        }
    }
}

/// Has a command decided; one that shuts down is the node's as well, once the kernel has taken it.
async fn command_of(command: Command, view: &View) -> Answer {
    let mut next = Next::More;
    if let CommandBody::Shutdown { mode, deadline_ms } = &command.body {
        next = Next::ShutDown { mode: *mode, deadline: *deadline_ms };
    }
    let approval = commands::approval_of(&command);
    match view.keeper().command(command).await {
        Ok(decided) => {
            let next = if decided.is_ok() { next } else { Next::More };
            let told = commands::shown(&decided, approval.as_ref());
            Answer { next, ..Answer::more(told) }
        }
        Err(gone) => Answer::more(json!({ "error": gone.to_string() })),
    }
}

async fn obey(request: Request, view: &View) -> Answer {
    let told = match told_of(request, view).await {
        Ok(value) => json!({ "ok": value }),
        Err(why) => json!({ "error": why }),
    };
    let next = if request == Request::Leave { Next::Stop } else { Next::Close };
    Answer { next, ..Answer::last(told) }
}

async fn told_of(request: Request, view: &View) -> Result<Value, String> {
    let gone = |gone: Gone| gone.to_string();
    let value = match request {
        Request::Members => serde_json::to_value(view.members().await.map_err(gone)?),
        Request::Status => serde_json::to_value(view.status().await.map_err(gone)?),
        Request::Kernel => serde_json::to_value(view.kernel().await),
        Request::Leave => {
            info!("asked to leave");
            view.drain().await;
            let left = view.leave_in_time().await;
            serde_json::to_value(json!({ "left": left }))
        }
    };
    value.map_err(|error| error.to_string())
}

/// Asks the node that runs on the data folder `data`.
///
/// # Errors
///
/// No node runs there, or it answers with an error.
pub async fn ask(data: &Path, request: Request) -> Result<Value, Failure> {
    let mut answer = exchange(data, &Line::Command { command: request }).await?;
    match answer.get_mut("ok") {
        Some(value) => Ok(value.take()),
        None => Err(Failure::Control(why(&answer))),
    }
}

/// Has the kernel of the node that runs on the data folder `data` decide a command or answer a
/// query, and returns its answer as it stands.
///
/// # Errors
///
/// No node runs there, or it is no command.
pub async fn command(data: &Path, kernel: Value) -> Result<Value, Failure> {
    let answer = exchange(data, &Line::Kernel { kernel }).await?;
    match answer.get("error").and_then(Value::as_str) {
        Some(why) => Err(Failure::Control(why.to_owned())),
        None => Ok(answer),
    }
}

/// Reads events of the node that runs on the data folder `data`, and hands them out one by one, as
/// they stand, until there are no more or `take` says false.
///
/// # Errors
///
/// No node runs there, it refuses, or it has ended without saying so.
pub async fn events(
    data: &Path,
    wanted: Wanted,
    mut take: impl FnMut(&Value) -> bool,
) -> Result<(), Failure> {
    let stream = connect(data, &Line::Events { events: wanted }).await?;
    // The half that writes stays open as long as anybody reads.
    let (read, _write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    loop {
        let line = lines.next_line().await.map_err(|error| broken(&error))?;
        let ended = || Failure::Control("it has stopped".to_owned());
        let line: Value = match line {
            Some(line) => serde_json::from_str(&line).map_err(|_| ended())?,
            None => return Err(ended()),
        };
        if let Some(event) = line.get("event") {
            if !take(event) {
                return Ok(());
            }
        } else if line.get("ended").is_some() {
            return Ok(());
        } else {
            return Err(Failure::Control(why(&line)));
        }
    }
}

/// Finds why a node does not do what it was asked.
fn why(answer: &Value) -> String {
    let why = [&answer["refused"]["text"], &answer["error"]];
    why.iter().find_map(|text| text.as_str()).unwrap_or("?").to_owned()
}

fn broken(error: &io::Error) -> Failure {
    Failure::Control(error.to_string())
}

/// Connects, and sends a line.
async fn connect(data: &Path, line: &Line) -> Result<UnixStream, Failure> {
    let path = files::control(data);
    let connected = UnixStream::connect(&path).await;
    let absent = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    let mut stream = connected.map_err(|error| match absent(error.kind()) {
        true => Failure::NotRunning(data.to_owned()),
        false => Failure::Control(format!("{}: {error}", path.display())),
    })?;
    let mut line = serde_json::to_vec(line).expect("a request is always JSON");
    line.push(b'\n');
    match stream.write_all(&line).await {
        // Who is turned away is told why all the same.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(stream),
        written => written.map(|()| stream).map_err(|error| broken(&error)),
    }
}

/// Sends a line and reads the answer. Its side stays open until then: to close it is to leave.
async fn exchange(data: &Path, line: &Line) -> Result<Value, Failure> {
    let mut stream = BufReader::new(connect(data, line).await?);
    let mut text = Vec::new();
    match timeout(ANSWER_MAX, stream.read_until(b'\n', &mut text)).await {
        Ok(read) => read.map_err(|error| broken(&error))?,
        Err(elapsed) => return Err(Failure::Control(elapsed.to_string())),
    };
    serde_json::from_slice(&text).map_err(|_| Failure::Control("it has stopped".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spelled_as_the_header_says() {
        let line = Line::Command { command: Request::Members };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"command":"members"}"#);
        for wrong in [r#"{"command":"stop"}"#, r#"{"command":"leave","now":1}"#, ""] {
            assert!(serde_json::from_str::<Spelled>(wrong).is_err(), "{wrong}");
        }
    }

    fn alone(story: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(story);
    }

    /// Says a line and returns what is answered.
    async fn say(stream: &mut BufReader<UnixStream>, line: &str) -> Value {
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_line(&mut answer).await.unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// K394, K410: what is in a line is known before it is taken apart, and the next one is read.
    #[test]
    fn a_line_is_refused_for_what_it_is_and_the_next_is_read() {
        alone(async {
            let folder = tempfile::tempdir().unwrap();
            let held = Folder::lock(folder.path()).unwrap();
            let door = Door::default();
            let serving = tokio::spawn(serve(listen(&held).unwrap(), Arc::clone(&door)));
            let stream = UnixStream::connect(files::control(folder.path())).await.unwrap();
            let mut stream = BufReader::new(stream);
            let deep = format!("{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
            let long = format!("{}\n", "x".repeat(5 << 20));
            let full = format!("{}\n", "7".repeat(4 << 20));
            for (line, code, text) in [
                ("{\n", "bad_json", "line: line 2 column 1: unexpected end"),
                ("{\"kernel\":1,\"kernel\":2}\n", "bad_json", "line: line 1 column 13: "),
                (&deep, "too_deep", "line: depth 128, at most 127"),
                (&long, "too_large", "line: more than 4194304 bytes"),
                (&full, "too_large", "line: more than 4194304 bytes"),
            ] {
                let told = say(&mut stream, line).await;
                assert_eq!(told["refused"]["code"], code, "{told}");
                assert!(told["refused"]["text"].as_str().unwrap().starts_with(text), "{told}");
            }
            let told = say(&mut stream, "{\"command\":\"kernel\"}\n").await;
            assert_eq!(told["ok"]["state"], "starting");
            serving.abort();
        });
    }

    #[test]
    fn whoever_is_one_too_many_is_told_so() {
        alone(async {
            let folder = tempfile::tempdir().unwrap();
            let held = Folder::lock(folder.path()).unwrap();
            let door = Door::default();
            let listener = listen(&held).unwrap();
            let serving = tokio::spawn(serve_up_to(2, 1, listener, Arc::clone(&door)));
            let mut open = Vec::new();
            for _ in 0..2 {
                let stream = UnixStream::connect(files::control(folder.path())).await.unwrap();
                let mut stream = BufReader::new(stream);
                assert_eq!(say(&mut stream, "{\n").await["refused"]["code"], "bad_json");
                open.push(stream);
            }
            let told = ask(folder.path(), Request::Kernel).await.unwrap();
            assert_eq!(told["state"], "starting", "how the node is can be asked all the same");
            let submit = json!({ "user": "alice", "do": { "submit": { "pid": "p" } } });
            let told = command(folder.path(), submit).await.unwrap();
            assert_eq!(told["refused"]["code"], "overloaded", "{told}");
            let stream = loop {
                let stream = UnixStream::connect(files::control(folder.path())).await.unwrap();
                let mut stream = BufReader::new(stream);
                if say(&mut stream, "{\n").await["refused"]["code"] == "bad_json" {
                    break stream;
                }
            };
            let told = ask(folder.path(), Request::Kernel).await.unwrap_err().to_string();
            let why = "the node did not answer: 2 connections to the control socket are open";
            assert_eq!(told, why, "not by everybody");
            drop(stream);
            while ask(folder.path(), Request::Kernel).await.is_err() {
                tokio::task::yield_now().await;
            }
            serving.abort();
        });
    }

    /// K365: while the journal is read, whoever asks is told so, and whoever commands waits.
    #[test]
    fn a_node_that_starts_says_so() {
        alone(async {
            let folder = tempfile::tempdir().unwrap();
            let held = Folder::lock(folder.path()).unwrap();
            let door = Door::default();
            let serving = tokio::spawn(serve(listen(&held).unwrap(), Arc::clone(&door)));
            let told = ask(folder.path(), Request::Kernel).await.unwrap();
            assert_eq!(told, json!({ "state": "starting", "why": "the node reads its journal" }));
            let told = ask(folder.path(), Request::Status).await.unwrap_err().to_string();
            assert_eq!(told, "the node did not answer: it is starting: the node reads its journal");

            let data = folder.path().to_owned();
            let members = tokio::spawn(async move { ask(&data, Request::Members).await });
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(!members.is_finished(), "it waits for the start");
            serving.abort();
            drop(door);
            let told = members.await.unwrap().unwrap_err().to_string();
            assert_eq!(told, "the node did not answer: it has stopped");
        });
    }
}
