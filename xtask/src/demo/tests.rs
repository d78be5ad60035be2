use xtask_report::recovery::sample_log;

use super::*;

fn request(compare: bool, fault: &str) -> Request {
    Request {
        driver: Driver::Disk { in_memory: false },
        every: Duration::from_millis(100),
        fault: fault.to_owned(),
        duration: Duration::from_secs(20),
        compare,
        json: false,
        plain: true,
        machine: MachineArgs {
            machine: None,
            cpus: 2,
            memory: "512M".to_owned(),
            options: Vec::new(),
            disks: Vec::new(),
            no_install: true,
        },
    }
}

#[test]
fn one_violation_fails_the_demonstration() {
    let run = |holds, is_partial| Run {
        heading: "x".to_owned(),
        log: sample_log(),
        verdicts: vec![Verdict::new("a", true, ""), Verdict::new("b", holds, "7")],
        is_partial,
    };
    assert!(conclude(&[run(true, false)]).is_ok());
    let error = conclude(&[run(true, false), run(false, false)]).expect_err("one is broken");
    assert_eq!(error.to_string(), "x: \"b\" does not hold (7)");
    assert!(conclude(&[run(true, true)]).expect_err("it was stopped").is::<Interrupted>());
    // A violation takes precedence over the interruption.
    assert!(!conclude(&[run(false, true)]).expect_err("it is broken").is::<Interrupted>());
}

#[test]
fn a_comparison_alternates_and_includes_one_crash_per_second() {
    assert_eq!(plans(&request(false, "all")).len(), 1);
    assert!(plans(&request(false, "all"))[0].turn.is_none());
    let [fast, slow] = &plans(&request(true, "all"))[..] else { panic!("there are two") };
    assert_eq!((fast.turn, slow.turn), (Some(Duration::from_secs(1)), Some(Duration::from_secs(4))));
    assert_eq!(slow.every, SLOW);
    assert!(slow.duration >= Duration::from_secs(64));
    let [none] = &plans(&request(true, "none"))[..] else { panic!("there is one") };
    assert!(none.every.is_zero());
}
