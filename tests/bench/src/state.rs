//! How fast a service reads and writes its state, beside the stores by themselves.
//!
//! Every row is a number of clients that ask and wait for the answer, again and again. `halfopen` is
//! the service `tests/guests/ledger`, with an instance for each connection. `redb` is the database
//! in this process, a transaction for each request. Redis is asked in its own protocol, and so is
//! `kv`, the example in `guest/examples`.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use redb::{Database, ReadableDatabase, TableDefinition};

#[derive(clap::Args)]
pub(crate) struct StateArgs {
    /// Clients at once. May be given several times.
    #[arg(long, default_values_t = [1, 16, 64])]
    clients: Vec<usize>,
    /// Seconds that each measurement lasts.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
}

/// Keys that the clients use in turns.
const KEYS: usize = 1000;

/// A way to keep state.
struct Way {
    name: &'static str,
    /// When a change is on the disk.
    sync: &'static str,
    start: fn(&Path, &str) -> Result<Box<dyn Store>>,
}

const WAYS: [Way; 10] = [
    way("halfopen, file", "always", |folder, sync| {
        halfopen(&folder.join("state"), sync)
    }),
    way("kv, file", "always", kv),
    way("redb", "always", database),
    way("halfopen, Redis", "always", halfopen_redis),
    way("Redis", "always", redis),
    way("halfopen, file", "every-second", |folder, sync| {
        halfopen(&folder.join("state"), sync)
    }),
    way("kv, file", "every-second", kv),
    way("redb", "every-second", database),
    way("halfopen, Redis", "every-second", halfopen_redis),
    way("Redis", "every-second", redis),
];

const fn way(
    name: &'static str,
    sync: &'static str,
    start: fn(&Path, &str) -> Result<Box<dyn Store>>,
) -> Way {
    Way { name, sync, start }
}

/// A store that is measured.
trait Store: Send + Sync {
    /// Makes what one client needs: a function that reads or writes a key.
    fn client(&self) -> Result<Client>;
}

type Client = Box<dyn FnMut(Ask, &str, &str) -> Result<()> + Send>;

#[derive(Clone, Copy)]
enum Ask {
    Get,
    Set,
}

pub(crate) fn measure(args: &StateArgs) -> Result<()> {
    let time = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    let value = "x".repeat(args.bytes);
    let redis = Command::new("redis-server").arg("--version").output();
    println!(
        "requests per second, values of {} bytes, {KEYS} keys",
        args.bytes
    );
    println!(
        "{:16} {:13} {:>8} {:>10} {:>10}",
        "store", "on the disk", "clients", "get", "set"
    );
    for way in &WAYS {
        if redis.is_err() && way.name.contains("Redis") {
            println!("!!! SKIPPED: {}: there is no redis-server", way.name);
            continue;
        }
        let folder = Folder::new()?;
        let store: Arc<dyn Store> = (way.start)(&folder.0, way.sync)
            .with_context(|| format!("{}, {}", way.name, way.sync))?
            .into();
        fill(&*store, &value)?;
        for &clients in &args.clients {
            let get = rate(&store, clients, Ask::Get, &value, time)?;
            let set = rate(&store, clients, Ask::Set, &value, time)?;
            println!(
                "{:16} {:13} {clients:>8} {get:>10.0} {set:>10.0}",
                way.name, way.sync
            );
        }
    }
    Ok(())
}

/// Sets all keys.
fn fill(store: &dyn Store, value: &str) -> Result<()> {
    let mut client = store.client()?;
    (0..KEYS).try_for_each(|key| client(Ask::Set, &format!("key{key}"), value))
}

/// Requests per second of so many clients.
fn rate(
    store: &Arc<dyn Store>,
    clients: usize,
    ask: Ask,
    value: &str,
    time: Duration,
) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for number in 0..clients {
        let mut client = store.client()?;
        let (done, stop, value) = (done.clone(), stop.clone(), value.to_owned());
        threads.push(thread::spawn(move || -> Result<()> {
            let mut key = number * 31;
            while !stop.load(Ordering::Relaxed) {
                key = (key + 7) % KEYS;
                client(ask, &format!("key{key}"), &value)?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }));
    }
    thread::sleep(time / 5); // to warm up
    let (before, begin) = (done.load(Ordering::Relaxed), Instant::now());
    thread::sleep(time);
    let count = done.load(Ordering::Relaxed) - before;
    let seconds = begin.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    Ok(count as f64 / seconds)
}

