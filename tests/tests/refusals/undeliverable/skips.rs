//! Events that an operator lets pass: `walpost skip`, and the flag where there is no checkpoint.

use serde_json::Value;
use walpost_tests::unique;

use super::{Scene, named};
use crate::{EVENTS, stage::Refusal};

#[test]
fn an_event_that_an_operator_lets_pass_is_passed_over_and_everything_else_arrives() {
    let scene = Scene::new("skip", "");
    scene.write(1..=2);
    let bad = scene.write_null();
    scene.write(3..=4);
    let refusal = scene
        .stage
        .refused(65, &["payload is NULL", "walpost skip"]);
    let (position, id) = named(&refusal.message);
    assert_eq!(id, bad);
    let fix = refusal.fix.unwrap();
    assert!(
        fix.contains(&format!("walpost skip {position} {id} --reason")),
        "{fix}"
    );

    let skip = |args: &[&str]| scene.stage.finish(&[&["skip"], args].concat());
    let done = skip(&[&position, &id, "--reason", "delivered by hand"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("delivered by hand"), "{}", done.stdout);
    let again = skip(&[&position, &id, "--reason", "delivered by hand"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let shouted = skip(&[
        &position,
        &id.to_uppercase(),
        "--reason",
        "x",
        "--by",
        "Ada",
    ]);
    assert_eq!(shouted.code, 0, "{}", shouted.stderr);

    let finished = scene.stage.once();
    assert!(
        finished.stderr.contains("passed over"),
        "{}",
        finished.stderr
    );
    assert_eq!(scene.numbers(), [1, 2, 3, 4]);
    let list = skip(&["--list", "--json"]);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    let listed = &list["result"]["skips"];
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2, "{list}");
    let reasons = |is_adas: bool| {
        let by = |line: &&Value| line["by"] == "Ada as postgres";
        let mut lines = listed.iter().filter(|line| by(line) == is_adas);
        lines.next().map(|line| line["reason"].as_str().unwrap())
    };
    assert_eq!(reasons(true), Some("x"));
    assert_eq!(reasons(false), Some("delivered by hand"));

    scene.stage.once();
    let refusal = Refusal::of(&skip(&[&position, &id, "--reason", "again"]));
    refusal.assert(64, &["is delivered and confirmed", "nothing to pass over"]);
    let title = "`walpost skip` for what is confirmed already";
    let words = refusal.message.split("up to ").nth(1).unwrap();
    let confirmed = words.split(')').next().unwrap();
    let names = [
        (position.as_str(), "00000000016B3748/00000000"),
        (confirmed, "0/16B3900"),
    ];
    scene.stage.lists_with(EVENTS, title, &refusal, &names);
}

#[test]
fn a_skip_with_another_id_lets_nothing_pass() {
    let scene = Scene::new("other_id", "");
    let bad = scene.write_null();
    let refusal = scene.stage.refused(65, &["payload is NULL"]);
    let (position, id) = named(&refusal.message);
    assert_eq!(id, bad);
    let args = [
        "skip",
        &position,
        &unique("another"),
        "--reason",
        "a typing error",
    ];
    assert_eq!(scene.stage.finish(&args).code, 0);
    scene.stage.refused(65, &["payload is NULL", &bad]);
}

#[test]
fn without_a_checkpoint_an_event_is_passed_over_by_a_flag() {
    let scene = Scene::new("stateless", "");
    let none = "--set=postgres.checkpoint=none";
    scene.write(1..=1);
    let bad = scene.write_null();
    scene.write(2..=2);
    let refusal = Refusal::of(&scene.stage.finish(&["run", "--once", none]));
    refusal.assert(
        65,
        &["payload is NULL", &format!("walpost run --skip-id={bad}")],
    );
    let args = [
        "skip",
        &named(&refusal.message).0,
        &bad,
        "--reason",
        "x",
        none,
    ];
    let refusal = Refusal::of(&scene.stage.finish(&args));
    refusal.assert(78, &["postgres.checkpoint is none", "--skip-id"]);
    scene
        .stage
        .lists(EVENTS, "`walpost skip` without a checkpoint", &refusal);
    let args = ["run", "--once", "--skip-id", &bad];
    let refusal = Refusal::of(&scene.stage.finish(&args));
    refusal.assert(64, &["--skip-id is for postgres.checkpoint: none"]);
    scene
        .stage
        .lists(EVENTS, "`--skip-id` with a checkpoint", &refusal);
    let finished = scene.stage.finish(&[&args[..], &[none]].concat());
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(scene.numbers(), [1, 2]);
}

#[test]
fn where_the_table_of_skips_can_not_be_read_it_is_told() {
    let scene = Scene::new("no_table", "");
    scene.stage.database.execute("drop table walpost.skip");
    let findings = |scene: &Scene| {
        let check = scene.stage.finish(&["check", "--json"]);
        check.stdout.contains("WP-SKIP-TABLE")
    };
    assert!(findings(&scene));
    scene.write(1..=1);
    scene.stage.once();
    let args = ["skip", "FFFFFFFF00000000/00000000", "id", "--reason", "x"];
    let refusal = Refusal::of(&scene.stage.finish(&args));
    refusal.assert(78, &["walpost.skip", "walpost init --apply"]);
    scene.stage.init();
    assert!(!findings(&scene));
}
