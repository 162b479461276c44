//! What must survive, one story each: given what has happened, when this is asked, then that is answered.

use common::{
    contracts::inventory::{
        Balance, InventoryCommand, Lacking, LedgerEntry, LedgerEntryType, Movement, RestockAnswer, StockAnswer,
        StockLevel, StockLine,
    },
    ids::{Sku, WorkflowId, WorkflowKind, WorkflowRef},
    record::ChainEnd,
    time::{Timestamp, after},
};
use rstest::rstest;
use std::time::Duration;
use uuid::Uuid;

use super::{Answer, Decision, FINISHED_MEMORY, ImpossibleMovement, Ledger, MAX_LINES, Refusal, Request};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// More than any group of these stories needs.
const ROOM: usize = 1 << 20;

fn sku(name: &str) -> Sku {
    name.parse().expect("a sku")
}

fn line(name: &str, quantity: u32) -> StockLine {
    StockLine { sku: sku(name), quantity }
}

fn workflow(number: u128) -> WorkflowRef {
    WorkflowRef { kind: WorkflowKind::Checkout, id: WorkflowId::from(Uuid::from_u128(number)) }
}

fn reserve(number: u128, lines: &[(&str, u32)]) -> InventoryCommand {
    let lines = lines.iter().map(|(name, quantity)| line(name, *quantity)).collect();
    InventoryCommand::Reserve { workflow: workflow(number), lines }
}

fn commit(number: u128) -> InventoryCommand {
    InventoryCommand::Commit { workflow: workflow(number) }
}

fn release(number: u128) -> InventoryCommand {
    InventoryCommand::Release { workflow: workflow(number) }
}

