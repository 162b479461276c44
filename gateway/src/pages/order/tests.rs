//! What the order page must and must not say in each state.

use common::{
    contracts::checkout::{CancelledBy, CheckoutEvent, CheckoutStatus, PaymentStep, RefundStatus},
    money::Money,
};

use super::*;
use crate::pages::samples;

fn html_of(order: &CheckoutView) -> String {
    page(order, samples::at(60)).into_string()
}

fn order_in(status: CheckoutStatus) -> CheckoutView {
    samples::one_of_each().into_iter().find(|order| order.status == status).expect("one of each")
}

/// Words that only a customer who has paid may read.
const WORDS_OF_SUCCESS: [&str; 4] = ["Thank you", "is paid", "The items are yours", "order was confirmed"];

#[test]
fn success_is_shown_only_when_the_order_is_paid() {
    for order in samples::one_of_each() {
        let html = html_of(&order);
        for word in WORDS_OF_SUCCESS {
            let expected = order.status == CheckoutStatus::Paid;
            assert_eq!(html.contains(word), expected, "{word:?} on the page of {:?}", order.status);
        }
    }
}

#[test]
fn every_state_says_what_is_going_on() {
    for (status, words) in [
        (CheckoutStatus::Reserving, "Setting your items aside"),
        (CheckoutStatus::OpeningPayment, "Preparing your payment"),
        (CheckoutStatus::AwaitingPayment, "Your items are waiting for you"),
        (CheckoutStatus::Settling, "We are checking your payment"),
        (CheckoutStatus::Paid, "Thank you! Your order is paid"),
        (CheckoutStatus::Declined, "Your payment was declined"),
        (CheckoutStatus::Cancelled, "This order was cancelled"),
        (CheckoutStatus::Expired, "The time to pay ran out"),
        (CheckoutStatus::OutOfStock, "Sorry, there is not enough in stock"),
        (CheckoutStatus::PaymentUnavailable, "Payment is not possible at the moment"),
    ] {
        let html = html_of(&order_in(status));
        assert!(html.contains(&format!(r#"tabindex="-1">{words}</h1>"#)), "{words:?} for {status:?}: {html}");
    }
}

#[test]
fn only_a_waiting_order_can_be_paid() {
    for order in samples::one_of_each() {
        let expected = order.status == CheckoutStatus::AwaitingPayment;
        assert_eq!(html_of(&order).contains(r#"id="pay""#), expected, "{:?}", order.status);
        assert_eq!(html_of(&order).contains("data-countdown"), expected, "{:?}", order.status);
    }
    let html = html_of(&order_in(CheckoutStatus::AwaitingPayment));
    assert!(html.contains(r#"href="http://127.0.0.1:8086/payment/ps_1""#) && html.contains("Pay €37.00"));
    assert!(html.contains("1:01"), "61 of 121 seconds are left: {html}");
}

#[test]
fn an_order_can_be_cancelled_until_its_end_is_decided() {
    for order in samples::one_of_each() {
        let html = html_of(&order);
        let form = format!(r#"method="post" action="/api/checkout_session/{}/cancel""#, order.id);
        let expected = !order.status.is_terminal() && order.status != CheckoutStatus::Settling;
        assert_eq!(html.contains(&form), expected, "{:?}", order.status);
    }
}

#[test]
fn without_scripts_the_page_reloads_until_it_cannot_change_any_more() {
    for order in samples::one_of_each() {
        let reloads = html_of(&order).contains(r#"http-equiv="refresh""#);
        assert_eq!(reloads, !order.status.is_terminal(), "{:?}", order.status);
    }
    assert!(html_of(&samples::late_money(RefundStatus::Pending)).contains(r#"http-equiv="refresh""#));
}

#[test]
fn an_undone_order_says_that_nothing_was_charged_unless_money_came() {
    for order in samples::one_of_each() {
        let expected = order.status.is_terminal() && order.status != CheckoutStatus::Paid;
        assert_eq!(html_of(&order).contains("You have not been charged"), expected, "{:?}", order.status);
    }
    for refund in [RefundStatus::Pending, RefundStatus::Refunded, RefundStatus::NeedsAttention] {
        assert!(!html_of(&samples::late_money(refund)).contains("not been charged"), "{refund:?}");
    }
}

#[test]
fn late_money_is_told_with_its_amount() {
    for (refund, words) in [
        (RefundStatus::Pending, "€37.00 is on its way back to you."),
        (RefundStatus::Refunded, "€37.00 went back to you."),
        (RefundStatus::NeedsAttention, "€37.00 could not be given back automatically."),
    ] {
        assert!(html_of(&samples::late_money(refund)).contains(words), "{words}");
    }
}

#[test]
fn a_refunded_purchase_does_not_thank() {
    for (refund, words) in [
        (RefundStatus::Pending, "We are refunding your order"),
        (RefundStatus::NeedsAttention, "We are refunding your order"),
        (RefundStatus::Refunded, "This order was refunded"),
    ] {
        let mut order = order_in(CheckoutStatus::Paid);
        order.refund = Some(refund);
        let html = html_of(&order);
        assert!(html.contains(words) && !html.contains("Thank you"), "{html}");
    }
}

#[test]
fn what_lacked_is_named() {
    let html = html_of(&order_in(CheckoutStatus::OutOfStock));
    assert!(html.contains("<strong>Stoneware mug</strong>: you wanted 2, there is only 1."), "{html}");
}

#[test]
fn a_provider_that_does_not_answer_is_told_with_the_next_try() {
    let html = html_of(&samples::provider_is_down());
    assert!(html.contains("The payment provider is not answering") && html.contains("17:00:30 UTC"), "{html}");
    let mut events = samples::undone(CheckoutEvent::CancelRequested { by: CancelledBy::Customer })[..4].to_vec();
    events.push(CheckoutEvent::PaymentStepFailed {
        step: PaymentStep::CloseSession,
        attempt: 1,
        reason: samples::HOSTILE.into(),
        retry_at: samples::at(30),
    });
    let closing = html_of(&samples::order(CheckoutStatus::Settling, None, events));
    assert!(closing.contains("We are closing your order") && closing.contains("We ask again until it does."));
    assert!(!closing.contains("not been charged"), "nobody knows yet: {closing}");
}

#[test]
fn the_story_is_told_oldest_first() {
    let html = html_of(&order_in(CheckoutStatus::Paid));
    let places = ["You ordered for €37.00", "set aside for you.", "payment page was opened", "order was confirmed"]
        .map(|words| html.find(words).unwrap_or_else(|| panic!("{words} is missing")));
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn a_hostile_name_stays_text() {
    let mut order = order_in(CheckoutStatus::OutOfStock);
    order.lines[0].name = samples::HOSTILE.into();
    let html = html_of(&order);
    assert!(!html.contains(samples::HOSTILE) && html.contains("&lt;script&gt;"), "{html}");
}

#[test]
fn only_a_web_address_becomes_the_pay_button() {
    let mut order = order_in(CheckoutStatus::AwaitingPayment);
    order.session.as_mut().expect("a session").payment_url = "javascript:alert(1)".into();
    assert!(!html_of(&order).contains("javascript:"));
}

#[test]
fn an_order_that_was_only_just_accepted_has_a_page() {
    let html = html_of(&CheckoutView::accepted(samples::id(), None));
    assert!(html.contains("Setting your items aside") && !html.contains("What you ordered"), "{html}");
}

#[test]
fn the_fragment_is_a_part_of_the_page() {
    for order in samples::one_of_each() {
        let fragment = fragment(&order, samples::at(60)).into_string();
        assert!(html_of(&order).contains(&fragment), "{:?}", order.status);
    }
}

#[test]
fn the_receipt_adds_up() {
    let order = order_in(CheckoutStatus::Paid);
    let html = html_of(&order);
    assert_eq!(order.total, Some(Money::eur(3700)));
    assert!(html.contains("2 × €18.50") && html.contains("Total</th><td>€37.00"), "{html}");
}

#[test]
fn nothing_is_inline_that_the_content_security_policy_forbids() {
    for order in samples::one_of_each() {
        let html = html_of(&order);
        assert!(!html.contains(" style=") && !html.contains("<style") && !html.contains(" onclick"), "{html}");
        assert_eq!(html.matches("<script").count(), html.matches(r#"<script src="/static/"#).count());
    }
}
