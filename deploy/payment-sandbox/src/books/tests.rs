//! Whatever is asked, in whatever order and however often: nobody is charged twice, no more goes back than was taken,
//! and what is refused leaves no trace.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;
use redb::{Database, backends::InMemoryBackend};

use super::*;
use crate::session::SessionLine;

/// Something that is asked; sessions, keys and references are chosen from few, so that they meet.
#[derive(Debug, Clone)]
enum Asked {
    Create { key: u8, reference: u8, expires_in: i64 },
    Decide { session: u8, decision: Decision, late: bool },
    Expire { session: u8 },
    ExpireReference { reference: u8 },
    Refund { key: u8, session: u8, amount: i64 },
    Wait { seconds: i64 },
}

fn asked() -> impl Strategy<Value = Asked> {
    let decision = prop_oneof![Just(Decision::Pay), Just(Decision::Decline), Just(Decision::Cancel)];
    prop_oneof![
        (0..6_u8, 0..4_u8, 0..20_i64).prop_map(|(key, reference, expires_in)| Asked::Create {
            key,
            reference,
            expires_in
        }),
        (0..5_u8, decision, prop::bool::weighted(0.2)).prop_map(|(session, decision, late)| Asked::Decide {
            session,
            decision,
            late
        }),
        (0..5_u8).prop_map(|session| Asked::Expire { session }),
        (0..4_u8).prop_map(|reference| Asked::ExpireReference { reference }),
        (0..6_u8, 0..5_u8, prop::sample::select(vec![1_i64, 50, 99, 100, 101]))
            .prop_map(|(key, session, amount)| Asked::Refund { key, session, amount }),
        (0..8_i64).prop_map(|seconds| Asked::Wait { seconds }),
    ]
}

fn order(reference: u8, expires_at: Timestamp) -> Order {
    Order {
        client_reference_id: format!("order-{reference}"),
        amount: Money::eur(100),
        lines: vec![SessionLine { name: "Mug".into(), quantity: 1, unit_amount: 100 }],
        expires_at,
    }
}

/// Every session, in the order in which they were opened.
fn sessions(books: &Books<'_>) -> Vec<Session> {
    let rows = books.sessions.iter().expect("the table can be read");
    rows.map(|row| decode(row.expect("a row").1.value()).expect("JSON")).collect()
}

/// Everything that is stored, to see whether something has changed.
fn everything(books: &Books<'_>) -> String {
    let keys: Vec<_> =
        books.keys.iter().expect("readable").map(|row| format!("{:?}", row.expect("a row").0.value())).collect();
    let closed: Vec<_> =
        books.closed_references.iter().expect("readable").map(|row| row.expect("a row").0.value().to_owned()).collect();
    let events = books.events.iter().expect("readable").count();
    format!("{:?} {keys:?} {closed:?} {events}", sessions(books))
}

/// Do it; the answer in words, or the refusal.
fn do_it(books: &mut Books<'_>, asked: &Asked, now: Timestamp) -> Result<String, Refusal> {
    let opened = sessions(books);
    let id = |index: &u8| {
        opened.get(usize::from(*index)).map_or("cs_nobody".into(), |session| session.session_id.to_string())
    };
    let told = match asked {
        Asked::Create { key, reference, expires_in } => {
            // The expiry follows from the key and the reference, so that a repeat is the same order.
            let expires_at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(10 * i64::from(*key) + expires_in);
            books
                .create(&key.to_string(), order(*reference, expires_at), now)
                .map(|(session, _)| format!("{session:?}"))
        }
        Asked::Decide { session, decision, late } => {
            books.decide(&id(session), *decision, *late, now).map(|session| format!("{session:?}"))
        }
        Asked::Expire { session } => books.expire(&id(session), now).map(|session| format!("{session:?}")),
        Asked::ExpireReference { reference } => {
            books.expire_reference(&format!("order-{reference}"), now).map(|session| format!("{session:?}"))
        }
        Asked::Refund { key, session, amount } => {
            books.refund(&key.to_string(), &id(session), Money::eur(*amount), now).map(|refund| format!("{refund:?}"))
        }
        Asked::Wait { .. } => Ok(String::new()),
    };
    told.map_err(|error| match error {
        BooksError::Refused(refusal) => refusal,
        BooksError::Storage(error) => panic!("a database in memory cannot fail: {error}"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_books_are_right_whatever_is_asked(script in prop::collection::vec(asked(), 1..60)) {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).expect("a database in memory");
        let transaction = database.begin_write().expect("a transaction");
        let mut books = Books::open(&transaction).expect("the tables");
        let mut now = Timestamp::UNIX_EPOCH;
        let mut events_told = BTreeMap::<String, PaymentStatus>::new();
        let mut changes = 0;
        for asked in &script {
            if let Asked::Wait { seconds } = asked {
                now += SignedDuration::from_secs(*seconds);
            }
            let before = everything(&books);
            match do_it(&mut books, asked, now) {
                Ok(told) => {
                    let after = everything(&books);
                    prop_assert_eq!(do_it(&mut books, asked, now), Ok(told), "asked again, the answer is the same");
                    prop_assert_eq!(everything(&books), after, "and nothing more happens");
                }
                Err(_) => prop_assert_eq!(everything(&books), before, "a refusal leaves no trace"),
            }
            for session in sessions(&books) {
                let paid = session.status == SessionStatus::Paid;
                prop_assert_eq!(session.charges.len(), usize::from(paid), "charged once if paid, else never");
                prop_assert!((0..=100).contains(&session.refundable()));
                let id = session.session_id.to_string();
                let status = session.payment_status;
                if events_told.insert(id, status).unwrap_or(PaymentStatus::Unpaid) != status {
                    changes += 1;
                }
            }
            prop_assert_eq!(books.events.iter().expect("readable").count(), changes, "one event for each change");
        }
    }
}
