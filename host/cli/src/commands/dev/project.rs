//! How the sources in a folder become a component: the tool, and what it builds.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::Value;

use super::tool::Tool;

/// Where the templates build, below the folder of the service.
const OUTPUT: &str = "build/service.wasm";
/// Where they build what only this command serves, and the variables that it needs. A language
/// whose component is dear to build has it load the sources from a variable.
const DEV_OUTPUT: &str = "build/dev/service.wasm";
const DEV_VARIABLES: &str = "build/dev/env";

/// A folder of sources, and its tool.
#[derive(Debug)]
pub(super) struct Project {
    folder: PathBuf,
    kind: Kind,
}

/// What builds it.
#[derive(Debug)]
enum Kind {
    /// `Cargo.toml`
    Cargo,
    /// `package.json`: its script `dev` or `build`, and `check`, which runs beside the server.
    Scripts {
        build: String,
        check: Option<String>,
        dev: bool,
    },
    /// `Makefile`: its target `dev`, or the first one.
    Make { dev: bool },
}

/// A build in progress.
#[derive(Debug)]
pub(super) struct Build {
    tool: Tool,
    built: Built,
    begun: Instant,
}

/// How a build has ended.
pub(super) enum Outcome {
    Built(PathBuf),
    /// The tool has said why.
    Failed,
}

/// Where the component will be.
#[derive(Debug)]
enum Built {
    At(PathBuf),
    /// The tool says it.
    Told(Option<JoinHandle<Option<PathBuf>>>),
}

impl Project {
    /// Finds out how to build what is in a folder.
    ///
    /// # Errors
    /// If there is no file of a known tool, or it has mistakes.
    pub(super) fn find(folder: &Path) -> anyhow::Result<Self> {
        let has = |name: &str| folder.join(name).exists();
        let kind = if has("Cargo.toml") {
            Kind::Cargo
        } else if has("package.json") {
            scripts(&folder.join("package.json"))?
        } else if has("Makefile") {
            let text = fs::read_to_string(folder.join("Makefile")).unwrap_or_default();
            Kind::Make {
                dev: text.lines().any(|line| line.starts_with("dev:")),
            }
        } else {
            bail!(
                "cannot build `{}`: it has no Cargo.toml, package.json or Makefile; `halfopen new` makes a folder that has",
                folder.display()
            );
        };
        Ok(Project {
            folder: folder.to_owned(),
            kind,
        })
    }

    /// The command that builds, for people.
    pub(super) fn command(&self) -> &str {
        match &self.kind {
            Kind::Cargo => "cargo build --target wasm32-wasip2",
            Kind::Scripts { build, .. } => build,
            Kind::Make { dev: true } => "make dev",
            Kind::Make { dev: false } => "make",
        }
    }

    /// Starts to build.
    ///
    /// # Errors
    /// If the tool cannot be started.
    pub(super) fn build(&self) -> anyhow::Result<Build> {
        let mut command = match &self.kind {
            Kind::Cargo => {
                let mut command = self.program("cargo");
                command.args(["build", "--quiet", "--target", "wasm32-wasip2"]);
                command.arg("--message-format=json-render-diagnostics");
                command.stdout(Stdio::piped());
                command
            }
            Kind::Scripts { build, .. } => self.shell(build),
            Kind::Make { dev } => {
                let mut command = self.program("make");
                command.args(["--silent", "--no-print-directory"]);
                if let Ok(own) = env::current_exe() {
                    command.arg(format!("HALFOPEN={}", own.display()));
                }
                command.args(dev.then_some("dev"));
                command
            }
        };
        let begun = Instant::now();
        let mut tool = Tool::start(&mut command)?;
        let built = match tool.process().stdout.take() {
            Some(output) => Built::Told(Some(thread::spawn(move || artifact(output)))),
            None => Built::At(self.folder.join(self.output())),
        };
        Ok(Build { tool, built, begun })
    }

    fn is_dev(&self) -> bool {
        matches!(
            self.kind,
            Kind::Scripts { dev: true, .. } | Kind::Make { dev: true }
        )
    }

