//! The npm package, as its users have it: packed, installed, and used from JavaScript, from
//! TypeScript and from the shell, on Node, Bun and Deno. Needs `node` and `npm`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::{guest_path, root};
use halfopen_tests::server::{Server, command};
use halfopen_tests::tools::{is_missing, skipped};
use rustix::process::Signal;
use tempfile::TempDir;

/// The sources of the package.
fn sources() -> PathBuf {
    root().join("host/node")
}

/// Runs a command, and returns its standard output.
fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{command:?}:\n{out}\n{errors}");
    Ok(out)
}

fn npm(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut npm = command("npm", arguments);
    npm.current_dir(folder);
    npm.args(["--no-audit", "--no-fund", "--offline"]);
    output(npm)
}

/// Packs the package, and installs the file in an empty folder.
fn installed() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let place = folder.path().to_str().context("a folder is not UTF-8")?;
    npm(&sources(), &["pack", "--pack-destination", place])?;
    let file = fs::read_dir(&folder)?
        .next()
        .context("nothing was packed")??;
    fs::write(
        folder.path().join("package.json"),
        r#"{ "private": true, "type": "module" }"#,
    )?;
    let file = file.file_name();
    let file = format!("./{}", file.to_string_lossy());
    npm(folder.path(), &["install", &file])?;
    Ok(folder)
}

/// Checks that a server echoes, keeps the directions apart, and stops when it is asked to.
fn serves(server: Server) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    client.exchange(1 << 20, 1)?;
    let mut client = Client::connect(server.address())?;
    client.send(b"q")?;
    ensure!(client.end()? == (b"q".to_vec(), End::Fin));
    // The other direction is still open.
    client.send(b"behind the end")?;
    client.fin()?;
    let mut client = Client::connect(server.address())?;
    client.send(b"x")?;
    ensure!(client.receive(1)? == b"x");
    client.reset()?;
    Client::connect(server.address())?.exchange(1000, 1)?;
    let stopped = server.stop(Signal::TERM)?;
    ensure!(stopped.status.success(), "{stopped:?}");
    ensure!(stopped.stderr.is_empty(), "{stopped:?}");
    Ok(())
}

/// The arguments of the command, to serve an echo.
fn serve_echo(command: &mut Command) {
    command.arg("serve").arg(guest_path("echo"));
    command.args(["--listen", "127.0.0.1:0", "--", "--quiet"]);
}

#[test]
fn the_package_has_what_it_needs_and_no_more() -> Result<()> {
    if is_missing("npm", "the npm package")? {
        return Ok(());
    }
    let packed = npm(&sources(), &["pack", "--dry-run", "--json"])?;
    let packed: serde_json::Value = serde_json::from_str(&packed)?;
    let packed = packed.get(0).unwrap_or(&packed);
    let files = packed["files"].as_array().context("no files")?;
    let mut files: Vec<_> = files
        .iter()
        .filter_map(|file| file["path"].as_str())
        .collect();
    files.retain(|file| !(file.starts_with("src/") && file.ends_with(".js")));
    files.sort_unstable();
    let expected = [
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "bin/halfopen.js",
        "index.d.ts",
        "package.json",
    ];
    ensure!(files == expected, "{files:?}");
    ensure!(packed["version"] == env!("CARGO_PKG_VERSION"), "{packed:?}");
    for license in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let same = fs::read(root().join(license))? == fs::read(sources().join(license))?;
        ensure!(same, "`host/node/{license}` is not `{license}`");
    }
    Ok(())
}

#[test]
fn it_serves_from_javascript() -> Result<()> {
    if is_missing("npm", "the npm package")? {
        return Ok(());
    }
    let folder = installed()?;
    let script = folder.path().join("server.js");
    fs::write(
        &script,
        "import { serve } from 'halfopen';\n\
         const server = await serve(process.argv[2], { port: 0, args: ['--quiet'] });\n\
         console.log(`127.0.0.1:${server.address().port}`);\n\
         process.once('SIGTERM', () => server.stop(10_000));\n",
    )?;
    let mut node = command("node", [script]);
    node.arg(guest_path("echo"));
    serves(Server::start(node, 1)?)
}

#[test]
fn it_serves_from_the_shell() -> Result<()> {
    if is_missing("npm", "the npm package")? {
        return Ok(());
    }
    let folder = installed()?;
    // As npx finds it; npx itself passes no signals on.
    let mut halfopen = Command::new(folder.path().join("node_modules/.bin/halfopen"));
    serve_echo(&mut halfopen);
    serves(Server::start(halfopen, 1)?)?;
    let mut npx = command("npx", ["--no", "--", "halfopen", "--version"]);
    npx.current_dir(&folder);
    let version = format!("halfopen {} for Node\n", env!("CARGO_PKG_VERSION"));
    ensure!(output(npx)? == version);
    Ok(())
}