/// A folder on the disk of this program, which is removed on drop: `/tmp` may be in memory.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let own = std::env::current_exe()?;
        let folder = own.with_file_name(format!("bench-state-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Folder(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed on drop, and its address.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    speaks: Speaks,
    /// The server behind it.
    _behind: Option<Box<Process>>,
}

#[derive(Clone, Copy)]
enum Speaks {
    Lines,
    Redis,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Store for Process {
    fn client(&self) -> Result<Client> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        let speaks = self.speaks;
        Ok(Box::new(move |ask, key, value| {
            let request = match (speaks, ask) {
                (Speaks::Lines, Ask::Get) => format!("get {key}\n"),
                (Speaks::Lines, Ask::Set) => format!("set {key} {value}\n"),
                (Speaks::Redis, Ask::Get) => command(&["GET", key]),
                (Speaks::Redis, Ask::Set) => command(&["SET", key, value]),
            };
            stream.get_ref().write_all(request.as_bytes())?;
            line.clear();
            stream.read_line(&mut line)?;
            if line.starts_with('$') {
                line.clear();
                stream.read_line(&mut line)?;
            }
            let expected = match ask {
                Ask::Get => value,
                Ask::Set => "ok",
            };
            let answer = line.trim_end().trim_start_matches('+');
            ensure!(answer.eq_ignore_ascii_case(expected), "{line:?}");
            Ok(())
        }))
    }
}

/// A command in the protocol of Redis.
pub(crate) fn command(words: &[&str]) -> String {
    let words = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words.collect::<String>())
}

fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.exists(),
        "`{}` is missing: build it first",
        path.display()
    );
    Ok(path)
}

fn halfopen(state: &Path, sync: &str) -> Result<Box<dyn Store>> {
    let state = state.to_str().context("the path is no text")?;
    Ok(Box::new(serve(LEDGER, state, sync, None)?))
}

/// The example that speaks the protocol of Redis.
fn kv(folder: &Path, sync: &str) -> Result<Box<dyn Store>> {
    let state = folder.join("state");
    let state = state.to_str().context("the path is no text")?;
    let mut process = serve("guest/dist/kv.wasm", state, sync, None)?;
    process.speaks = Speaks::Redis;
    Ok(Box::new(process))
}

const LEDGER: &str = "tests/guests/dist/ledger.wasm";

fn halfopen_redis(folder: &Path, sync: &str) -> Result<Box<dyn Store>> {
    let redis = redis_server(folder, sync)?;
    let state = format!("redis://{}", redis.address);
    Ok(Box::new(serve(
        LEDGER,
        &state,
        sync,
        Some(Box::new(redis)),
    )?))
}

fn serve(guest: &str, state: &str, sync: &str, behind: Option<Box<Process>>) -> Result<Process> {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(guest);
    let mut child = Command::new(beside("halfopen")?)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--state",
            state,
            "--state-sync",
            sync,
        ])
        .arg(guest)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("it has no output")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let address = line.trim_end().parse().context(line)?;
    Ok(Process {
        child,
        address,
        speaks: Speaks::Lines,
        _behind: behind,
    })
}

fn redis(folder: &Path, sync: &str) -> Result<Box<dyn Store>> {
    Ok(Box::new(redis_server(folder, sync)?))
}

/// A Redis server on a port that is free.
pub(crate) fn redis_server(folder: &Path, sync: &str) -> Result<Process> {
    let free = TcpListener::bind("127.0.0.1:0")?;
    let address = free.local_addr()?;
    drop(free);
    let fsync = if sync == "always" {
        "always"
    } else {
        "everysec"
    };
    let child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", ""])
        .args(["--port", &address.port().to_string()])
        .args(["--appendonly", "yes", "--appendfsync", fsync, "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()?;
    let process = Process {
        child,
        address,
        speaks: Speaks::Redis,
        _behind: None,
    };
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(
            begin.elapsed() < Duration::from_secs(30),
            "redis-server does not start"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("values");

/// A database in this process.
struct Redb {
    database: Arc<Database>,
    durability: redb::Durability,
}

fn database(folder: &Path, sync: &str) -> Result<Box<dyn Store>> {
    let database = Arc::new(Database::create(folder.join("redb"))?);
    let durability = match sync {
        "always" => redb::Durability::Immediate,
        // Of the commits, that is: nothing syncs here.
        _ => redb::Durability::None,
    };
    Ok(Box::new(Redb {
        database,
        durability,
    }))
}

impl Store for Redb {
    fn client(&self) -> Result<Client> {
        let (database, durability) = (self.database.clone(), self.durability);
        Ok(Box::new(move |ask, key, value| {
            match ask {
                Ask::Get => {
                    let table = database.begin_read()?.open_table(TABLE)?;
                    ensure!(table.get(key)?.is_some(), "no {key}");
                }
                Ask::Set => {
                    let mut transaction = database.begin_write()?;
                    transaction.set_durability(durability)?;
                    transaction
                        .open_table(TABLE)?
                        .insert(key, value.as_bytes())?;
                    transaction.commit()?;
                }
            }
            Ok(())
        }))
    }
}
