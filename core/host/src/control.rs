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
//! It is a Unix-domain socket in a folder that only its owner may enter; whoever can open it may
//! do everything. The folder is made with mode 0700 before the socket is, and a folder that
//! others may enter is refused, so there is no moment at which others could connect.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use runtime::Gone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::agents;
use crate::commands;
use crate::events::{self, Wanted};
use crate::failure::Failure;
use crate::files::{self, Folder};
use crate::node::View;
use crate::status::KernelStatus;

/// The longest request, in bytes (K394).
const REQUEST_MAX: u64 = 4 << 20;
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

/// One line, as the node reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    command: Option<Request>,
    kernel: Option<commands::Line>,
    events: Option<Wanted>,
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
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A node that does not start takes the door with it.
                let door = Arc::downgrade(&door);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &door).await {
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
fn starting(asked: &Asked) -> Option<Value> {
    let why = "the node reads its journal";
    match asked.command? {
        Request::Kernel => Some(json!({ "ok": KernelStatus::of("starting", why) })),
        Request::Status => Some(json!({ "error": format!("it is starting: {why}") })),
        Request::Members | Request::Leave => None,
    }
}

async fn answer(stream: UnixStream, door: &Weak<OnceLock<View>>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(REQUEST_MAX);
        timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let asked = serde_json::from_slice::<Asked>(&line);
        let started = door.upgrade().is_some_and(|door| door.get().is_some());
        if !started && let Some(answer) = asked.as_ref().ok().and_then(starting) {
            return write.write_all(format!("{answer}\n").as_bytes()).await;
        }
        let Some(entered) = enter(door).await else {
            return Ok(());
        };
        let view = &entered;
        let (answer, next) = match asked {
            Ok(Asked { command: None, kernel: Some(kernel), events: None }) => {
                let answer = match commands::check(&line) {
                    Ok(()) => decide(kernel, view).await,
                    Err(refusal) => commands::refused(&refusal),
                };
                (answer, Next::More)
            }
            Ok(Asked { command: None, kernel: None, events: Some(wanted) }) => {
                // The node's end waits for it.
                let Some(place) = view.stream() else {
                    let full = json!({ "error": "too many connections follow the events" });
                    return write.write_all(format!("{full}\n").as_bytes()).await;
                };
                events::serve(wanted, view.keeper(), read, &mut write).await?;
                let ended = write.shutdown().await;
                drop(place);
                return ended;
            }
            Ok(Asked { command: Some(request), kernel: None, events: None }) => {
                let answer = match obey(request, view).await {
                    Ok(value) => json!({ "ok": value }),
                    Err(why) => json!({ "error": why }),
                };
                (answer, if request == Request::Leave { Next::Stop } else { Next::Close })
            }
            Ok(Asked { .. }) => {
                let why = "no such request: one of command, kernel and events is needed";
                (json!({ "error": why }), Next::Close)
            }
            Err(error) => (json!({ "error": format!("no such request: {error}") }), Next::Close),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        let mut written = write.write_all(&text).await;
        if next == Next::More && written.is_ok() {
            continue;
        }
        if written.is_ok() {
            written = write.shutdown().await;
        }
        if next == Next::Stop {
            // Only now: a node that has stopped may end its process before the answer is written.
            let _ = view.stop();
        }
        return written;
    }
}

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Another line of the client.
    More,
    /// The end of the connection.
    Close,
    /// The end of the node.
    Stop,
}

/// Has the kernel decide or tell, and waits until all that it says is durable.
async fn decide(line: commands::Line, view: &View) -> Value {
    let told = match line.asked() {
        Err(refusal) => Ok(commands::refused(&refusal)),
        Ok(commands::Asked::Command(command)) => {
            view.keeper().command(*command).await.map(|decided| commands::shown(&decided))
        }
        Ok(commands::Asked::Agent(command)) => {
            return agents::execute(*command, view.keeper()).await;
        }
        Ok(commands::Asked::Query(asked)) => {
            let (by, query) = *asked;
            view.keeper().query(by, query).await.map(|answer| commands::answered(&answer))
        }
    };
    told.unwrap_or_else(|gone| json!({ "error": gone.to_string() }))
}

async fn obey(request: Request, view: &View) -> Result<Value, String> {
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
        None => Err(Failure::Control(answer["error"].as_str().unwrap_or("?").to_owned())),
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
            let why = [&line["refused"]["text"], &line["error"]];
            let why = why.iter().find_map(|text| text.as_str());
            return Err(Failure::Control(why.unwrap_or("?").to_owned()));
        }
    }
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
    stream.write_all(&line).await.map_err(|error| broken(&error))?;
    Ok(stream)
}

async fn exchange(data: &Path, line: &Line) -> Result<Value, Failure> {
    let broken = |error: io::Error| broken(&error);
    let mut stream = connect(data, line).await?;
    stream.shutdown().await.map_err(broken)?;
    let mut text = Vec::new();
    match timeout(ANSWER_MAX, stream.read_to_end(&mut text)).await {
        Ok(read) => read.map_err(broken)?,
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
            assert!(serde_json::from_str::<Asked>(wrong).is_err(), "{wrong}");
        }
    }

    /// K365: while the journal is read, whoever asks is told so, and whoever commands waits.
    #[test]
    fn a_node_that_starts_says_so() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
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
