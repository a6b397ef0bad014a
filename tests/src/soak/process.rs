//! The server process of a soak, which is observed and never trusted.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::patience::{PATIENCE, POLL};

/// The lines of standard error that are kept.
const KEPT: usize = 60;

/// The server process. It is killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<Log>>,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// What the server has logged.
#[derive(Debug, Default)]
struct Log {
    lines: u64,
    last: VecDeque<String>,
    admin: Option<String>,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Resident memory, in KiB, and its share of what other processes share.
    pub(crate) resident: u64,
    pub(crate) proportional: u64,
    /// The most memory that was ever resident, in KiB.
    pub(crate) peak: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

impl Process {
    /// Starts `halfopen serve` with a configuration file. Returns the server and the events
    /// that the service `cases` prints.
    pub(crate) fn start(
        host: &Path,
        config: &Path,
        addresses: usize,
    ) -> Result<(Self, Receiver<String>)> {
        let mut child = Command::new(host)
            .args(["serve", "--config"])
            .arg(config)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", host.display()))?;
        let log = Arc::<Mutex<Log>>::default();
        let stderr = child.stderr.take().context("no standard error")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let keeper = log.clone();
        thread::spawn(move || keep(stderr, &keeper));
        let (events, received) = channel();
        let (found, bound) = channel();
        thread::spawn(move || sort(stdout, addresses, &found, &events));
        let mut process = Process {
            child,
            log,
            addresses: Vec::new(),
        };
        for _ in 0..addresses {
            let line = bound.recv_timeout(PATIENCE);
            let address = line.ok().and_then(|line| line.parse().ok());
            let Some(address) = address else {
                bail!("the server did not start:\n{}", process.last_log());
            };
            process.addresses.push(address);
        }
        Ok((process, received))
    }

    /// The status of the process, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Returns what the process uses now.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let id = self.child.id();
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        Ok(Usage {
            resident: field(&status, "VmRSS:")?,
            proportional: field(&rollup, "Pss:")?,
            peak: field(&status, "VmHWM:")?,
            descriptors: self.descriptors()?,
            threads: field(&status, "Threads:")?,
        })
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(&self) -> Result<u64> {
        let folder = format!("/proc/{}/fd", self.child.id());
        Ok(fs::read_dir(folder)?.count() as u64)
    }

    /// Counts the open TCP sockets by their local address and their state, which are fields
    /// of `/proc/net/tcp` (proc_pid_net(5)). A socket that is not in that table has no
    /// address any more.
    pub(crate) fn sockets(&self) -> Result<BTreeMap<String, usize>> {
        let id = self.child.id();
        let table = fs::read_to_string(format!("/proc/{id}/net/tcp"))?;
        let mut counts = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{id}/fd"))?.flatten() {
            // It may have been closed meanwhile.
            let link = fs::read_link(entry.path()).unwrap_or_default();
            let link = link.to_string_lossy();
            let Some(inode) = link.strip_prefix("socket:[") else {
                continue;
            };
            let inode = inode.trim_end_matches(']');
            let line = table.lines().find_map(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                (fields.get(9) == Some(&inode)).then_some(fields)
            });
            let socket = line.map_or("unconnected".to_owned(), |fields| {
                let port = fields[1].rsplit(':').next().unwrap_or_default();
                let port = u16::from_str_radix(port, 16).unwrap_or(0);
                format!("port {port}, state {}", state(fields[3]))
            });
            *counts.entry(socket).or_default() += 1;
        }
        Ok(counts)
    }

    /// Returns resident memory, in KiB.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        field(&status, "VmRSS:")
    }

    /// Returns the processor time used so far, in seconds.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name may contain spaces; user and system time are the 14th and 15th field
        // (proc_pid_stat(5)).
        let (_, rest) = stat.rsplit_once(") ").context("no name in stat")?;
        let mut fields = rest.split(' ').skip(11);
        let mut next = || -> Result<f64> { Ok(fields.next().context("stat is short")?.parse()?) };
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Ok((next()? + next()?) / ticks)
    }

    /// Returns the last lines of standard error.
    pub(crate) fn last_log(&self) -> String {
        let log = self.log.lock().expect("not poisoned");
        Vec::from(log.last.clone()).join("\n")
    }

    /// Returns how many lines the server has logged.
    pub(crate) fn logged(&self) -> u64 {
        self.log.lock().expect("not poisoned").lines
    }

    /// Returns the lines of `/metrics` that count connections by their endings.
    pub(crate) fn endings(&self) -> Result<Vec<String>> {
        let admin = self.log.lock().expect("not poisoned").admin.clone();
        let admin = admin.context("the server did not log its admin address")?;
        let mut stream = std::net::TcpStream::connect(&admin)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nHost: soak\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let counts = |line: &&str| line.contains("_closed_total{") && !line.ends_with(" 0");
        Ok(answer.lines().filter(counts).map(str::to_owned).collect())
    }

    /// Sends SIGTERM, and waits until the process has ended.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        let id = i32::try_from(self.child.id())?;
        kill_process(
            Pid::from_raw(id).context("a process has no id")?,
            Signal::TERM,
        )?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "the server does not end after SIGTERM:\n{}",
                self.last_log()
            );
            thread::sleep(POLL);
        }
    }

    /// Returns the lowest resident memory, in KiB, that is seen within some seconds:
    /// allocators return memory to the system some time after it was freed.
    pub(crate) fn at_rest(&self) -> Result<u64> {
        let mut lowest = self.resident()?;
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(100));
            lowest = lowest.min(self.resident()?);
        }
        Ok(lowest)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if the process has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of a state, by its number in `/proc/net/tcp`.
fn state(number: &str) -> &str {
    const STATES: [(&str, &str); 8] = [
        ("01", "ESTABLISHED"),
        ("04", "FIN-WAIT-1"),
        ("05", "FIN-WAIT-2"),
        ("07", "CLOSED"),
        ("08", "CLOSE-WAIT"),
        ("09", "LAST-ACK"),
        ("0A", "LISTEN"),
        ("0B", "CLOSING"),
    ];
    let known = STATES.iter().find(|(known, _)| *known == number);
    known.map_or(number, |(_, name)| name)
}

/// Reads a number of a file in which each line is `NAME: NUMBER [UNIT]`.
fn field(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next());
    let number = number.with_context(|| format!("no {name} the process has ended"))?;
    Ok(number.parse()?)
}

/// Keeps the last lines of standard error.
fn keep(stderr: ChildStderr, log: &Mutex<Log>) {
    for line in lines(stderr) {
        let mut log = log.lock().expect("not poisoned");
        if let Some((_, rest)) = line.split_once("metrics on http://") {
            log.admin = rest.split('/').next().map(str::to_owned);
        }
        log.lines += 1;
        if log.last.len() == KEPT {
            log.last.pop_front();
        }
        log.last.push_back(line);
    }
}

/// Passes the first lines on as addresses, and the events of `cases` as events. What the
/// hostile guests print is dropped.
fn sort(stdout: ChildStdout, addresses: usize, found: &Sender<String>, events: &Sender<String>) {
    for (number, line) in lines(stdout).enumerate() {
        let is_event = line == "end"
            || ["data ", "error ", "close "]
                .iter()
                .any(|start| line.starts_with(start));
        // Nobody receives any more once the soak is over.
        let _ = if number < addresses {
            found.send(line)
        } else if is_event {
            events.send(line)
        } else {
            Ok(())
        };
    }
}

fn lines(from: impl Read) -> impl Iterator<Item = String> {
    let lines = BufReader::new(from).split(b'\n').map_while(Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).into_owned())
}
