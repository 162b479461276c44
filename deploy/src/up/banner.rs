//! Where everything is, and three lines to try.

use common::nats::Nats;

use super::{UpArgs, services::Services};

pub(super) fn print(args: &UpArgs, nats: &Nats, services: &Services) {
    let info = nats.client.server_info();
    let (shop, payments) = (services.shop_address(), services.payment_address());
    println!(
        "
  The shop is open.

    Store              http://{shop}/
    Operator pages     http://{shop}/operator    (sign in with the operator token: {token})
    API                http://{shop}/openapi.json
    Payment sandbox    http://{payments}/
    nats-server {}  nats://{}:{}   (data in {})

  Try it:

    curl -sX POST http://{shop}/api/checkout_session
    curl -s http://{shop}/api/products
    nats stream view HISTORY

  A customer has {} to pay. Ctrl-C stops it; the next `cargo run` goes on where it was.
",
        info.version,
        info.host,
        info.port,
        args.data_dir.display(),
        common::time::in_words(args.payment_timeout),
        token = args.operator_token,
    );
}
