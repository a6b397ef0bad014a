//! The connection to a Redis server.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long after a failure to connect requests fail at once.
const AGAIN: Duration = Duration::from_millis(100);

/// A connection that all requests share. A request that finds it broken fails; the next one
/// connects again.
pub(super) struct Link {
    client: Client,
    /// Runs the connection, whoever asks first.
    runtime: Handle,
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// How many connections there have been.
    count: u64,
    /// The last failure to connect.
    failed: Option<(Instant, String)>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    Redis(RedisError),
    /// No answer came in time.
    Time(Duration),
    /// Connecting has failed a moment ago.
    Again(String),
}

impl Link {
    pub(super) fn new(client: Client, limit: Duration) -> Self {
        Link {
            client,
            runtime: Handle::current(),
            limit,
            state: Mutex::default(),
        }
    }

    /// Sends a command, and returns the answer.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        let mut count = 0;
        let asking = async {
            let (mut connection, which) = self.connection().await?;
            count = which;
            command
                .query_async(&mut connection)
                .await
                .map_err(Failure::Redis)
        };
        let answer = match timeout(self.limit, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Time(self.limit)),
        };
        let broken = match &answer {
            Err(Failure::Redis(error)) => error.is_unrecoverable_error() || error.is_io_error(),
            Err(Failure::Time(_)) => true,
            _ => false,
        };
        if broken {
            let mut state = self.state.lock().await;
            if state.count == count {
                state.connection = None;
            }
        }
        answer
    }

    /// Returns the connection, or makes one.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64), Failure> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((connection.clone(), state.count));
        }
        if let Some((when, why)) = &state.failed
            && when.elapsed() < AGAIN
        {
            return Err(Failure::Again(why.clone()));
        }
        let client = self.client.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.limit))
            .set_response_timeout(None);
        // A task of that runtime drives the connection: the runtime of this call may end before.
        let connecting = self.runtime.spawn(async move {
            client
                .get_multiplexed_async_connection_with_config(&config)
                .await
        });
        let connected = match connecting.await {
            Ok(connected) => connected.map_err(Failure::Redis),
            Err(error) => Err(Failure::Again(error.to_string())),
        };
        match connected {
            Ok(connection) => {
                state.count += 1;
                state.failed = None;
                state.connection = Some(connection.clone());
                Ok((connection, state.count))
            }
            Err(failure) => {
                state.failed = Some((Instant::now(), failure.to_string()));
                Err(failure)
            }
        }
    }
}

impl Failure {
    /// Whether the server does not accept the user or the password.
    pub(super) fn is_denial(&self) -> bool {
        let Failure::Redis(error) = self else {
            return false;
        };
        error.kind() == redis::ErrorKind::AuthenticationFailed
            || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Redis(error) => {
                let text = error.to_string();
                let words: Vec<_> = text.split_whitespace().collect();
                f.write_str(&words.join(" "))
            }
            Failure::Time(limit) => write!(f, "no answer within {} s", limit.as_secs_f64()),
            Failure::Again(why) => f.write_str(why),
        }
    }
}
