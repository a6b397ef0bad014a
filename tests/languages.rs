//! Services in other languages: what `halfopen new` makes builds, passes its own test, and does on
//! connections what the same service in Rust does.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

use std::fs;
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::chat;
use halfopen_tests::client::{Client, End};
use halfopen_tests::each::trial;
use halfopen_tests::languages::{self, Language, Project};
use halfopen_tests::patience::eventually;
use halfopen_tests::runner::{Binaries, Runner, root};
use halfopen_tests::scenario::{Play, Scenario};
use halfopen_tests::scenarios;
use halfopen_tests::server::{Server, command};
use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;

/// The ways to run the scenarios: in each isolation.
const RUNNERS: [Runner; 2] = [Runner::NativeConnection, Runner::NativeShared];

/// The templates.
const TEMPLATES: [&str; 3] = ["echo", "lines", "chat"];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The tools and the compiler of components use all processors already.
    arguments.test_threads.get_or_insert(2);
    let binaries = Arc::new(Binaries::find(env!("CARGO_BIN_EXE_wasmtime")));
    let mut trials = vec![trial("templates-in-rust".to_owned(), rust_has_the_examples)];
    let all = std::env::var_os("HALFOPEN_LANGUAGES").is_some();
    if !all {
        println!("!!! Only with HALFOPEN_LANGUAGES=1: services in other languages (five minutes)");
    }
    for language in Language::ALL.into_iter().filter(|_| all) {
        let name = language.name();
        if let Some(missing) = language.missing() {
            // The gate says itself that rustup cannot add the target.
            assert!(
                std::env::var_os("CI").is_none() || language == Language::Rust,
                "{name} needs {missing}; run `tests/languages/install`, and install clang, lld and wasi-libc"
            );
            println!(
                "!!! SKIPPED: {name} needs {missing}; `tests/languages/install` installs tools"
            );
            continue;
        }
        let mut add = |what: String, run: fn(Language, &Binaries) -> Result<()>| {
            let binaries = binaries.clone();
            let name = format!("{name}::{what}");
            trials.push(trial(name, move || run(language, &binaries)));
        };
        add("own-test-echo".to_owned(), |l, b| own_test(l, b, "echo"));
        add("own-test-lines".to_owned(), |l, b| own_test(l, b, "lines"));
        add("own-test-chat".to_owned(), |l, b| own_test(l, b, "chat"));
        add("chat".to_owned(), chats);
        add("an-error-in-an-event".to_owned(), fails);
        add("dev".to_owned(), develops);
        // Python's interpreter would have to be compiled a second time, which says nothing more.
        if language != Language::Python {
            add("composed".to_owned(), composes);
        }
        // In Rust the SDK has them, and tests of its own.
        if language != Language::Rust {
            add("timers".to_owned(), pings);
        }
        trials.extend(conformance(language, &binaries));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// In Rust, two templates are the examples themselves.
fn rust_has_the_examples() -> Result<()> {
    for name in ["chat", "lines"] {
        let read = |folder: &str| fs::read(root().join(folder).join(name).join("src/lib.rs"));
        let same = read("guest/templates/rust")? == read("guest/examples")?;
        ensure!(
            same,
            "copy guest/examples/{name}/src/lib.rs to the template"
        );
    }
    Ok(())
}

/// A project of a template, built.
fn built(language: Language, binaries: &Binaries, template: &str) -> Result<Project> {
    // One at a time: trials that need the same project wait for the one that builds it.
    static BUILDING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = BUILDING.lock().unwrap_or_else(|error| error.into_inner());
    let project = Project::make(binaries, language, template, template, &[])?;
    project.build(binaries)?;
    Ok(project)
}

fn own_test(language: Language, binaries: &Binaries, template: &str) -> Result<()> {
    built(language, binaries, template)?.test(binaries)
}

/// The scenarios of `echo` and `lines`, but those about listening, which are about the host.
fn conformance(language: Language, binaries: &Arc<Binaries>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for scenario in scenarios::all() {
        let template = scenario.guest;
        let about_listening = scenario.rules.iter().any(|rule| rule.starts_with('L'));
        if !TEMPLATES.contains(&template) || template == "chat" || about_listening {
            continue;
        }
        for runner in RUNNERS {
            let binaries = binaries.clone();
            let name = format!("{}::{}::{}", language.name(), runner.name(), scenario.name);
            trials.push(trial(name, move || {
                let project = built(language, &binaries, template)?;
                let scenario = Scenario {
                    guest: project.name.leak(),
                    ..*scenario
                };
                scenario.run(runner, &binaries)
            }));
        }
    }
    assert!(
        trials.len() > 20,
        "the scenarios of echo and lines are gone"
    );
    let is_script = |scenario: &&Scenario| matches!(scenario.play, Play::Script(..));
    assert!(scenarios::all().any(|scenario| is_script(&scenario)));
    trials
}

/// A component composes into a command for any host of WASI 0.3, and does the same there.
fn composes(language: Language, binaries: &Binaries) -> Result<()> {
    const PLAYED: [&str; 3] = [
        "echo",
        "half-close-by-the-peer-first",
        "a-q-in-much-and-fin",
    ];
    let project = built(language, binaries, "echo")?;
    let standalone = root()
        .join(languages::FOLDER)
        .join(format!("{}-standalone.wasm", project.name));
    let mut compose = command(&binaries.halfopen, ["compose", "--output"]);
    languages::run(compose.arg(standalone).arg(project.component()))?;
    let guest: &'static str = project.name.leak();
    let played = scenarios::all().filter(|scenario| PLAYED.contains(&scenario.name));
    let mut count = 0;
    for scenario in played {
        count += 1;
        Scenario { guest, ..*scenario }.run(Runner::Composed, binaries)?;
    }
    ensure!(count == PLAYED.len(), "the scenarios are gone");
    Ok(())
}

fn chats(language: Language, binaries: &Binaries) -> Result<()> {
    let project = built(language, binaries, "chat")?;
    // Without a flag: the component declares that its connections share an instance.
    let start = || {
        let mut serve = command(&binaries.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
        serve.arg(project.component());
        Server::start(serve, 1)
    };
    chat::everybody_hears_the_others(&start()?)?;
    chat::a_slow_reader_harms_nobody_and_is_dropped(&start()?)
}

/// The source of the service of a language, from the folder of a project.
fn source(language: Language) -> &'static str {
    match language {
        Language::C => "src/service.c",
        Language::Go => "service.go",
        Language::Javascript => "src/service.js",
        Language::Python => "service.py",
        Language::Rust => "src/lib.rs",
        Language::Typescript => "src/service.ts",
    }
}

/// An exception, a panic or a trap in an event of one connection: that connection is reset, and
/// where connections share an instance the others go on, if the language allows it.
fn fails(language: Language, binaries: &Binaries) -> Result<()> {
    let project = replaced(language, binaries, "faulty", &|wit| wit)?;
    project.build(binaries)?;
    for runner in RUNNERS {
        let server = runner.start(binaries, &project.name, &[])?;
        let mut one = Client::connect(server.address())?;
        let mut other = Client::connect(server.address())?;
        for client in [&mut one, &mut other] {
            client.send(b"hi")?;
            ensure!(client.receive(2)? == b"hi", "the service does not echo");
        }
        one.send(b"!")?;
        ensure!(one.end()?.1 == End::Rst, "the connection is not reset");
        let goes_on = language.contains_errors() || runner == Runner::NativeConnection;
        if goes_on {
            other.send(b"hi")?;
            ensure!(other.receive(2)? == b"hi", "the other does not go on");
        } else {
            ensure!(other.end()?.1 == End::Rst, "the other goes on");
        }
        let mut later = Client::connect(server.address())?;
        later.send(b"hi")?;
        ensure!(later.receive(2)? == b"hi", "nobody is served any more");
        if language.contains_errors() {
            server.logged("out of order")?;
        } else {
            server.logged("trap")?;
        }
    }
    Ok(())
}

/// A project whose service is that of `tests/languages/NAME`. `world` changes the file that says
/// what it uses.
fn replaced(
    language: Language,
    binaries: &Binaries,
    name: &str,
    world: &dyn Fn(String) -> String,
) -> Result<Project> {
    let path = source(language);
    let file = path.rsplit('/').next().context("a path has a name")?;
    let own = fs::read_to_string(root().join("tests/languages").join(name).join(file))?;
    let own = own.replace("{{name}}", &format!("{}-{name}", language.name()));
    let service = |_| own.clone();
    let mut changes: Vec<(&str, &dyn Fn(String) -> String)> = vec![(path, &service)];
    match language {
        Language::C => changes.push(("Makefile", world)),
        _ if language.has_wit() => changes.push(("wit/service.wit", world)),
        _ => {}
    }
    Project::make(binaries, language, "echo", name, &changes)
}

/// A timer that writes three times, and is cleared.
fn pings(language: Language, binaries: &Binaries) -> Result<()> {
    let with_timers = |world: String| {
        let wit = world.replace("FEATURES =", "FEATURES = -DHALFOPEN_TIMERS");
        let wit = wit.replace(
            "// import halfopen:tcp/timers",
            "import halfopen:tcp/timers",
        );
        wit.replace("// export halfopen:tcp/timer", "export halfopen:tcp/timer")
    };
    let project = replaced(language, binaries, "pinger", &with_timers)?;
    project.build(binaries)?;
    for runner in RUNNERS {
        let server = runner.start(binaries, &project.name, &[])?;
        let begun = Instant::now();
        let mut client = Client::connect(server.address())?;
        ensure!(client.receive(15)? == b"ping\nping\nping\n", "no pings");
        let took = begun.elapsed();
        ensure!(took >= Duration::from_millis(300), "three in {took:?}");
        client.silence(Duration::from_millis(300))?;
        client.fin()?;
        ensure!(client.end()? == (Vec::new(), End::Fin), "more came");
    }
    Ok(())
}

/// `halfopen dev` serves what is written, and again what is changed.
fn develops(language: Language, binaries: &Binaries) -> Result<()> {
    let project = Project::make(binaries, language, "echo", "dev", &[])?;
    let words = [
        binaries.halfopen.display().to_string(),
        "dev".to_owned(),
        ".".to_owned(),
        "--listen".to_owned(),
        "127.0.0.1:0".to_owned(),
    ];
    let server = languages::start(project.command(&words, binaries))?;
    let prints = |line: &str| -> Result<bool> {
        let mut client = Client::connect(server.address())?;
        client.fin()?;
        ensure!(client.end()?.1 == End::Fin, "the service has failed");
        Ok(server.printed(0).iter().any(|printed| printed == line))
    };
    eventually("the service prints `EOF.`", || prints("EOF."))?;
    let path = project.folder.join(source(language));
    let text = fs::read_to_string(&path)?;
    let changed = text.replace("EOF.", "The end.");
    ensure!(changed != text, "nothing to change");
    let begun = Instant::now();
    fs::write(&path, changed)?;
    let back = eventually("the change is served", || prints("The end."));
    let took = begun.elapsed();
    // A mistake leaves the version before in place.
    let errors = server.errors().len();
    fs::write(&path, "this is no {program")?;
    let wrong = eventually("the build fails", || {
        Ok(server.errors()[errors..]
            .iter()
            .any(|line| line.contains("not built")))
    });
    let served = prints("The end.");
    fs::write(&path, text)?;
    back?;
    println!("{}: a save was back after {took:.1?}", language.name());
    wrong?;
    ensure!(served?, "after a mistake nobody is served any more");
    let address = server.address();
    match language {
        // The kernel stops its server, which nobody else knows of.
        Language::C => server.stop(Signal::KILL).map(drop)?,
        _ => {
            let stopped = server.stop(Signal::INT)?;
            ensure!(stopped.status.success(), "{:?}", stopped.stderr);
        }
    }
    eventually("the port is free", || {
        Ok(TcpStream::connect(address).is_err())
    })
}
