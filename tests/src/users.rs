//! The users and permissions that the project ships, with passwords for a story.

/// Each user with the variable that holds its password.
const USERS: [(&str, &str); 7] = [
    ("gateway", "$CHECKOUT_GATEWAY_PASSWORD"),
    ("workflow-worker", "$CHECKOUT_WORKER_PASSWORD"),
    ("inventory-service", "$CHECKOUT_INVENTORY_PASSWORD"),
    ("provisioner", "$CHECKOUT_PROVISIONER_PASSWORD"),
    ("operator", "$CHECKOUT_OPERATOR_PASSWORD"),
    ("observer", "$CHECKOUT_OBSERVER_PASSWORD"),
    ("break-glass", "$CHECKOUT_BREAK_GLASS_PASSWORD"),
];

/// The password of a user in stories.
#[must_use]
pub fn password_of(user: &str) -> String {
    format!("the-password-of-{user}")
}

/// `deploy/nats/permissions.conf` with these passwords.
#[must_use]
pub fn permissions() -> String {
    let text = include_str!("../../deploy/nats/permissions.conf").to_owned();
    USERS.iter().fold(text, |text, (user, variable)| text.replace(variable, &format!("\"{}\"", password_of(user))))
}

/// The addresses of servers as a user connects to them.
#[must_use]
pub fn url_as(url: &str, user: &str) -> String {
    url.replace("nats://", &format!("nats://{user}:{}@", password_of(user)))
}
