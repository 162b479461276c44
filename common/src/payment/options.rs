//! Which payment provider is used, and how it is reached.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use anyhow::Context as _;

use super::{
    PaymentProvider, WebhookSecrets,
    sandbox::{DEVELOPMENT_SECRET, SandboxProvider},
    stripe::StripeProvider,
};
use crate::time::parse_duration;

/// The payment providers that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProviderChoice {
    /// The provider that comes with the shop; no money moves.
    Sandbox,
    /// Stripe Checkout.
    Stripe,
}

/// A secret from the command line or the environment; its `Debug` text never shows it.
#[derive(Clone)]
pub struct SecretText(String);

impl SecretText {
    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(hidden)")
    }
}

/// Which payment provider is used, and how it is reached.
#[derive(Debug, Clone, clap::Args)]
pub struct PaymentOptions {
    /// Who takes the money.
    #[arg(long, env = "CHECKOUT_PAYMENT_PROVIDER", value_enum, default_value_t = ProviderChoice::Sandbox)]
    pub payment_provider: ProviderChoice,
    /// Where the sandbox's API is.
    #[arg(long, env = "CHECKOUT_PAYMENT_URL", default_value = "http://127.0.0.1:8086", value_name = "URL")]
    pub payment_url: String,
    /// The secret that the provider signs webhooks with; two, separated by a comma, while it is being replaced.
    /// Without one the sandbox's public development secret is used.
    #[arg(long, env = "CHECKOUT_PAYMENT_WEBHOOK_SECRET", hide_env_values = true, value_name = "SECRET[,SECRET]")]
    pub payment_webhook_secret: Option<WebhookSecrets>,
    /// How long one call to the provider may take altogether.
    #[arg(long, env = "CHECKOUT_PAYMENT_CALL_TIMEOUT", default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub payment_call_timeout: Duration,
    /// Stripe's secret API key (`sk_…` or `rk_…`).
    #[arg(long, env = "STRIPE_SECRET_KEY", hide_env_values = true, value_name = "KEY")]
    pub stripe_secret_key: Option<SecretText>,
    /// Where Stripe's API is.
    #[arg(long, env = "CHECKOUT_STRIPE_URL", default_value = "https://api.stripe.com", value_name = "URL")]
    pub stripe_url: String,
    /// Where customers find the shop: Stripe sends them back to `<this>/checkout/<id>`.
    #[arg(long, env = "CHECKOUT_SHOP_URL", default_value = "http://127.0.0.1:8082", value_name = "URL")]
    pub shop_url: String,
}

impl PaymentOptions {
    /// The provider that was chosen, ready to be called. Nothing is sent yet.
    ///
    /// # Errors
    /// When a URL cannot be used, or Stripe was chosen without its key and webhook secret.
    pub fn build(&self) -> anyhow::Result<Arc<dyn PaymentProvider>> {
        let given = self.payment_webhook_secret.clone();
        let secrets = match self.payment_provider {
            ProviderChoice::Sandbox => secrets_or_development(given)?,
            ProviderChoice::Stripe => given.context(
                "Stripe was chosen without its webhook secret: set CHECKOUT_PAYMENT_WEBHOOK_SECRET (whsec_… of the endpoint)",
            )?,
        };
        self.build_with(secrets)
    }

    /// The same for a program that only calls the provider and takes no webhooks: it needs no secret.
    ///
    /// # Errors
    /// When a URL cannot be used, or Stripe was chosen without its key.
    pub fn build_for_calls(&self) -> anyhow::Result<Arc<dyn PaymentProvider>> {
        self.build_with(self.payment_webhook_secret.clone().map_or_else(|| DEVELOPMENT_SECRET.parse(), Ok)?)
    }

    fn build_with(&self, secrets: WebhookSecrets) -> anyhow::Result<Arc<dyn PaymentProvider>> {
        let timeout = self.payment_call_timeout;
        match self.payment_provider {
            ProviderChoice::Sandbox => Ok(Arc::new(SandboxProvider::new(&self.payment_url, secrets, timeout)?)),
            ProviderChoice::Stripe => {
                let key = self.stripe_secret_key.clone().context(
                    "Stripe was chosen without its API key: set STRIPE_SECRET_KEY (Stripe dashboard, Developers, API keys)",
                )?;
                Ok(Arc::new(StripeProvider::new(&self.stripe_url, key, secrets, &self.shop_url, timeout)?))
            }
        }
    }
}

/// The given secrets, or the sandbox's public one with a warning: whoever uses it lets anybody say "paid".
///
/// # Errors
/// Never in practice: the development secret is well-formed.
pub fn secrets_or_development(secrets: Option<WebhookSecrets>) -> anyhow::Result<WebhookSecrets> {
    if let Some(secrets) = secrets {
        return Ok(secrets);
    }
    // The whole shop in one process asks twice; once is enough to be heard.
    static WARNED: std::sync::Once = std::sync::Once::new();
    WARNED.call_once(warn_of_the_development_secret);
    Ok(DEVELOPMENT_SECRET.parse()?)
}

fn warn_of_the_development_secret() {
    tracing::warn!(
        "no webhook secret is set, so the sandbox's public development secret is used and anybody can pretend a \
         payment; set CHECKOUT_PAYMENT_WEBHOOK_SECRET for anything but trying out"
    );
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        payment: PaymentOptions,
    }

    fn options(arguments: &[&str]) -> PaymentOptions {
        let arguments = ["program"].iter().chain(arguments);
        Program::try_parse_from(arguments).expect("valid flags").payment
    }

    #[test]
    fn without_flags_it_is_the_sandbox() {
        let provider = options(&[]).build().expect("a provider");
        assert_eq!(provider.name().as_str(), "sandbox");
    }

    #[test]
    fn stripe_needs_its_key_and_its_webhook_secret() {
        let key = "--stripe-secret-key=sk_test_1";
        let secret = "--payment-webhook-secret=whsec_of_the_endpoint";
        let stripe = "--payment-provider=stripe";
        let message = |arguments: &[&str]| options(arguments).build().map(|_| ()).expect_err("incomplete").to_string();
        assert!(message(&[stripe, secret]).contains("STRIPE_SECRET_KEY"));
        assert!(message(&[stripe, key]).contains("CHECKOUT_PAYMENT_WEBHOOK_SECRET"));
        assert!(options(&[stripe, key]).build_for_calls().is_ok(), "who takes no webhooks needs no secret for them");
        let provider = options(&[stripe, key, secret, "--stripe-url=http://127.0.0.1:1"]).build().expect("a provider");
        assert_eq!(provider.name().as_str(), "stripe");
    }

    #[test]
    fn secrets_do_not_reach_the_log() {
        let options =
            options(&["--stripe-secret-key=sk_live_visible", "--payment-webhook-secret=whsec_visible_secret"]);
        let logged = format!("{options:?}");
        assert!(!logged.contains("visible"), "{logged}");
    }
}
