//! Two nodes in one process: they make keys, trust each other, join, and one asks the other.
//!
//! ```text
//! cargo run -p host --example two_nodes
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use host::config::ProfileName;
use host::{Config, Node, files};
use machines::cluster::wire::Name;

/// What the payload of a greeting is; both ends agree on such numbers.
const GREETING: u32 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let answer = runtime.block_on(greet())?;
    println!("the other node answered: {answer}");
    Ok(())
}

async fn greet() -> Result<String, Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("lockstep-two-nodes-{}", std::process::id()));
    let first = prepare(&folder.join("first"))?;
    let second = prepare(&folder.join("second"))?;
    for config in [&first.0, &second.0] {
        let list = format!("{}\n{}\n", first.1, second.1);
        fs::write(config.data.join("allowlist"), list)?;
    }

    let first = Node::start(first.0).await?;
    let mut config = second.0;
    config.seeds.push(first.addr().to_string().parse()?);
    let second = Node::start(config).await?;
    first.joined().await?;
    second.joined().await?;

    // The second node answers whoever greets it.
    let endpoint = second.open(16).await?;
    let mut endpoint = endpoint.map_err(|refused| format!("{refused:?}"))?;
    let name = Name::new("demo/greeter").ok_or("a name of printable letters")?;
    second
        .register(name.clone(), endpoint.actor(), None, false)
        .await?
        .map_err(|refused| format!("{refused:?}"))?;
    let greeter = tokio::spawn(async move {
        while let Some(letter) = endpoint.receive().await {
            if let Some(request) = letter.request {
                let text = format!("hello, {}", String::from_utf8_lossy(&letter.payload));
                endpoint.answer(request, 0, GREETING, text.into_bytes());
            }
        }
    });

    // The first finds it by its name, wherever it is.
    let to = first.lookup(name).await?.ok_or("nobody has that name")?;
    let answer = first
        .ask(to, Duration::from_secs(5), GREETING, b"world".to_vec())
        .await?
        .map_err(|failed| format!("{failed:?}"))?;

    first.shutdown().await?;
    second.shutdown().await?;
    greeter.await?;
    fs::remove_dir_all(folder)?;
    Ok(String::from_utf8(answer.payload)?)
}

/// Makes a folder with a key; returns the configuration of its node, and its public key.
fn prepare(folder: &Path) -> Result<(Config, String), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let key = files::make_key(&folder.join("node.key"))?;
    let mut config = Config::new("two-nodes");
    config.data = folder.to_owned();
    config.bind = "127.0.0.1:0".parse()?;
    config.profile = ProfileName::Local;
    let public = key.public();
    let digits = public.iter().map(|byte| format!("{byte:02x}"));
    Ok((config, digits.collect()))
}