fn restock(id: u128, name: &str, quantity: u32) -> InventoryCommand {
    InventoryCommand::Restock { restock_id: Uuid::from_u128(id), sku: sku(name), quantity, by: None }
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// A ledger in which commands happen, and the last decision.
struct Story {
    ledger: Ledger,
    now: Timestamp,
    last: Option<Decision>,
}

fn given(commands: impl IntoIterator<Item = InventoryCommand>) -> Story {
    let story = Story { ledger: Ledger::default(), now: start(), last: None };
    commands.into_iter().fold(story, Story::when)
}

impl Story {
    /// One command comes and is booked, in an entry of its own.
    fn when(mut self, command: InventoryCommand) -> Self {
        self.now = after(self.now, Duration::from_secs(1));
        let at = self.now;
        self.when_taken_in_at(command, at)
    }

    fn when_taken_in_at(mut self, command: InventoryCommand, at: Timestamp) -> Self {
        let group = self.ledger.decide_group(&[Request { command: command.clone(), at }], ROOM).expect("sound rules");
        assert_eq!(group.decisions, [self.ledger.decide(&command, at)], "a group of one is decided like one command");
        self.ledger.apply_entry(&group.entry(&ChainEnd::default())).expect("what was decided can be booked");
        self.last = group.decisions.into_iter().next();
        self
    }

    fn after(mut self, span: Duration) -> Self {
        self.now = after(self.now, span);
        self
    }

    /// The service is restarted from a snapshot.
    fn after_a_restart(mut self) -> Self {
        self.ledger = Ledger::from_bytes(&self.ledger.to_bytes().expect("writable")).expect("readable");
        self
    }

    fn then(self, expected: StockAnswer) -> Self {
        match &self.decision().answer {
            Answer::Stock { answer, .. } => assert_eq!(*answer, expected),
            other => panic!("{expected:?} expected, but {other:?} was answered"),
        }
        self
    }

    fn then_refused(self, expected: Refusal) -> Self {
        let decision = self.decision();
        assert_eq!(decision.refusal, Some(expected));
        assert_eq!(decision.movement, None, "a refusal moves nothing");
        if let Answer::Stock { answer, .. } = &decision.answer {
            assert!(matches!(answer, StockAnswer::Refused { .. }), "{answer:?}");
        }
        self
    }

    fn then_moved(self, expected: Option<Movement>) -> Self {
        assert_eq!(self.decision().movement, expected);
        self
    }

    fn and_there_are(self, name: &str, available: u64, reserved: u64, sold: u64) -> Self {
        assert_eq!(self.ledger.level(&sku(name)).balance, Balance { available, reserved, sold }, "{name}");
        self
    }

    fn decision(&self) -> &Decision {
        self.last.as_ref().expect("a command came")
    }
}

#[test]
fn nothing_is_reserved_of_an_article_that_is_out_of_stock_or_unknown() {
    let lacking = vec![Lacking { sku: sku("MUG"), requested: 1, available: 0 }];
    given([reserve(1, &[("MUG", 1)])])
        .then(StockAnswer::OutOfStock { lacking: lacking.clone() })
        .then_moved(Some(Movement::ReserveRefused { workflow: workflow(1), lines: vec![line("MUG", 1)], lacking }))
        .and_there_are("MUG", 0, 0, 0);
}

#[test]
fn two_want_the_last_one_and_exactly_one_gets_it() {
    let ledger = given([restock(1, "MUG", 1)]).ledger;
    let requests = [1, 2].map(|number| Request { command: reserve(number, &[("MUG", 1)]), at: start() });
    let group = ledger.decide_group(&requests, ROOM).expect("sound rules");
    let answers: Vec<&Answer> = group.decisions.iter().map(|decision| &decision.answer).collect();
    assert!(matches!(answers[0], Answer::Stock { answer: StockAnswer::Reserved {}, .. }));
    assert!(matches!(answers[1], Answer::Stock { answer: StockAnswer::OutOfStock { .. }, .. }));
    let balance = Balance { available: 0, reserved: 1, sold: 0 };
    assert_eq!(group.balances, [StockLevel { sku: sku("MUG"), balance }]);
}

#[test]
fn a_thousand_want_ten_and_exactly_ten_get_one() {
    let mut story = given([restock(1, "MUG", 10)]);
    for number in 1..=1_000 {
        story = story.when(reserve(number, &[("MUG", 1)]));
    }
    assert_eq!(story.ledger.holders().count(), 10);
    story.and_there_are("MUG", 0, 10, 0);
}

#[test]
fn a_redelivered_reserve_moves_nothing_and_is_answered_the_same() {
    given([restock(1, "MUG", 5), reserve(1, &[("MUG", 2)]), reserve(1, &[("MUG", 2)])])
        .then(StockAnswer::Reserved {})
        .then_moved(None)
        .and_there_are("MUG", 3, 2, 0);
}

#[test]
fn a_refused_reserve_stays_refused_with_the_same_words_although_goods_have_come_in() {
    let lacking = vec![Lacking { sku: sku("MUG"), requested: 3, available: 1 }];
    given([restock(1, "MUG", 1), reserve(1, &[("MUG", 3)]), restock(2, "MUG", 10), reserve(1, &[("MUG", 3)])])
        .then(StockAnswer::OutOfStock { lacking })
        .then_moved(None)
        .and_there_are("MUG", 11, 0, 0);
}

#[test]
fn the_same_lines_in_another_order_or_cut_in_two_are_the_same_lines() {
    given([
        restock(1, "MUG", 5),
        restock(2, "PEN", 5),
        reserve(1, &[("PEN", 1), ("MUG", 2)]),
        reserve(1, &[("MUG", 1), ("PEN", 1), ("MUG", 1)]),
    ])
    .then(StockAnswer::Reserved {})
    .then_moved(None)
    .and_there_are("MUG", 3, 2, 0)
    .and_there_are("PEN", 4, 1, 0);
}

#[test]
fn an_article_that_is_named_twice_is_wanted_twice() {
    given([restock(1, "MUG", 3), reserve(1, &[("MUG", 2), ("MUG", 2)])])
        .then(StockAnswer::OutOfStock { lacking: vec![Lacking { sku: sku("MUG"), requested: 4, available: 3 }] })
        .and_there_are("MUG", 3, 0, 0);
}

#[rstest]
#[case::while_it_is_held(None)]
#[case::after_it_is_sold(Some(commit(1)))]
fn other_lines_for_the_same_workflow_are_refused(#[case] between: Option<InventoryCommand>) {
    let commands = [restock(1, "MUG", 5), reserve(1, &[("MUG", 2)])].into_iter().chain(between);
    given(commands).when(reserve(1, &[("MUG", 3)])).then_refused(Refusal::OtherLines);
}

#[test]
fn what_was_reserved_is_sold_once_however_often_it_is_committed() {
    given([restock(1, "MUG", 5), reserve(1, &[("MUG", 2)]), commit(1)])
        .then(StockAnswer::Committed {})
        .and_there_are("MUG", 3, 0, 2)
        .when(commit(1))
        .then(StockAnswer::Committed {})
        .then_moved(None)
        .and_there_are("MUG", 3, 0, 2)
        .when(reserve(1, &[("MUG", 2)]))
        .then(StockAnswer::Reserved {})
        .then_moved(None);
}

#[test]
fn a_release_gives_back_once_however_often_it_comes() {
    given([restock(1, "MUG", 5), reserve(1, &[("MUG", 2)]), release(1)])
        .then(StockAnswer::Released {})
        .and_there_are("MUG", 5, 0, 0)
        .when(release(1))
        .then(StockAnswer::Released {})
        .then_moved(None)
        .and_there_are("MUG", 5, 0, 0);
}

#[rstest]
#[case::that_never_reserved(vec![])]
#[case::that_was_refused(vec![reserve(1, &[("MUG", 9)])])]
fn a_release_for_a_workflow_leaves_a_tombstone(#[case] before: Vec<InventoryCommand>) {
    given([restock(1, "MUG", 5)].into_iter().chain(before))
        .when(release(1))
        .then(StockAnswer::Released {})
        .then_moved(Some(Movement::Released { workflow: workflow(1), lines: vec![] }))
        .and_there_are("MUG", 5, 0, 0)
        .when(reserve(1, &[("MUG", 1)]))
        .then_refused(Refusal::ReserveAfterRelease)
        .and_there_are("MUG", 5, 0, 0);
}

#[test]
fn one_lacking_line_of_three_leaves_nothing_reserved() {
    given([restock(1, "MUG", 5), restock(2, "PEN", 1), restock(3, "CAP", 5)])
        .when(reserve(1, &[("MUG", 1), ("PEN", 2), ("CAP", 1)]))
        .then(StockAnswer::OutOfStock { lacking: vec![Lacking { sku: sku("PEN"), requested: 2, available: 1 }] })
        .and_there_are("MUG", 5, 0, 0)
        .and_there_are("PEN", 1, 0, 0)
        .and_there_are("CAP", 5, 0, 0);
}

#[test]
fn a_reserve_is_one_decrement_after_hours_and_a_restart() {
    given([restock(1, "MUG", 5), reserve(1, &[("MUG", 2)])])
        .after(DAY / 4)
        .after_a_restart()
        .when(reserve(1, &[("MUG", 2)]))
        .then(StockAnswer::Reserved {})
        .then_moved(None)
        .and_there_are("MUG", 3, 2, 0);
}

#[test]
fn goods_that_come_in_while_stock_is_held_are_added_to_what_is_left() {
    given([restock(1, "MUG", 100), reserve(1, &[("MUG", 99)]), restock(2, "MUG", 7), release(1)])
        .and_there_are("MUG", 107, 0, 0)
        .when(reserve(2, &[("MUG", 107)]))
        .when(commit(2))
        .and_there_are("MUG", 0, 0, 107);
}

#[rstest]
#[case::a_release_after_a_commit(vec![reserve(1, &[("MUG", 1)]), commit(1)], release(1), Refusal::ReleaseAfterCommit)]
#[case::a_commit_after_a_release(vec![reserve(1, &[("MUG", 1)]), release(1)], commit(1), Refusal::CommitAfterRelease)]
#[case::a_commit_after_a_tombstone(vec![release(1)], commit(1), Refusal::CommitAfterRelease)]
#[case::a_commit_without_a_reserve(vec![], commit(1), Refusal::CommitWithoutReserve)]
#[case::a_commit_after_a_refused_reserve(vec![reserve(1, &[("MUG", 9)])], commit(1), Refusal::CommitWithoutReserve)]
fn a_contradiction_is_refused_as_often_as_it_comes_and_raises_an_alert(
    #[case] before: Vec<InventoryCommand>,
    #[case] command: InventoryCommand,
    #[case] refusal: Refusal,
) {
    let story = given([restock(1, "MUG", 5)].into_iter().chain(before));
    let level = story.ledger.level(&sku("MUG"));
    let story = story.when(command.clone()).then_refused(refusal).when(command).then_refused(refusal);
    assert!(refusal.is_alert());
    assert_eq!(story.ledger.level(&sku("MUG")), level);
}

#[rstest]
#[case::no_lines(reserve(1, &[]))]
#[case::a_quantity_of_zero(reserve(1, &[("MUG", 0)]))]
#[case::more_of_one_article_than_a_line_can_hold(reserve(1, &[("MUG", u32::MAX), ("MUG", 1)]))]
#[case::more_lines_than_a_cart_has(reserve(1, &[("MUG", 1); MAX_LINES + 1]))]
fn lines_that_make_no_sense_are_refused(#[case] command: InventoryCommand) {
    given([restock(1, "MUG", 5)]).when(command).then_refused(Refusal::InvalidLines).and_there_are("MUG", 5, 0, 0);
}

#[test]
fn a_delivery_is_booked_once_and_answered_with_the_balance_of_now() {
    let answered = |story: &Story, available| {
        let balance = StockLevel { sku: sku("MUG"), balance: Balance { available, reserved: 0, sold: 0 } };
        let answer = RestockAnswer::Restocked { balance };
        assert_eq!(story.decision().answer, Answer::Restock { restock_id: Uuid::from_u128(1), answer });
    };
    let story = given([restock(1, "MUG", 5)]);
    answered(&story, 5);
    let story = story.when(restock(2, "MUG", 1)).when(restock(1, "MUG", 5)).then_moved(None);
    answered(&story, 6);
}

#[rstest]
#[case::another_quantity(restock(1, "MUG", 6), Refusal::OtherDelivery)]
#[case::another_article(restock(1, "PEN", 5), Refusal::OtherDelivery)]
#[case::nothing(restock(2, "MUG", 0), Refusal::NothingDelivered)]
fn a_delivery_that_makes_no_sense_is_refused(#[case] command: InventoryCommand, #[case] refusal: Refusal) {
    let story = given([restock(1, "MUG", 5)]).when(command).then_refused(refusal);
    let Answer::Restock { answer: RestockAnswer::RestockRefused { reason }, .. } = &story.decision().answer else {
        panic!("a refusal expected, not {:?}", story.decision().answer);
    };
    assert_eq!(*reason, refusal.to_string());
    story.and_there_are("MUG", 5, 0, 0).and_there_are("PEN", 0, 0, 0);
}

#[test]
fn a_sum_that_does_not_fit_is_refused() {
    let full = Balance { available: 1, reserved: 0, sold: u64::MAX - 1 };
    let mut ledger = Ledger::default();
    super::Books::set_balance(&mut ledger, &sku("MUG"), full);
    let decision = ledger.decide(&restock(1, "MUG", 1), start());
    assert_eq!((decision.refusal, decision.movement), (Some(Refusal::DoesNotFit), None));
}

#[test]
fn a_finished_reservation_is_forgotten_when_no_command_can_be_about_it_any_more() {
    let story = given([
        restock(1, "MUG", 9),
        reserve(1, &[("MUG", 1)]),
        commit(1),
        reserve(2, &[("MUG", 1)]),
        release(2),
        reserve(3, &[("MUG", 99)]),
        release(4),
        reserve(5, &[("MUG", 1)]),
    ]);
    let early = story.now;
    let story = story.after(FINISHED_MEMORY - DAY / 24).when(restock(2, "MUG", 1));
    assert_eq!(story.ledger.remembered(), 7, "an hour before the time is over everything is remembered");
    let story = story.after(DAY / 12).when(restock(3, "MUG", 1));
    assert_eq!(story.ledger.holders().collect::<Vec<_>>(), [workflow(5)], "what is held is never forgotten");
    assert_eq!(story.ledger.remembered(), 1 + 3, "and deliveries are remembered for longer");
    let story = story.when_taken_in_at(reserve(1, &[("MUG", 1)]), early).then_refused(Refusal::TooOld);
    story.when_taken_in_at(restock(9, "MUG", 1), early).then_refused(Refusal::TooOld).and_there_are("MUG", 9, 1, 1);
}

#[test]
fn what_is_known_is_answered_however_old_the_question_is() {
    let story = given([restock(1, "MUG", 9), reserve(1, &[("MUG", 1)])]);
    let early = story.now;
    let story = story.after(9 * DAY).when(commit(1)).then(StockAnswer::Committed {});
    story.when_taken_in_at(reserve(1, &[("MUG", 1)]), early).then(StockAnswer::Reserved {}).then_moved(None);
}

#[test]
fn a_workflow_that_is_released_long_after_it_was_refused_is_remembered_from_its_release() {
    let story = given([reserve(1, &[("MUG", 9)])]).after(5 * DAY).when(release(1)).after(5 * DAY);
    let story = story.when(restock(1, "MUG", 9)).when(reserve(1, &[("MUG", 9)]));
    story.then_refused(Refusal::ReserveAfterRelease);
}

#[test]
fn the_ledger_s_time_never_goes_back() {
    let story = given([restock(1, "MUG", 9)]);
    let earlier = start();
    let group = story.ledger.decide_group(&[Request { command: release(1), at: earlier }], ROOM).expect("sound rules");
    assert_eq!(group.at, story.ledger.latest());
}

#[test]
fn a_group_takes_only_what_fits_into_one_entry_and_at_least_one() {
    let requests: Vec<Request> =
        (1..=50).map(|number| Request { command: restock(number, "MUG", 1), at: start() }).collect();
    let group = Ledger::default().decide_group(&requests, 2_000).expect("sound rules");
    assert!((2..50).contains(&group.decisions.len()), "{} were taken", group.decisions.len());
    let stored = serde_json::to_vec(&group.entry(&ChainEnd::default())).expect("writable");
    assert!(stored.len() <= 2_000 + 300, "{} bytes", stored.len());
    let group = Ledger::default().decide_group(&requests, 1).expect("sound rules");
    assert_eq!(group.decisions.len(), 1);
}

#[test]
fn an_entry_whose_balances_do_not_follow_from_its_movements_is_not_believed() {
    let movement = Movement::Restocked { restock_id: Uuid::nil(), line: line("MUG", 5), by: None };
    let wrong = StockLevel { sku: sku("MUG"), balance: Balance { available: 6, reserved: 0, sold: 0 } };
    let entry = LedgerEntry {
        entry_type: LedgerEntryType::Movements,
        index: 0,
        previous: None,
        at: start(),
        movements: vec![movement],
        balances: vec![wrong],
    };
    let refused = Ledger::default().apply_entry(&entry);
    assert!(matches!(refused, Err(ImpossibleMovement::OtherBalance { .. })), "{refused:?}");
}

#[rstest]
#[case::more_than_there_is(Movement::Reserved { workflow: workflow(9), lines: vec![line("MUG", 6)] })]
#[case::sold_without_being_held(Movement::Committed { workflow: workflow(9), lines: vec![line("MUG", 1)] })]
#[case::given_back_without_being_held(Movement::Released { workflow: workflow(9), lines: vec![line("MUG", 1)] })]
#[case::other_lines_than_are_held(Movement::Committed { workflow: workflow(1), lines: vec![line("MUG", 1)] })]
#[case::held_twice(Movement::Reserved { workflow: workflow(1), lines: vec![line("MUG", 2)] })]
#[case::delivered_twice(Movement::Restocked { restock_id: Uuid::from_u128(1), line: line("MUG", 5), by: None })]
fn a_recorded_movement_that_cannot_have_happened_is_not_believed(#[case] movement: Movement) {
    let mut ledger = given([restock(1, "MUG", 5), reserve(1, &[("MUG", 2)])]).ledger;
    assert!(ledger.apply(&movement, start()).is_err());
}
