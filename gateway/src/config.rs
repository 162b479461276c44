//! What can be set from outside: one flag, one variable, one default and one reason for each.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use anyhow::Context as _;
use common::{
    high_water::HighWaterOptions,
    ids::{InvalidName, Sku},
    payment::SecretText,
    service::http::HttpOptions,
    time::parse_duration,
};

use crate::operators::Operators;

/// The gateway's settings.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where the API and the pages are served; port 0 takes a free one.
    #[arg(long, env = "CHECKOUT_LISTEN", default_value = "127.0.0.1:8082", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// How long a POST waits for the payment link before it answers 202 and goes on without the client.
    #[arg(long, env = "CHECKOUT_ANSWER_TIMEOUT", default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub answer_timeout: Duration,
    /// What is bought when a request names nothing: a SKU, `first` of the catalogue, or `none` to refuse such requests.
    #[arg(long, env = "CHECKOUT_DEFAULT_PRODUCT", default_value = "first", value_name = "SKU")]
    pub default_product: DefaultProduct,
    /// The token that restocks and refunds need (`Authorization: Bearer <token>`); without one nobody can do them. With
    /// several people each has their own, `alice:TOKEN,bob:TOKEN`, and what they do is recorded with their name.
    #[arg(long, env = "CHECKOUT_OPERATOR_TOKEN", hide_env_values = true, value_name = "TOKENS")]
    pub operator_token: Option<SecretText>,
    /// A file that holds the operator token, or one on each line.
    #[arg(long, env = "CHECKOUT_OPERATOR_TOKEN_FILE", conflicts_with = "operator_token", value_name = "FILE")]
    pub operator_token_file: Option<PathBuf>,
    /// Largest request body in bytes; a cart of the most lines takes a tenth of the default. Webhooks have a limit of
    /// their own.
    #[arg(long, env = "CHECKOUT_MAX_BODY_BYTES", default_value_t = 64 * 1024, value_name = "BYTES")]
    pub max_body_bytes: usize,
    /// API requests per second that one client address may send in the long run, webhooks excepted; 0 is no limit.
    #[arg(long, env = "CHECKOUT_RATE_LIMIT", default_value_t = 2_000, value_name = "PER_SECOND")]
    pub rate_limit: u32,
    /// POSTs that may wait for their payment link at the same time; more are answered 503.
    #[arg(long, env = "CHECKOUT_MAX_WAITING", default_value_t = 4_096, value_name = "REQUESTS")]
    pub max_waiting: usize,
    /// Start although the streams are not synced on every write. For throw-away tests: a power cut loses orders.
    #[arg(long, env = "CHECKOUT_ALLOW_UNSYNCED")]
    pub allow_unsynced: bool,
    /// Where it is noted how far commands and webhooks are stored.
    #[command(flatten)]
    pub high_water: HighWaterOptions,
    /// How connections and requests are bounded.
    #[command(flatten)]
    pub http: HttpOptions,
}

impl Default for Config {
    /// The same as without flags and variables, except that the operator token is not set.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8082)),
            answer_timeout: Duration::from_secs(10),
            default_product: DefaultProduct::First,
            operator_token: None,
            operator_token_file: None,
            max_body_bytes: 64 * 1024,
            rate_limit: 2_000,
            max_waiting: 4_096,
            allow_unsynced: false,
            high_water: HighWaterOptions::default(),
            http: HttpOptions::default(),
        }
    }
}

impl Config {
    /// Who may operate the shop, from wherever it was given; nobody when it was not.
    ///
    /// # Errors
    /// When the file cannot be read, or what is given is no list of tokens.
    pub(crate) fn operators(&self) -> anyhow::Result<Operators> {
        match (&self.operator_token_file, &self.operator_token) {
            (Some(file), _) => std::fs::read_to_string(file)
                .map_err(anyhow::Error::from)
                .and_then(|text| Operators::read(&text))
                .with_context(|| format!("read the operator token from {}", file.display())),
            (None, Some(text)) => Operators::read(text.expose()),
            (None, None) => Ok(Operators::default()),
        }
    }
}

/// What is bought when a request names nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultProduct {
    /// Nothing: such a request is refused.
    None,
    /// The first article of the catalogue, in the order of the SKUs.
    First,
    /// This one.
    Sku(Sku),
}

impl FromStr for DefaultProduct {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "none" => Ok(Self::None),
            "first" => Ok(Self::First),
            sku => sku.parse().map(Self::Sku),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn the_default_is_what_no_flags_mean() {
        let flags = Flags::parse_from(["gateway"]);
        assert_eq!(format!("{:?}", flags.config), format!("{:?}", Config::default()));
    }

    #[test]
    fn a_token_is_never_shown_and_a_short_one_is_refused() {
        let flags = Flags::parse_from(["gateway", "--operator-token", "a-long-enough-token"]);
        assert!(!format!("{:?}", flags.config).contains("long-enough"));
        assert!(flags.config.operators().expect("long enough").who_has("a-long-enough-token").is_some());
        let short = Flags::parse_from(["gateway", "--operator-token", "short"]);
        assert!(short.config.operators().is_err());
        assert!(Config::default().operators().expect("nobody").is_empty());
    }

    #[test]
    fn a_token_can_come_from_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "a-long-enough-token\nalice:the-token-of-alice\n").expect("write");
        let config = Config { operator_token_file: Some(file), ..Config::default() };
        let operators = config.operators().expect("readable");
        let who = |token: &str| operators.who_has(token).map(ToString::to_string);
        assert_eq!(who("a-long-enough-token").as_deref(), Some("operator"));
        assert_eq!(who("the-token-of-alice").as_deref(), Some("alice"));
    }
}
