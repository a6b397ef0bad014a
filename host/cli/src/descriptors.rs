//! The limit on open files: RLIMIT_NOFILE, in getrlimit(2).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for other things than connections: listeners, files, the runtime.
const OTHERS: u64 = 64;

/// Raises the soft limit of this process to the hard one. Returns what to tell the operator,
/// if it was lower.
///
/// The soft limit is low, usually 1,024, for programs that use select(2), which halfopen
/// does not.
pub(crate) fn raise() -> Option<String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return None;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let (before, after) = (text(limit.current), text(limit.maximum));
    Some(match setrlimit(Resource::Nofile, raised) {
        Ok(()) => format!("raised the limit on open files from {before} to {after}"),
        Err(error) => {
            format!("cannot raise the limit on open files from {before} to {after}: {error}")
        }
    })
}

/// Returns what to tell the operator if the limit is too low for so many connections.
pub(crate) fn too_low_for(connections: usize) -> Option<String> {
    let limit = getrlimit(Resource::Nofile).current?;
    let needed = u64::try_from(connections).ok()?.saturating_add(OTHERS);
    (limit < needed).then(|| {
        format!(
            "the limit on open files is {limit}, and {connections} connections need {needed}: \
             beyond it, connections wait; raise it with `ulimit -Hn` or LimitNOFILE= of \
             systemd, or lower `--max-connections`"
        )
    })
}

fn text(limit: Option<u64>) -> String {
    limit.map_or("unlimited".to_owned(), |limit| limit.to_string())
}