/// A server of TLS, and its client, which sends FIN and then gets an answer.
const TLS: &str = "
import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import { listener } from 'halfopen';
const [component, key, cert] = [process.argv[2], readFileSync('key.pem'), readFileSync('cert.pem')];
const serves = await listener(component);
const server = tls.createServer({ key, cert, allowHalfOpen: true }, serves);
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const client = tls.connect({ port, ca: cert, servername: 'localhost', allowHalfOpen: true });
  let received = '';
  client.on('data', (data) => (received += data));
  client.on('end', () => {
    console.log(JSON.stringify(received));
    client.destroy();
    server.close();
  });
  client.end('tls 0\\nwrite 0 x\\n');
});
";

#[test]
fn it_serves_behind_tls() -> Result<()> {
    if is_missing("npm", "the npm package")? {
        return Ok(());
    }
    let folder = installed()?;
    let named = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let place = |name: &str| folder.path().join(name);
    fs::write(place("cert.pem"), named.cert.pem())?;
    fs::write(place("key.pem"), named.signing_key.serialize_pem())?;
    fs::write(place("tls.js"), TLS)?;
    let mut node = command("node", ["tls.js"]);
    node.arg(guest_path("wheel")).current_dir(&folder);
    let printed = output(node)?;
    ensure!(printed == "\"tls true\\nxmore\\nend 0\\n\"\n", "{printed}");
    Ok(())
}

#[test]
fn it_has_types() -> Result<()> {
    if is_missing("npm", "the npm package")? {
        return Ok(());
    }
    let tsc = sources().join("node_modules/.bin/tsc");
    if !tsc.exists() {
        return skipped(
            "the types of the npm package",
            "`npm ci --prefix host/node`",
        );
    }
    // The sources are what their comments say.
    output(command(&tsc, [Path::new("--project"), &sources()]))?;
    let folder = installed()?;
    let right = "import { serve, listener, ComponentError, type Server } from 'halfopen';\n\
        import net from 'node:net';\n\
        const server: Server = await serve('echo.wasm', { port: 0, isolation: 'shared' });\n\
        const reset: number = await server.stop(1_000);\n\
        net.createServer({ allowHalfOpen: true }, await listener(new URL('file:///echo.wasm')));\n\
        console.log(reset, ComponentError.name);\n";
    let check = |text: &str| -> Result<String> {
        fs::write(folder.path().join("server.ts"), text)?;
        let mut tsc = command(&tsc, ["--noEmit", "--strict", "--target", "es2022"]);
        tsc.args(["--module", "nodenext", "--types", "node", "--typeRoots"]);
        tsc.arg(sources().join("node_modules/@types"));
        tsc.arg("server.ts").current_dir(&folder);
        output(tsc)
    };
    check(right)?;
    let wrong = check(&right.replace("port: 0", "prot: 0"));
    ensure!(wrong.is_err(), "an option that does not exist passes");
    Ok(())
}

#[test]
fn it_passes_its_own_tests() -> Result<()> {
    if is_missing("node", "the tests of the npm package")? {
        return Ok(());
    }
    // At its end Node waits for the threads of V8 that compile JavaScript, and one of them may wait
    // for Node's main thread to collect garbage: Node 20 then hangs.
    let mut node = command("node", ["--no-concurrent-recompilation", "--test", "test/"]);
    node.current_dir(sources());
    output(node).map(drop)
}

/// Serves under another program that runs JavaScript, which `tests/node` has.
fn serves_under(name: &str, arguments: &[&str]) -> Result<()> {
    let program = root().join("tests/node/node_modules/.bin").join(name);
    if !program.exists() {
        let what = format!("the npm package on {name}");
        return skipped(&what, "`npm ci --prefix tests/node`");
    }
    let mut other = command(program, arguments);
    other.arg(sources().join("bin/halfopen.js"));
    serve_echo(&mut other);
    serves(Server::start(other, 1)?)
}

#[test]
fn it_serves_on_bun() -> Result<()> {
    serves_under("bun", &[])
}

#[test]
fn it_serves_on_deno() -> Result<()> {
    serves_under("deno", &["run", "--quiet", "--allow-net", "--allow-read"])
}
