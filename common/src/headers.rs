//! The names of our message headers: what a person sees in `nats stream view` and what readers need before the body.

use async_nats::HeaderName;

/// What the message says: a command's type, or the types of a record's events joined with `+`.
pub const TYPE: HeaderName = HeaderName::from_static("Checkout-Type");
/// Unique id of one attempt to append: how a writer recognises its own message after an unknown outcome.
pub const RECORD_ID: HeaderName = HeaderName::from_static("Checkout-Record-Id");
/// A history record's place in its history: 0, 1, 2, …
pub const INDEX: HeaderName = HeaderName::from_static("Checkout-Index");
/// Where the workflow stands after this record.
pub const STATUS: HeaderName = HeaderName::from_static("Checkout-Status");
/// What the workflow does after this record: `run`, `wait` or `done`. The sweep reads it without the body.
pub const NEXT: HeaderName = HeaderName::from_static("Checkout-Next");
/// Until when it waits, RFC 3339; absent when it waits without a deadline or does not wait.
pub const WAIT_UNTIL: HeaderName = HeaderName::from_static("Checkout-Wait-Until");
/// Which service wrote the message.
pub const SENDER: HeaderName = HeaderName::from_static("Checkout-Sender");
/// Why a message was parked.
pub const REASON: HeaderName = HeaderName::from_static("Checkout-Reason");
/// The subject a parked message came from, so that it can be driven again.
pub const ORIGINAL_SUBJECT: HeaderName = HeaderName::from_static("Checkout-Original-Subject");
/// The stream a parked message came from.
pub const ORIGINAL_STREAM: HeaderName = HeaderName::from_static("Checkout-Original-Stream");
/// The sequence that a parked message had in that stream.
pub const ORIGINAL_SEQUENCE: HeaderName = HeaderName::from_static("Checkout-Original-Sequence");
/// The record id that a parked message had; the letter has one of its own.
pub const ORIGINAL_RECORD_ID: HeaderName = HeaderName::from_static("Checkout-Original-Record-Id");
/// How often a parked message had been delivered.
pub const DELIVERIES: HeaderName = HeaderName::from_static("Checkout-Deliveries");
/// Present when a parked message was too large to be kept whole: it can be looked at, but not driven again.
pub const CUT: HeaderName = HeaderName::from_static("Checkout-Cut");
/// The sequence of the dead letter that a message was driven again from: how a repeat is recognised.
pub const REDRIVEN_FROM: HeaderName = HeaderName::from_static("Checkout-Redriven-From");
/// Where a restock's answer is expected.
pub const ANSWER_TO: HeaderName = HeaderName::from_static("Answer-To");
/// On a ledger entry: ids of workflows, joined with spaces, whose answers a person waits for who repairs them. Workers leave them
/// alone.
pub const ANSWERED_IN_PERSON: HeaderName = HeaderName::from_static("Checkout-Answered-In-Person");
/// W3C trace context, passed on from the request that caused the message.
pub const TRACE_PARENT: HeaderName = HeaderName::from_static(TRACE_PARENT_IN_HTTP);
/// The same in a request.
pub const TRACE_PARENT_IN_HTTP: &str = "traceparent";