    fn output(&self) -> &'static str {
        match self.is_dev() {
            true => DEV_OUTPUT,
            false => OUTPUT,
        }
    }

    /// The file of variables that the component needs.
    pub(super) fn variables(&self) -> Option<PathBuf> {
        self.is_dev().then(|| self.folder.join(DEV_VARIABLES))
    }

    /// Starts what checks the sources and builds nothing, if there is such a thing.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn check(&self) -> anyhow::Result<Option<Tool>> {
        match &self.kind {
            Kind::Scripts {
                check: Some(check), ..
            } => Tool::start(&mut self.shell(check)).map(Some),
            _ => Ok(None),
        }
    }

    /// A script of package.json, as npm runs it: in a shell that finds the tools of the folder.
    fn shell(&self, script: &str) -> Command {
        let mut command = self.program("sh");
        command.args(["-c", script]);
        command
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env("PATH", self.path());
        command
    }

    /// The folders in which tools are looked for: first those that were installed for this service.
    fn path(&self) -> OsString {
        let own = ["node_modules/.bin", ".venv/bin"].map(|path| {
            let folder = self.folder.join(path);
            fs::canonicalize(&folder).unwrap_or(folder)
        });
        let path = env::var_os("PATH").unwrap_or_default();
        let all = own.into_iter().chain(env::split_paths(&path));
        env::join_paths(all).unwrap_or(path)
    }
}

impl Build {
    /// When the build began.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// How the build has ended; `None` while it runs.
    ///
    /// # Errors
    /// If the tool has built no component.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<Outcome>> {
        let status = self.tool.process().try_wait();
        let Some(status) = status.context("cannot wait for the build")? else {
            return Ok(None);
        };
        if !status.success() {
            return Ok(Some(Outcome::Failed));
        }
        let component = match &mut self.built {
            Built::At(path) => Some(path.clone()),
            Built::Told(told) => told.take().and_then(|told| told.join().ok().flatten()),
        };
        let component = component
            .context("cargo built no component; the crate needs `crate-type = [\"cdylib\"]`")?;
        Ok(Some(Outcome::Built(component)))
    }

    pub(super) fn into_tool(self) -> Tool {
        self.tool
    }
}

/// The component that cargo reports to have built, the last if there are several.
fn artifact(output: impl io::Read) -> Option<PathBuf> {
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    let messages = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let files = messages.filter_map(|message| {
        let files = message.get("filenames")?.as_array()?.clone();
        let mut paths = files.iter().filter_map(Value::as_str);
        paths
            .find(|path| path.ends_with(".wasm"))
            .map(PathBuf::from)
    });
    files.last()
}

fn scripts(path: &Path) -> anyhow::Result<Kind> {
    let cannot = || format!("cannot read `{}`", path.display());
    let text = fs::read_to_string(path).with_context(cannot)?;
    let package: Value = serde_json::from_str(&text).with_context(cannot)?;
    let script = |name: &str| package["scripts"][name].as_str().map(str::to_owned);
    let dev = script("dev");
    let is_dev = dev.is_some();
    let build = dev.or_else(|| script("build")).with_context(|| {
        format!(
            "`{}` has no script `build`; add one that writes {OUTPUT}",
            path.display()
        )
    })?;
    Ok(Kind::Scripts {
        build,
        check: script("check"),
        dev: is_dev,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_what_it_built() {
        let output = concat!(
            r#"{"reason":"compiler-artifact","filenames":["/t/libwit.rlib"]}"#,
            "\nno json\n",
            r#"{"reason":"compiler-artifact","filenames":["/t/service.wasm"]}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let built = artifact(output.as_bytes());
        assert_eq!(built.as_deref(), Some(Path::new("/t/service.wasm")));
        assert_eq!(artifact(&b""[..]), None);
    }

    #[test]
    fn a_folder_without_a_tool_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = Project::find(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("no Cargo.toml, package.json or Makefile"),
            "{error}"
        );
        fs::write(folder.path().join("package.json"), "{}").unwrap();
        let error = Project::find(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has no script `build`"), "{error}");
    }
}
